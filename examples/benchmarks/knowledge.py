"""Measure what a knowledge graph, or the pictures and sounds of items, add to LightGCN, on all items and on rare ones.

    python examples/benchmarks/knowledge.py --data DIR [--seeds 3] [--models A,B] [--epochs N] [--json]

DIR is a folder of atomic files with a `.kg` (ml-100k-kg), a folder with `ratings_final.npy` and `kg_final.txt.gz` (book-crossing as
RippleNet has it; one row in ten is held out to validate and two to test), or one with `train`, `valid` and `test.txt.gz` of
`user item` and `*_feat.npy` (TikTok as DiffMM has it). All items are ranked. Recall@20 and NDCG@20 as the README defines them; "rare" counts the
held-out items with at most 5 training interactions alone, still among all items, and "apart" ranks these items among
themselves, as where new items have a row of their own. Each model is fitted once with seed 0 for
each line of its grid below, the validation's NDCG@20 chooses the line, and that line is fitted with every seed. p is the paired
sign-flip test of the per-user means over seeds against the first model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from recipes import some_of

import graphrec
from graphrec.evaluation.ranking import rank_users
from graphrec.evaluation.significance import sign_flip_p
from graphrec.evaluation.split_data import read_split
from graphrec.evaluation.user_items import UserItems
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog, Media
from graphrec.models import create
from graphrec.ops import backend, select_topk

K, RARE, BLOCK = 20, 5, 1024
TRAIN = {"eval_every": 5, "patience": 4, "learning_rate": 2e-3, "batch_size": 2048, "device": "cpu", "checkpoint_every": 15}
# A softmax over the positive and 2,048 items drawn once for the batch, on inner products, from a spectral start: few epochs, strong decay.
SOFTMAX: dict[str, Any] = {
    "loss": {"name": "sampled-softmax", "negatives": "shared", "num_negatives": 2048, "temperature": 1.0},
    "inputs": {"name": "id", "init": "spectral"},
    "train": {"weight_decay": 0.3, "learning_rate": 5e-3, "epochs": 8, "eval_every": 1, "patience": 2},
}
ALIKE = {"auxiliary": [], "prune": 0.0, **SOFTMAX}
GRID: dict[str, list[dict[str, Any]]] = {
    "lightgcn": [{"num_layers": 2}, {"num_layers": 3}],
    "knowledge-lightgcn": [
        {"num_knowledge_layers": hops, "knowledge_weight": weight} for hops, weight in ((1, 1.0), (1, 3.0), (2, 0.5))
    ],
    "kgcn": [{}, {"loss": {"name": "bce", "num_negatives": 4}}],
    "kgat": [{"dropout": 0.1}],
    "vbpr": [{"train": {"weight_decay": 1e-3}}, {"train": {"weight_decay": 1e-2}}],
    "freedom": [{"prune": 0.8}, {"prune": 0.0}],
    "freedom-learned": [{"graph": "learned", "prune": 0.8}, {"graph": "learned", "prune": 0.0}],
    "lightgcn-softmax": [{"num_layers": 2, **SOFTMAX}],
    "freedom-softmax": [{**ALIKE, "item_weight": weight} for weight in (1.0, 2.0)],
    "freedom-learned-softmax": [{**ALIKE, "graph": "learned", "frozen_share": share, "item_weight": 2.0} for share in (0.7, 0.3)],
    "knowledge-lightgcn-softmax": [{"knowledge_weight": weight, **SOFTMAX} for weight in (1.0, 3.0)],
    "bm3": [{"dropout": 0.3}, {"dropout": 0.5}],
}
MODELS = {
    "knowledge": ["lightgcn", "knowledge-lightgcn", "kgat", "kgcn"],
    "media": ["lightgcn", "vbpr", "freedom", "bm3"],
}


def main() -> None:
    """Parse the command line, build the store, measure every model, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="a folder as described above")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, 0, 1, ... (default 3)")
    parser.add_argument("--models", default=None, help=f"some of {', '.join(GRID)}, separated by commas")
    parser.add_argument("--learning-rate", type=float, default=TRAIN["learning_rate"])
    parser.add_argument(
        "--epochs", type=int, default=100, help="at most; the validation may stop earlier (default 100)"
    )
    parser.add_argument(
        "--triples", default="kg", help="with atomic files: kg, the .kg, and columns of the item table, commas between (default kg)"
    )
    parser.add_argument("--batch-size", type=int, default=TRAIN["batch_size"])
    parser.add_argument(
        "--keep", type=Path, help="folder for store and runs: what is there already is taken, a part is gone on with"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    TRAIN.update(epochs=options.epochs, batch_size=options.batch_size, learning_rate=options.learning_rate)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    own = (
        tempfile.TemporaryDirectory(prefix="graphrec-knowledge-")
        if options.keep is None
        else contextlib.nullcontext(options.keep)
    )
    try:
        with own as scratch:
            rows = compare(options, Path(scratch))
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        print(json.dumps({"data": options.data.name, "seeds": options.seeds, "backend": backend(), "train": TRAIN, "models": rows}))


def compare(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Build the store and measure every model in `folder`; prints and returns the rows of the table."""
    kind, store = build(options.data, folder / "store", options.triples.split(","))
    names = some_of(options.models or ",".join(MODELS[kind]), GRID)
    print(f"{options.data.name}: {store.num_users:,} users, {store.num_items:,} items; mean (sd) of {options.seeds} seeds; backend {backend()}")
    rows: dict[str, dict[str, Any]] = {}
    first: dict[str, np.ndarray] = {}
    for name in names:
        values, rows[name] = measure(store, name, options.seeds, folder)
        first = first or values
        rows[name] |= {f"{key}_p": float(sign_flip_p((found - first[key])[:, None], 10_000, 0)[0])
                       for key, found in values.items()}  # fmt: skip
        print(line(name, rows[name]), flush=True)
    return rows


def build(data: Path, folder: Path, triples: Sequence[str] = ("kg",)) -> tuple[str, GraphStore]:
    """Read one of the three kinds of folder and build a store, or open the one that is there."""
    if folder.exists():
        return "media" if list(data.glob("*_feat.npy")) else "knowledge", GraphStore.open(folder)
    halves = {"method": "random", "valid": 0.1, "test": 0.2}
    if (data / "ratings_final.npy").exists():
        user, item, label = np.load(data / "ratings_final.npy", allow_pickle=False).T
        facts = pl.read_csv(
            data / "kg_final.txt.gz", separator="\t", has_header=False, new_columns=["head", "relation", "tail"]
        )
        facts = facts.with_columns(pl.col("relation").cast(pl.String))
        log = InteractionLog(events(user[label == 1], item[label == 1]).lazy(), triples=facts)
        return "knowledge", graphrec.build(log, folder, split=halves)
    if list(data.glob("*.inter*")):
        log = graphrec.read_log(data, format="atomic")
        log = log if "kg" in triples else replace(log, triples=None)
        made = {"attribute_triples": [name for name in triples if name != "kg"], "attribute_separators": " "}
        return "knowledge", graphrec.build(log, folder, split=halves, min_weight=4, **made)
    parts = []
    for side in ("train", "valid", "test"):
        pairs = np.loadtxt(data / f"{side}.txt.gz", dtype=np.int64)
        parts.append(events(*pairs.T).with_columns(split=pl.lit(side)))
    media = {}
    for path in sorted(data.glob("*_feat.npy")):
        vectors = np.load(path, allow_pickle=False).astype(np.float32)
        media[path.name.removesuffix("_feat.npy")] = Media(pl.Series(np.arange(len(vectors))), vectors)
    return "media", graphrec.build(InteractionLog(pl.concat(parts).lazy(), media=media), folder, split="given")


def events(user: np.ndarray, item: np.ndarray) -> pl.DataFrame:
    """Pairs as the events of a log."""
    frame = pl.DataFrame({"user_id": user.astype(np.int64), "item_id": item.astype(np.int64)}).unique(
        maintain_order=True
    )
    time_of = pl.lit(None, pl.Datetime("us", "UTC"))
    return frame.with_columns(behavior=pl.lit("interaction"), timestamp=time_of, weight=pl.lit(1.0, pl.Float32))


def measure(store: GraphStore, name: str, seeds: int, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Choose a line of the grid by validation, fit it with every seed, and measure these on the test split.

    Returns:
        By metric, the means over seeds of each user; and the row of the table.
    """
    fits = {number: fit(store, name, number, 0, folder) for number in range(len(GRID[name]))}
    best = max(fits, key=lambda number: fits[number][0].summary()["valid"][f"ndcg@{K}"])
    chosen = [fits[best], *(fit(store, name, best, seed, folder) for seed in range(1, seeds))]
    found = [test(store, run.model) for run, _ in chosen]
    row: dict[str, Any] = {"chosen": GRID[name][best], "valid": fits[best][0].summary()["valid"][f"ndcg@{K}"]}
    for key in found[0]:
        values = [float(one[key].mean()) for one in found]
        row[key], row[f"{key}_sd"] = statistics.fmean(values), statistics.stdev(values) if seeds > 1 else 0.0
    row |= {"epochs": [run.summary()["best_epoch"] for run, _ in chosen]}
    row["seconds"] = statistics.fmean(seconds for _, seconds in chosen)
    return {key: np.mean([one[key] for one in found], axis=0) for key in found[0]}, row


def fit(store: GraphStore, name: str, number: int, seed: int, folder: Path) -> tuple[Any, float]:
    """Train one model; returns the run and its seconds."""
    own = dict(GRID[name][number])
    train = {**TRAIN, **own.pop("train", {}), "seed": seed}
    started = time.perf_counter()
    place = folder / f"{name}-{number}-{seed}"
    there = (place / "config.json").exists()
    model = create(name.removesuffix("-softmax").removesuffix("-learned"), own)
    run = graphrec.train(store, model, place, train, resume=there, overwrite=not there)
    return run, time.perf_counter() - started


def test(store: GraphStore, model: Any) -> dict[str, np.ndarray]:
    """Per-user recall and NDCG over all held-out items; over the rare ones of the users who have some, recall among all and among rare items."""
    overall = graphrec.evaluate(model, store, k=[K], metrics=["recall", "ndcg"], bootstrap=0)
    data = read_split(store, "test", True)
    rare = model.catalogue.item_counts <= RARE
    held = np.repeat(np.arange(len(data.users)), data.truth.sizes)[rare[data.truth.indices]]
    rows, counts = np.unique(held, return_counts=True)
    users = data.users[rows]
    wanted = UserItems.from_pairs(
        np.repeat(np.arange(len(rows)), counts), data.truth.indices[rare[data.truth.indices]], len(rows), len(rare)
    )
    top = rank_users(model, users, K, data.seen)
    found = {"recall": overall.values(f"recall@{K}"), "ndcg": overall.values(f"ndcg@{K}")}
    return found | {"rare": recall(top, wanted), "apart": recall(best_of(model, users, rare, data.seen), wanted)}


def best_of(model: Any, users: np.ndarray, allowed: np.ndarray, seen: UserItems) -> np.ndarray:
    """The best K for each user of the items allowed (I,) that the user has not seen: int64 (B, K), -1 where there are fewer."""
    best = []
    for start in range(0, len(users), BLOCK):
        block = users[start : start + BLOCK]
        known = seen.rows(block)
        best.append(select_topk(model.score(block), K, known.indptr, known.indices, candidates=allowed)[1].numpy())
    return np.concatenate(best)


def recall(top: np.ndarray, wanted: UserItems) -> np.ndarray:
    """Share of each row's wanted items that are in its list (B, K)."""
    return np.array([np.isin(wanted.rows(np.array([row])).indices, top[row]).mean() for row in range(len(top))])


def line(name: str, row: dict[str, Any]) -> str:
    """One row of the table."""
    cells = [
        f"{key} {row[key]:.4f} ({row[f'{key}_sd']:.4f}, p {row[f'{key}_p']:.4f})" for key in ("recall", "ndcg", "rare", "apart")
    ]
    return f"{name:18} " + "  ".join(cells) + f"  {row['seconds']:6.1f} s  {row['chosen']}"


if __name__ == "__main__":
    main()
