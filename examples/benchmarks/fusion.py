"""Measure a trained model, the mean of several trained alike, closed-form filters, and their sum.

    python examples/benchmarks/fusion.py --data DIR [--model lightgcn-residual] [--members 4] [--filter graph-filter] [--weight 0.5]
        [--filter ease-fixed --weight 0.2] [--seeds 3] [--validate [block]] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists, plain or .gz; the protocol is that of `quality.py`. With --members M each of the
--seeds trains M models from seeds of their own, and each one's scores count 1 / M in units of their standard deviation; those of each
--filter count its --weight. A recipe's own residual is left out. With --validate a tenth of each user's training items takes the place of the test
items, drawn at random or, with --validate block, as items that lie together in the graph (the graph filter's `hold_out`), and several
weights are shown: that is how the default was chosen. p is of a paired test over users between the sum and one trained model, on
metrics averaged over seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import recipes
from quality import METRICS, VALID_SHARE, peak_mb, reset_peak

import graphrec
from graphrec.evaluation.significance import sign_flip_p
from graphrec.graph.convert import from_scipy
from graphrec.graph.store import GraphStore
from graphrec.logs.read import read_split_folder
from graphrec.logs.table import InteractionLog
from graphrec.models import create
from graphrec.models.base import Recommender
from graphrec.models.held_out import HoldOut, hide_blocks
from graphrec.models.score_sum import ScoreSum
from graphrec.ops import backend
from graphrec.progress import SILENT, ConsoleReporter, Reporter

WEIGHTS = (0.1, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5)
MORE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)  # of the second filter and further ones
RESAMPLES = 10_000
STORES = {None: "store", "random": "store-valid", "block": "store-block"}


def main() -> None:
    """Parse the command line, run every seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument(
        "--model", default="lightgcn-residual", help="a recipe of a trained model (default lightgcn-residual)"
    )
    parser.add_argument(
        "--members", type=int, default=1, help="models trained for each seed, which are averaged (default 1)"
    )
    parser.add_argument(
        "--filter", action="append", help="a recipe of a filter, such as graph-filter-block (default graph-filter); several are added"
    )
    parser.add_argument(
        "--weight", type=float, action="append", help="of each filter in its order, in standard deviations (default 0.5 each)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, 0, 1, ... (default 1)")
    parser.add_argument(
        "--validate",
        nargs="?",
        const="random",
        choices=get_args(HoldOut),
        help="measure on held-out training items, with several weights: random ones (default) or a block",
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for the store and the trained models: what is there already is taken"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    if min(options.seeds, options.members) < 1:
        parser.error(f"--seeds and --members must be at least 1, got {options.seeds} and {options.members}")
    options.filter = options.filter or ["graph-filter"]
    options.weight = options.weight or [0.5] * len(options.filter)
    if len(options.weight) != len(options.filter):
        parser.error(f"{len(options.filter)} filters need as many --weight, got {len(options.weight)}")
    tried = itertools.product(WEIGHTS, *[MORE_WEIGHTS] * (len(options.filter) - 1))
    weights = list(tried) if options.validate else [tuple(options.weight)]
    progress = SILENT if options.json else ConsoleReporter()
    try:
        results = [measure(options, seed, weights, progress) for seed in range(options.seeds)]
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    report = {
        "data": options.data.name,
        "model": options.model,
        "members": options.members,
        "filter": "+".join(options.filter),
        "seeds": options.seeds,
        "backend": backend(),
    }
    report |= summarise(results)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:34} {value:.4f}" if isinstance(value, float) else f"{name:34} {value}")


def measure(options: argparse.Namespace, seed: int, weights: list[tuple[float, ...]], progress: Reporter) -> dict:
    """Train the members and fit the filters; returns per-user metrics by row and metric, seconds, and the peak in MB.

    `weights` are what is tried, each with a number for each filter.
    """
    own = tempfile.TemporaryDirectory(prefix="graphrec-fusion-")
    with own if options.keep is None else contextlib.nullcontext(options.keep) as folder:
        reset_peak()
        store = open_store(options.data, Path(folder), options.validate, progress)
        started = time.perf_counter()
        seeds = range(seed * options.members, (seed + 1) * options.members)
        members = [trained(store, options.model, one, Path(folder), progress) for one in seeds]
        fitting = time.perf_counter()
        filters = {name: fitted(store, name, seed, progress) for name in options.filter}
        done = time.perf_counter()
        models = {"trained": members[0], **filters}
        shares = [1 / len(members)] * len(members)
        if len(members) > 1:
            models["members"] = ScoreSum.of(members, shares, seed)
        for given in weights:
            name = "sum " + " ".join(f"{weight:g}" for weight in given)
            models[name] = ScoreSum.of([*members, *filters.values()], [*shares, *given], seed)
        rows = {}
        for row, model in models.items():
            side = "valid" if options.validate else "test"
            result = graphrec.evaluate(model, store, side, k=20, metrics=("recall", "ndcg"), progress=progress)
            rows[row] = {name: result.per_user[name].to_numpy() for name in METRICS}
    for row, metrics in rows.items():
        progress.note(
            f"seed {seed}, {row}: " + ", ".join(f"{name} {value.mean():.4f}" for name, value in metrics.items())
        )
    return {"rows": rows, "trained": fitting - started, "filters": done - fitting, "peak": peak_mb()}


def fitted(store: GraphStore, name: str, seed: int, progress: Reporter) -> Recommender:
    """A recipe in closed form."""
    recipe = recipes.find(name)
    return create(recipe.model, recipe.model_settings).fit(store, seed=seed, progress=progress)


def open_store(data: Path, folder: Path, validate: HoldOut | None, progress: Reporter) -> GraphStore:
    """The store of the data in `folder`, built if it is not there."""
    place = folder / STORES[validate]
    if place.exists():
        return GraphStore.open(place)
    if validate == "block":
        log = with_blocks(open_store(data, folder, None, progress))
    else:
        log = read_split_folder(data, rejected=folder / "rejected.parquet")
    split = {"method": "given", "valid": VALID_SHARE if validate == "random" else 0.0}
    return graphrec.build(log, place, split=split, progress=progress)


def with_blocks(store: GraphStore) -> InteractionLog:
    """The store's training interactions by their numbers, with a part of each user's to validate on that lies together."""
    parts = hide_blocks(store.train_matrix(), VALID_SHARE, np.random.default_rng(0))
    sides = [from_scipy(part).events.with_columns(split=pl.lit(side)) for side, part in zip(("train", "valid"), parts, strict=True)]
    return InteractionLog(pl.concat(sides), source=f"{store.folder}, in blocks")


def trained(store: GraphStore, name: str, seed: int, folder: Path, progress: Reporter) -> Recommender:
    """The recipe trained from a seed, without its residual; read back where it is there already."""
    place = folder / f"{name}-{store.folder.name}-{seed}"
    if not (place / "model").exists():
        recipe = recipes.find(name)
        settings = {**recipe.train, "seed": seed, "patience": 0, "eval_every": recipe.train["epochs"]}
        own = {key: value for key, value in recipe.model_settings.items() if key != "residual"}
        graphrec.train(
            store, recipe.model, place, settings, model_settings=own, resume=place.exists(), progress=progress
        )
    return graphrec.load(place).model


def summarise(results: list[dict]) -> dict[str, float]:
    """Average over seeds, with deviations, and compare each sum with the trained model."""
    summary: dict[str, float] = {}
    for row in results[0]["rows"]:
        for name in METRICS:
            users = [result["rows"][row][name] for result in results]
            values = [float(one.mean()) for one in users]
            summary[f"{row} {name}"] = statistics.fmean(values)
            summary[f"{row} {name} sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
            if row.startswith("sum"):
                trained = np.mean([result["rows"]["trained"][name] for result in results], axis=0)
                difference = np.mean(users, axis=0) - trained
                summary[f"{row} {name} p"] = float(sign_flip_p(difference[:, None], RESAMPLES, 0)[0])
    for part in ("trained", "filters"):
        summary[f"{part} fit_seconds"] = statistics.fmean(result[part] for result in results)
    return summary | {"peak_rss_mb": max(result["peak"] for result in results)}


if __name__ == "__main__":
    main()
