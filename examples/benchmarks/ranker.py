"""Measure what a second stage adds: NDCG@10 of the retrieval's 200 candidates before and after the ranker.

    python examples/benchmarks/ranker.py --data DIR [--model graph-filter] [--seeds 3] [--split leave_last_out] [--validate]
        [--labels valid [--vectors]] [--json]

DIR is a folder of atomic files with attributes and times (`ml-100k.inter`, `.user`, `.item`, plain or .gz). The last event of each
user is the test, the one before it validation. The retrieval learns from train; the ranker learns from the latest 5 % of each
user's train, with the retrieval learned again on the rest, and both rank the full catalogue for every test user with train and
validation items left out. With --validate the validation items take the place of the test items, which are not looked at: that
is how `RANK` was chosen, with one seed: 5 % held out against
20 %, and the default rate and dropout against a smaller rate with a larger dropout.

The p-values are of paired tests over users, each user's NDCG@10 averaged over the seeds: a sign-flip test with 100,000
resamples and Student's t.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import recipes

import graphrec
from graphrec.evaluation.significance import paired_t_p, sign_flip_p
from graphrec.ops import backend
from graphrec.progress import SILENT, ConsoleReporter, Reporter

METRIC = "ndcg@10"
RANK = {"candidates": 200, "labels": "hold-out", "hold_out": 0.05}
RESAMPLES = 100_000


def main() -> None:
    """Parse the command line, run every seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of atomic files")
    parser.add_argument("--model", default="graph-filter", help=f"the retrieval: one of {', '.join(recipes.names())}")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, 0, 1, ... (default 3)")
    parser.add_argument("--split", default="leave_last_out", help="leave_last_out (default), time or random")
    parser.add_argument(
        "--validate", action="store_true", help="measure on the validation split, not on the test split"
    )
    parser.add_argument("--labels", choices=["hold-out", "valid"], default=RANK["labels"], help="what the ranker learns from (default %(default)s)")
    parser.add_argument("--vectors", action="store_true", help="let the ranker read the retrieval's vectors, too; needs --labels valid")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    if options.validate and options.labels == "valid":
        parser.error("--validate measures on the interactions that --labels valid learns from")
    rank = {**RANK, "labels": options.labels, "vectors": options.vectors}
    progress = SILENT if options.json else ConsoleReporter()
    try:
        with tempfile.TemporaryDirectory(prefix="graphrec-ranker-") as scratch:
            log = graphrec.read_log(options.data, rejected=Path(scratch) / "rejected.parquet")
            store = graphrec.build(log, Path(scratch) / "store", split=options.split, progress=progress)
            side = "valid" if options.validate else "test"
            runs = [
                measure(store, recipes.find(options.model), {**rank, "seed": seed}, side, Path(scratch) / str(seed), progress)
                for seed in range(options.seeds)
            ]
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    report = {"data": options.data.name, "backend": backend(), "retrieval": options.model, "split": options.split, "side": side,
              "labels": options.labels, "vectors": options.vectors, "seeds": options.seeds, **summarise(runs)}  # fmt: skip
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:24} {value:.5f}" if isinstance(value, float) else f"{name:24} {value}")


def measure(
    store: graphrec.GraphStore, recipe: recipes.Recipe, rank: dict[str, Any], side: str, folder: Path, progress: Reporter
) -> dict[str, Any]:
    """Train both stages with the seed of `rank`; returns each user's metric before and after, and seconds."""
    started = time.perf_counter()
    retrieval = graphrec.train(store, recipe.model, folder / "retrieval", {**recipe.train, "seed": rank["seed"]},
                               model_settings=recipe.model_settings, progress=progress)  # fmt: skip
    retrieved = time.perf_counter()
    ranked = graphrec.train_ranker(retrieval, folder / "ranked", rank, progress=progress)
    done = time.perf_counter()
    values = {"retrieval_seconds": retrieved - started, "ranker_seconds": done - retrieved}
    for name, run in (("before", retrieval), ("after", ranked)):
        found = graphrec.evaluate(
            run, store, side, k=(10, 200), metrics=("ndcg", "recall"), bootstrap=0, progress=progress
        )
        values[name] = found.per_user[METRIC].to_numpy()
        values[f"{name}_recall"] = found.metrics["recall@200"]
    return values


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and paired tests over users."""
    before, after = (np.stack([run[name] for run in runs]) for name in ("before", "after"))  # (seeds, users)
    summary: dict[str, Any] = {"users": before.shape[1]}
    for name, table in (("before", before), ("after", after), ("lift", after - before)):
        means = table.mean(1).tolist()
        summary |= {f"{METRIC}_{name}": statistics.fmean(means),
                    f"{METRIC}_{name}_sd": statistics.stdev(means) if len(means) > 1 else 0.0}  # fmt: skip
    difference = (after - before).mean(0)[:, None]
    summary |= {"sign_flip_p": float(sign_flip_p(difference, RESAMPLES, 0)[0]), "t_p": float(paired_t_p(difference)[0])}
    summary["recall@200"] = statistics.fmean(run["after_recall"] for run in runs)
    for name in ("retrieval_seconds", "ranker_seconds"):
        summary[name] = statistics.fmean(run[name] for run in runs)
    return summary


if __name__ == "__main__":
    main()
