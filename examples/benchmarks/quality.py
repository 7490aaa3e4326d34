"""Measure how well a model ranks a data set with a given split, what it costs, and how much memory each stage takes.

    python examples/benchmarks/quality.py --data DIR --model NAME [--seeds 3] [--validate] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. NAME is a recipe of `recipes.py` or a
registered model with its defaults. The protocol is the usual one: all items are ranked for every user with a test item,
training items are left out, Recall@20 and NDCG@20 are averaged over users. With --validate a tenth of each user's training
items takes the place of the test items, which are not looked at: that is how the recipes were chosen.

`fit_seconds` is training, `total_seconds` everything from the text files to the metrics, both averaged over seeds; times and
memory are of one process. The stages' peaks of resident memory need Linux.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import recipes

import graphrec
from graphrec.benchmarking.process import peak_mb, reset_peak
from graphrec.logs.read import read_split_folder
from graphrec.ops import backend
from graphrec.progress import SILENT, ConsoleReporter, Reporter

METRICS = ("recall@20", "ndcg@20")
VALID_SHARE = 0.1


def main() -> None:
    """Parse the command line, run every seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--model", required=True, help=f"one of {', '.join(recipes.names())}")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, 0, 1, ... (default 1)")
    parser.add_argument("--validate", action="store_true", help="measure on held-out training items, not on the test items")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    progress = SILENT if options.json else ConsoleReporter()
    try:
        recipe = recipes.find(options.model)
        results = [measure(options.data, recipe, seed, options.validate, progress) for seed in range(options.seeds)]
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    report = {"data": options.data.name, "model": options.model, "seeds": options.seeds, **summarise(results)}
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:24} {value:.4f}" if isinstance(value, float) else f"{name:24} {value}")


def measure(data: Path, recipe: recipes.Recipe, seed: int, validate: bool, progress: Reporter) -> dict[str, float]:
    """Go from the text files to the metrics once; returns metrics, seconds and megabytes."""
    started = time.perf_counter()
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="graphrec-quality-") as scratch:
        folder = Path(scratch)
        reset_peak()
        log = read_split_folder(data, rejected=folder / "rejected.parquet")
        split = {"method": "given", "valid": VALID_SHARE if validate else 0.0}
        store = graphrec.build(log, folder / "store", split=split, progress=progress)
        peaks["build"] = peak_mb()
        built = time.perf_counter()
        reset_peak()
        settings = {**recipe.train, "seed": seed, "patience": 0}
        run = graphrec.train(
            store, recipe.model, folder / "run", settings, model_settings=recipe.model_settings, progress=progress
        )
        peaks["train"] = peak_mb()
        trained = time.perf_counter()
        reset_peak()
        side = "valid" if validate else "test"
        metrics = graphrec.evaluate(run, store, side, k=20, metrics=("recall", "ndcg"), progress=progress).metrics
        peaks["evaluate"] = peak_mb()
    done = time.perf_counter()
    return {
        **{name: metrics[name] for name in METRICS},
        "build_seconds": built - started,
        "fit_seconds": trained - built,
        "evaluate_seconds": done - trained,
        "total_seconds": done - started,
        **{f"{stage}_peak_mb": peak for stage, peak in peaks.items()},
        "peak_rss_mb": max(peaks.values()),
    }


def summarise(results: list[dict[str, float]]) -> dict[str, Any]:
    """Average over seeds, with standard deviations of the metrics and the largest of the peaks."""
    summary: dict[str, Any] = {"backend": backend()}
    for name in results[0]:
        values = [result[name] for result in results]
        summary[name] = max(values) if name.endswith("_mb") else statistics.fmean(values)
        if name in METRICS:
            summary[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return summary


if __name__ == "__main__":
    main()
