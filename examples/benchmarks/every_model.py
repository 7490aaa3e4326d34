"""Take every registered model through the main job on the shipped log: train, evaluate, save, load, recommend, export.

    python examples/benchmarks/every_model.py [--models A,B] [--json]

All models train on one store with every edge type and feature of the log, those that learn by steps for at most 25 epochs of
batches of 1,024 with learning rate 0.01, ended early by the validation part. Nothing is tuned, so the quality says that a model
works, not which is the best. Seconds are of training alone, and meant to stay under 20.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from recipes import some_of

import graphrec
from graphrec.errors import GraphrecError, UnsupportedError
from graphrec.graph.store import GraphStore
from graphrec.models import MODELS
from graphrec.ops import backend

DEMO = Path(__file__).parent.parent.parent / "datasets" / "demo"
TRAIN = {"epochs": 25, "batch_size": 1024, "learning_rate": 1e-2}
TABLES, MEDIA = ("users", "items", "social", "triples"), ("image", "audio")


def main() -> None:
    """Parse the command line, run every model, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="names with commas between (default all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    try:
        names = some_of(options.models, MODELS)
    except GraphrecError as error:
        parser.exit(1, f"{error}\n")
    rows = {}
    with tempfile.TemporaryDirectory(prefix="graphrec-every-") as scratch:
        store = build(Path(scratch))
        if not options.json:
            print(f"backend {backend()}", flush=True)
        for name in names:
            rows[name] = run(name, store, Path(scratch) / name)
            if not options.json:
                found = rows[name]
                quality = f"Recall@20 {found['recall@20']:.4f}  NDCG@20 {found['ndcg@20']:.4f}"
                print(f"{name:22} {found['seconds']:6.1f} s  {quality}  {found['exports']}", flush=True)
    if options.json:
        print(json.dumps({"backend": backend(), "models": rows}))


def build(scratch: Path) -> GraphStore:
    """The shipped log with all its side tables."""
    tables = {name: str(DEMO / f"{name}.parquet") for name in TABLES}
    media = {name: str(DEMO / f"media.{name}.parquet") for name in MEDIA}
    log = graphrec.read_log(DEMO / "events.parquet", rejected=scratch / "rejected.parquet", media=media, **tables)
    return graphrec.build(log, scratch / "store")


def run(name: str, store: GraphStore, folder: Path) -> dict[str, Any]:
    """Train, evaluate, load again, recommend to three users, export."""
    started = time.perf_counter()
    trained = graphrec.train(store, name, folder / "run", TRAIN)
    seconds = time.perf_counter() - started
    metrics = graphrec.evaluate(trained, store, k=[20], metrics=["recall", "ndcg"], bootstrap=0).metrics
    loaded = graphrec.load(folder / "run")
    users = store.ids("user").ids_of(range(3))
    if not graphrec.recommend(loaded, list(users), k=5).equals(graphrec.recommend(trained, list(users), k=5)):
        raise SystemExit(f"{name}: the model recommends otherwise once loaded")
    try:
        exported = graphrec.export(loaded, folder / "export")
        sizes = f"{len(exported.files)} files of vectors"
    except UnsupportedError:
        sizes = "no vectors"
    return {"seconds": seconds, **{f"{key}@20": metrics[f"{key}@20"] for key in ("recall", "ndcg")}, "exports": sizes}


if __name__ == "__main__":
    main()
