"""Measure a trained model, the graph filter, and their sum, with one training and one fit for each seed.

    python examples/benchmarks/fusion.py --data DIR [--model lightgcn-prior] [--weight 0.25] [--seeds 3] [--validate] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists, plain or .gz; the protocol is that of `quality.py`. The sum is the
residual of `graphrec.models.residual`: each model's scores divided by their standard deviation, the filter's times --weight.
The residual is not trained, so the trained model inside the sum is bit for bit the trained model alone. With --validate a
tenth of each user's training items takes the place of the test items, and several weights are shown: that is how the default
was chosen. p is of a paired test over users between the sum and the trained model, on metrics averaged over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import recipes
from quality import METRICS, VALID_SHARE, peak_mb, reset_peak

import graphrec
from graphrec.evaluation.significance import sign_flip_p
from graphrec.logs.read import read_split_folder
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.ops import backend
from graphrec.progress import SILENT, ConsoleReporter, Reporter

WEIGHTS = (0.25, 0.5, 1.0, 2.0)
RESAMPLES = 10_000


def main() -> None:
    """Parse the command line, run every seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--model", default="lightgcn-prior", help="a recipe of a trained model (default lightgcn-prior)")
    parser.add_argument("--weight", type=float, default=0.25, help="of the filter, in standard deviations (default 0.25)")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, 0, 1, ... (default 1)")
    parser.add_argument("--validate", action="store_true", help="measure on held-out training items, with several weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    weights = WEIGHTS if options.validate else (options.weight,)
    progress = SILENT if options.json else ConsoleReporter()
    try:
        results = [measure(options, seed, weights, progress) for seed in range(options.seeds)]
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    report = {"data": options.data.name, "model": options.model, "seeds": options.seeds, "backend": backend()}
    report |= summarise(results)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:34} {value:.4f}" if isinstance(value, float) else f"{name:34} {value}")


def measure(options: argparse.Namespace, seed: int, weights: tuple[float, ...], progress: Reporter) -> dict:
    """Train and fit once; returns per-user metrics by row and metric, seconds, and the peak in MB."""
    recipe = recipes.find(options.model)
    side = "valid" if options.validate else "test"
    with tempfile.TemporaryDirectory(prefix="graphrec-fusion-") as scratch:
        folder = Path(scratch)
        reset_peak()
        log = read_split_folder(options.data, rejected=folder / "rejected.parquet")
        split = {"method": "given", "valid": VALID_SHARE if options.validate else 0.0}
        store = graphrec.build(log, folder / "store", split=split, progress=progress)
        started = time.perf_counter()
        settings = {**recipe.train, "seed": seed, "patience": 0, "eval_every": recipe.train["epochs"]}
        run = graphrec.train(
            store, recipe.model, folder / "run", settings, model_settings=recipe.model_settings, progress=progress
        )
        trained = time.perf_counter()

        def users_of(model: graphrec.Recommender) -> dict[str, np.ndarray]:
            result = graphrec.evaluate(model, store, side, k=20, metrics=("recall", "ndcg"), progress=progress)
            return {name: result.per_user[name].to_numpy() for name in METRICS}

        rows = {"trained": users_of(run.model)}
        fitting = time.perf_counter()
        residual = Residual(ResidualSettings(weight=weights[0]))
        residual.fit(store, seed=seed, progress=progress)
        fitted = time.perf_counter()
        rows["graph-filter"] = users_of(residual.filter)
        for weight in weights:
            residual.settings = ResidualSettings(weight=weight)
            run.model.add_residual(residual)
            rows[f"sum {weight:g}"] = users_of(run.model)
    for row, metrics in rows.items():
        progress.note(f"seed {seed}, {row}: " + ", ".join(f"{name} {value.mean():.4f}" for name, value in metrics.items()))
    return {"rows": rows, "trained": trained - started, "graph-filter": fitted - fitting, "peak": peak_mb()}


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
    for part in ("trained", "graph-filter"):
        summary[f"{part} fit_seconds"] = statistics.fmean(result[part] for result in results)
    return summary | {"peak_rss_mb": max(result["peak"] for result in results)}


if __name__ == "__main__":
    main()
