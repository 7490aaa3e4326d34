"""Measure how well GC-MC predicts ratings, beside the mean rating and the biases of users and items.

    python examples/benchmarks/ratings.py --data DIR [--seeds 3] [--models A,B] [--epochs N] [--json]

DIR is a log with ratings that `graphrec.read_log` knows, such as ml-100k-kg or ml-latest-small. Each seed draws another split within each user
(a twentieth to validate, a fifth to test) and other weights. RMSE and MAE are over all test ratings whose user and item have a
training rating. A model with several lines below is fitted with each for the first seed, the validation's RMSE chooses the line, and
that line is fitted with every seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from recipes import add_grid_options, some_of
from sklearn.linear_model import Ridge

import graphrec
from graphrec.evaluation.ratings import mae, rmse
from graphrec.graph.store import GraphStore
from graphrec.ops import backend

METRICS = ("rmse", "mae")
# The settings of the public code for MovieLens 100K without features (`--accum stack -do 0.7 -nleft -nb 2 -e 1000`): all ratings are one step.
PAPER = {"hidden_dim": 500, "out_dim": 75, "normalization": "left", "num_bases": 2, "accumulate": "stack"}
GRID: dict[str, list[dict[str, Any]]] = {
    "mean": [{}],
    "biases": [{"penalty": penalty} for penalty in (1.0, 3.0, 10.0)],
    "gc-mc": [{**PAPER, "dropout": 0.7, "node_dropout": 0.7}],
}
TRAIN = {"batch_size": 10_000_000, "learning_rate": 0.01, "weight_decay": 0.0, "sampler": "uniform-edge", "patience": 0}


def main() -> None:
    """Parse the command line, run every seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a log with ratings")
    add_grid_options(parser, GRID)
    parser.add_argument("--epochs", type=int, default=1000, help="steps of gc-mc over all ratings (default 1000)")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    try:
        names = some_of(options.models, GRID)
        with tempfile.TemporaryDirectory(prefix="graphrec-ratings-") as scratch:
            stores = [split(options.data, Path(scratch), seed) for seed in range(options.seeds)]
            report = {name: measure(name, stores, options.epochs) for name in names}
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        print(
            json.dumps(
                {"data": Path(options.data).name, "seeds": options.seeds, "backend": backend(), "epochs": options.epochs, "models": report}
            )
        )
        return
    print(
        f"{stores[0].num_users:,} users, {stores[0].num_items:,} items; mean and standard deviation of {options.seeds} seeds; {backend()}"
    )
    for name, row in report.items():
        cells = "  ".join(f"{metric} {row[metric]:.4f} ({row[f'{metric}_sd']:.4f})" for metric in METRICS)
        print(f"{name:10} {cells}  {row['seconds']:7.1f} s  {row['chosen']}")


def split(data: str, folder: Path, seed: int) -> GraphStore:
    """Build the store of one seed from the ratings alone."""
    log = replace(graphrec.read_log(data, rejected=folder / f"rejected-{seed}.parquet"), triples=None)
    return graphrec.build(
        log, folder / f"store-{seed}", split={"method": "random", "valid": 0.05, "test": 0.2, "seed": seed}
    )


def measure(name: str, stores: list[GraphStore], epochs: int) -> dict[str, Any]:
    """Choose a line of the grid by validation, fit it with every seed, and return the row of the table."""
    lines = GRID[name]
    first = [fit(name, line, stores[0], 0, epochs) for line in lines]
    best = min(range(len(lines)), key=lambda number: first[number]["valid"])
    fits = [first[best], *(fit(name, lines[best], store, seed, epochs) for seed, store in enumerate(stores) if seed)]
    row: dict[str, Any] = {"chosen": lines[best]}
    for key in (*METRICS, "seconds"):
        values = [one[key] for one in fits]
        row |= {key: statistics.fmean(values), f"{key}_sd": statistics.stdev(values) if len(values) > 1 else 0.0}
    return row


def fit(name: str, line: dict[str, Any], store: GraphStore, seed: int, epochs: int) -> dict[str, float]:
    """Fit once: the validation's RMSE, the test's metrics, and the seconds of fitting."""
    started = time.perf_counter()
    if name != "gc-mc":
        predict = mean_of(store) if name == "mean" else biases_of(store, line["penalty"])
        seconds = time.perf_counter() - started
        sides = {side: store.interactions(side) for side in ("valid", "test")}
        found = {side: (predict(rows.user, rows.item), rows.weight.astype(np.float64)) for side, rows in sides.items()}
        return {
            "valid": rmse(*found["valid"]),
            "rmse": rmse(*found["test"]),
            "mae": mae(*found["test"]),
            "seconds": seconds,
        }
    with tempfile.TemporaryDirectory(prefix="graphrec-ratings-") as scratch:
        settings = {**TRAIN, "epochs": epochs, "eval_every": epochs, "seed": seed}
        run = graphrec.train(store, "gc-mc", Path(scratch) / "run", settings, model_settings=line)
        seconds = time.perf_counter() - started
        valid, test = (
            graphrec.evaluate(run, store, side, metrics=METRICS, bootstrap=0).metrics for side in ("valid", "test")
        )
    return {"valid": valid["rmse"], **{metric: test[metric] for metric in METRICS}, "seconds": seconds}


def mean_of(store: GraphStore) -> Any:
    """Predicts the mean of the training ratings."""
    mean = float(store.interactions("train").weight.mean())
    return lambda users, items: np.full(len(users), mean)


def biases_of(store: GraphStore, penalty: float) -> Any:
    """Predicts mean + b_u + b_i, both fitted together with a ridge penalty."""
    train = store.interactions("train")

    def one_hot(users: np.ndarray, items: np.ndarray) -> sp.csr_matrix:
        columns = np.stack([users, items.astype(np.int64) + store.num_users], axis=1).ravel()
        shape = len(users), store.num_users + store.num_items
        return sp.csr_matrix((np.ones(len(columns)), columns, np.arange(0, len(columns) + 1, 2)), shape=shape)

    model = Ridge(alpha=penalty).fit(one_hot(train.user, train.item), train.weight)
    return lambda users, items: model.predict(one_hot(users, items))


if __name__ == "__main__":
    main()
