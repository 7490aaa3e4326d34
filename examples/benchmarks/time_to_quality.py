"""Draw how fast models get good: seconds of fitting against Recall@20 on the test items, as CSV and PNG.

    python examples/benchmarks/time_to_quality.py --data DIR --models graph-filter,lightgcn-softmax --out FOLDER
        [--published 0.1901] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists, plain or .gz. Models that learn by steps give a point at the start and
after every half epoch, the others one point. The test items are only drawn, nothing is chosen by them; the time that the
measuring takes is not counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import recipes

import graphrec
from graphrec.graph.store import GraphStore
from graphrec.logs.read import read_split_folder
from graphrec.models import create
from graphrec.models.trained import TrainedRecommender
from graphrec.ops import backend
from graphrec.progress import SILENT
from graphrec.settings import parse
from graphrec.training.loop import Loop
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Point = tuple[float, float]  # seconds, Recall@20


def main() -> None:
    """Parse the command line, fit every model, write curves.csv and curves.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--models", default="graph-filter,lightgcn-softmax", help="recipes or models, with commas between")
    parser.add_argument("--out", type=Path, required=True, help="folder for curves.csv and curves.png")
    parser.add_argument("--published", type=float, help="a Recall@20 to draw as a line, such as the best published one")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graphrec-curves-") as scratch:
        log = read_split_folder(options.data, rejected=Path(scratch) / "rejected.parquet")
        store = graphrec.build(log, Path(scratch) / "store", split="given")
        print(f"backend {backend()}", flush=True)
        curves = {}
        for name in options.models.split(","):
            curves[name] = list(curve(store, recipes.find(name), Path(scratch) / "run"))
            print(f"{name}: Recall@20 {curves[name][-1][1]:.4f} after {curves[name][-1][0]:.0f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "curves.csv", curves)
    draw(options.out / "curves.png", curves, options.data.name, options.published)
    if options.json:
        print(json.dumps({"data": options.data.name, "backend": backend(), "curves": curves}))


def curve(store: GraphStore, recipe: recipes.Recipe, folder: Path) -> Iterator[Point]:
    """Fit one model and yield its points."""
    model = create(recipe.model, recipe.model_settings)
    clock = time.perf_counter()
    if not isinstance(model, TrainedRecommender):
        model.fit(store)
        yield time.perf_counter() - clock, recall(model, store)
        return
    settings = parse(TrainSettings, recipe.train, "train")
    model.prepare(store, seed=settings.seed)
    sampler = make_sampler(model, settings)
    loop = Loop(model, sampler, settings, folder, None, SILENT)
    half = max(1, sampler.steps_per_epoch // 2)
    seconds = 0.0
    for epoch in range(settings.epochs):
        for step, batch in enumerate(sampler.batches(epoch)):
            if step in (0, half):
                seconds += time.perf_counter() - clock
                model.finish()
                yield seconds, recall(model, store)
                clock = time.perf_counter()
            loop.step(batch)
    seconds += time.perf_counter() - clock
    model.finish()
    yield seconds, recall(model, store)


def recall(model: graphrec.Recommender, store: GraphStore) -> float:
    """Recall@20 on the test items."""
    return float(graphrec.evaluate(model, store, k=20, metrics=("recall",)).metrics["recall@20"])


def write_csv(path: Path, curves: dict[str, list[Point]]) -> None:
    """Write the columns model, seconds, recall@20."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["model", "seconds", "recall@20"])
        writer.writerows((name, f"{s:.2f}", f"{value:.5f}") for name, points in curves.items() for s, value in points)


def draw(path: Path, curves: dict[str, list[Point]], data: str, published: float | None) -> None:
    """Draw the curves; a model with one point is a star, what is published a dashed line."""
    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, points in curves.items():
        style = {"marker": "*", "markersize": 14, "linestyle": "none"} if len(points) == 1 else {"marker": "."}
        axes.plot(*zip(*points, strict=True), label=name, **style)
    if published is not None:
        axes.axhline(published, color="grey", linestyle="--", label=f"published, {published:g}")
    axes.set(xlabel="seconds of fitting", ylabel="Recall@20", title=f"{data}: time to quality", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
