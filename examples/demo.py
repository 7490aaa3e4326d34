"""The main job on the shipped log: read, clean, split, build, train four models, evaluate, export, recommend.

Run it with `make demo`, or `python examples/demo.py [FOLDER]`; everything it writes goes to FOLDER (demo-output).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import polars as pl

import graphrec
from graphrec.cli.output import Output
from graphrec.graph.store import GraphStore
from graphrec.retrieval.export import Export
from graphrec.training.run import Run

DATA = Path(__file__).parent.parent / "datasets" / "demo"
MODELS = {
    "popularity": {},
    "item-knn": {},
    "graph-filter": {},
    # A small log makes few steps per epoch, so they are larger ones than the default's.
    "lightgcn": {"epochs": 60, "batch_size": 1024, "learning_rate": 0.005},
}
NUM_USERS, LIST_LENGTH, HISTORY_LENGTH = 3, 5, 5


def main(folder: Path) -> None:
    """Run the demo and print its tables."""
    started = time.perf_counter()
    io = Output(json=False, quiet=False)
    io.line("1. Read and clean the log, hold out each user's last purchases, build the graph")
    store = build(folder, io)
    io.line("2. Train and evaluate four models")
    runs, rows = {}, []
    for model, settings in MODELS.items():
        runs[model], row = train_and_evaluate(store, model, settings, folder, io)
        rows.append(row)
    io.line("3. Export the vectors of the best of them that has any, and recommend")
    best = max((row for row in rows if row[0] in ("graph-filter", "lightgcn")), key=lambda row: row[2])[0]
    exported = graphrec.export(runs[best], folder / "export", overwrite=True, progress=io.reporter)

    io.line()
    columns = ("model", "Recall@20", "NDCG@20", "coverage@20", "fit seconds")
    io.table("All test users, full catalogue, training items left out", columns, rows)
    show_recommendations(store, runs[best], io)
    show_files(folder, store, exported, best, io)
    io.line(f"Done in {time.perf_counter() - started:.0f} seconds.")


def build(folder: Path, io: Output) -> GraphStore:
    """Read the shipped log with its side tables and build the graph store."""
    tables = {name: DATA / f"{name}.parquet" for name in ("users", "items", "social", "triples")}
    log = graphrec.read_log(
        DATA / "events.parquet", rejected=folder / "rejected.parquet", progress=io.reporter,
        **{name: str(path) for name, path in tables.items()},
    )  # fmt: skip
    store = graphrec.build(log, folder / "store", overwrite=True, progress=io.reporter)
    edges = [(edge.source, edge.relation, edge.target, edge.edges) for edge in store.manifest.edges]
    forward = [row for row in edges if not row[1].startswith("rev_")]
    io.table(f"{store.num_users:,} users, {store.num_items:,} items", ("from", "relation", "to", "edges"), forward)
    return store


def train_and_evaluate(
    store: GraphStore, model: str, settings: dict[str, float], folder: Path, io: Output
) -> tuple[Run, tuple[str, float, float, float, float]]:
    """Train one model, measure it on the test split, and return the run and its row of the final table."""
    started = time.perf_counter()
    run = graphrec.train(store, model, folder / "runs" / model, settings, overwrite=True, progress=io.reporter)
    seconds = time.perf_counter() - started
    metrics = graphrec.evaluate(run, store, progress=io.reporter).metrics
    return run, (model, metrics["recall@20"], metrics["ndcg@20"], metrics["coverage@20"], seconds)


def show_recommendations(store: GraphStore, run: Run, io: Output) -> None:
    """Print what some users bought last, and what the model recommends to them."""
    train = store.events("train").filter(pl.col("behavior") == store.target_behavior).sort("timestamp")
    active = train.group_by("user").len().sort("len", "user", descending=[True, False])
    chosen = active["user"].gather([len(active) * share // 10 for share in (1, 3, 5)][:NUM_USERS])
    ids, items, titles = store.ids("user").ids_of(chosen.to_numpy()), store.ids("item"), store.titles()
    lists = graphrec.recommend(run, list(ids), k=LIST_LENGTH)
    for user, user_id in zip(chosen, ids, strict=True):
        history = train.filter(pl.col("user") == user)["item"].tail(HISTORY_LENGTH).to_numpy()
        bought = [f"{titles[item]} ({item_id})" for item, item_id in zip(history, items.ids_of(history), strict=True)]
        listed = lists.filter(pl.col("user_id") == user_id).select("rank", "item_id", "title", "score")
        io.line(f"User {user_id} last bought: {', '.join(bought)}")
        io.table(f"{run.model.name} recommends", listed.columns, listed.rows())


def show_files(folder: Path, store: GraphStore, exported: Export, best: str, io: Output) -> None:
    """Print where everything lies and what to try next."""
    files = [
        ("graph store", store.folder, f"graphrec graph info {store.folder}"),
        ("runs", folder / "runs", f"graphrec compare {folder / 'runs' / 'item-knn'} {folder / 'runs' / best}"),
        ("exported vectors", exported.folder, f"graphrec similar {folder / 'runs' / best} i00003"),
    ]
    io.table("Files", ("what", "where", "try"), files)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output"))
