"""Measure models that read several relations against LightGCN on the interactions alone.

    python examples/benchmarks/relations.py --data DIR [--protocol NAME] [--models a,b] [--seeds 3] [--json]

DIR is one of three data sets, known by its files: Last.fm with friendships (`data1.txt`, `test1.txt`, `trustnetwork.txt`),
Ciao with trust (`train.txt`, `valid.txt`, `test.txt`, `trust.txt`), Taobao with views, carts and purchases
(`view.train.txt`, ..., `buy.test.txt`); plain or .gz. Protocols:

    given    the split of the files (all three)
    random   8:1:1 at random per user (Last.fm)
    clean    the split of the files, and held-out purchases leave the views and carts too (Taobao)
    friends  a fifth of the pairs of linked users is held out and found again, by the cosine of the users' vectors; the split
             of the interactions is that of the files (Last.fm, Ciao). There is no p.

Under `given`, views and carts of Taobao that are also held-out purchases stay in training: most of the answers are there.
All items are ranked for every user with a test item, training items are left out. The settings are those of `RECIPES`; the
number of epochs is chosen on validation items for each model and seed, and where the files have no validation part a tenth
of each user's training items serves, and the model is then trained anew on all of train. `valid` is the best validation
ndcg@20. p is the paired sign-flip test of the per-user means over seeds against the first model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from recipes import Recipe

import graphrec
from graphrec.evaluation.friends import evaluate_friends
from graphrec.evaluation.significance import sign_flip_p
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog
from graphrec.models.friends import hold_out_links

# LightGCN's public settings but for the rate, which is five times larger so that 20 to 100 epochs suffice; none was tuned.
TRAIN = {"epochs": 150, "batch_size": 2048, "learning_rate": 5e-3, "weight_decay": 1e-3, "eval_every": 5, "patience": 3}
SOCIAL = {
    "lightgcn": Recipe("lightgcn", {"num_layers": 2}, TRAIN),
    "social-lightgcn": Recipe("social-lightgcn", {"num_layers": 2}, TRAIN),
    "mhcn": Recipe("mhcn", {"num_layers": 2}, TRAIN),
    "diffnet": Recipe("diffnet", {"num_layers": 2}, TRAIN),
    "graph-filter": Recipe("graph-filter"),
    "social-graph-filter": Recipe("social-graph-filter"),
    "lightgcn-residual": Recipe("lightgcn", {"num_layers": 2, "residual": {"weight": 1.0}}, TRAIN),
    "social-lightgcn-residual": Recipe("social-lightgcn", {"num_layers": 2, "residual": {"weight": 1.0}}, TRAIN),
}
BEHAVIORS = {
    "lightgcn": Recipe("lightgcn", {"num_layers": 2}, TRAIN),
    "joint-lightgcn": Recipe("composed", {"encoder": {"name": "joint-lightgcn", "num_layers": 2}}, TRAIN),
    "mb-cgcn": Recipe("mb-cgcn", {"num_layers": 1}, TRAIN),
    "mbgcn": Recipe("mbgcn", {"num_layers": 1}, TRAIN),
}
RECIPES = {"lastfm": SOCIAL, "ciao": SOCIAL, "taobao": BEHAVIORS}
METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
WATCHED = "ndcg@20"
VALID_SHARE = 0.1


def main() -> None:
    """Parse the command line, run every model and seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--protocol", default="given", choices=("given", "random", "clean", "friends"))
    parser.add_argument("--models", help="names, separated by commas; default all of the data set's recipes")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, 0, 1, ... (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    try:
        kind, log = read(options.data)
        recipes = RECIPES[kind]
        chosen = options.models.split(",") if options.models else list(recipes)
        with tempfile.TemporaryDirectory(prefix="graphrec-relations-") as scratch:
            chosen = {name: recipes[name] for name in chosen}
            if options.protocol == "friends":
                print(json.dumps(find_friends(log, chosen, options.seeds, Path(scratch))))
                return
            stores = build_stores(kind, log, options.protocol, Path(scratch))
            rows = run_all(chosen, stores, options.seeds, Path(scratch))
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    report = {"data": options.data.name, "protocol": options.protocol, "seeds": options.seeds, "models": rows}
    if options.json:
        print(json.dumps(report))
        return
    for name, row in rows.items():
        cells = [f"{metric} {row[metric]:.4f} ± {row[metric + '_sd']:.4f} (p {row[metric + '_p']:.4f})" for metric in METRICS]
        print(f"{name:20} {'  '.join(cells)}  epochs {row['epochs']}  {row['seconds']:.0f} s  {row['relations']}")


def read(folder: Path) -> tuple[str, InteractionLog]:
    """Read a data set with its own split and its side tables: its kind and the log."""
    if list(folder.glob("trustnetwork.txt*")):
        parts = [pairs(folder, stem).with_columns(split=pl.lit(side)) for stem, side in (("data1", "train"), ("test1", "test"))]
        return "lastfm", make_log(pl.concat(parts), pairs(folder, "trustnetwork"))
    if list(folder.glob("trust.txt*")):
        parts = [pairs(folder, side).with_columns(split=pl.lit(side)) for side in ("train", "valid", "test")]
        return "ciao", make_log(pl.concat(parts), pairs(folder, "trust"))
    parts = [adjacency(folder, f"{name}.train").with_columns(behavior=pl.lit(name), split=pl.lit("train"))
             for name in ("view", "cart", "buy")]  # fmt: skip
    parts.append(adjacency(folder, "buy.test").with_columns(behavior=pl.lit("buy"), split=pl.lit("test")))
    return "taobao", make_log(pl.concat(parts))


def pairs(folder: Path, stem: str) -> pl.DataFrame:
    """The first two columns of a tab-separated file without a header, as integers; a pair twice counts once."""
    path = next(folder.glob(f"{stem}.txt*"))
    frame = pl.read_csv(path, separator="\t", has_header=False, infer_schema=False)[:, :2]
    frame.columns = ["user_id", "item_id"]
    return frame.cast(pl.Int64).unique(maintain_order=True)


def adjacency(folder: Path, stem: str) -> pl.DataFrame:
    """The pairs of a file of lines `user item item ...`."""
    path = next(folder.glob(f"{stem}.txt*"))
    line = pl.read_csv(path, has_header=False, separator="\n")[:, 0].cast(pl.String)
    ids = line.str.strip_chars().str.split("\t").cast(pl.List(pl.Int64))
    frame = pl.DataFrame({"user_id": ids.list.first(), "item_id": ids.list.slice(1)})
    return frame.explode("item_id").drop_nulls().unique(maintain_order=True)


def make_log(events: pl.DataFrame, links: pl.DataFrame | None = None) -> InteractionLog:
    """A log of pairs with a split, and links between users."""
    if "behavior" not in events.columns:
        events = events.with_columns(behavior=pl.lit("interaction"))
    time_type = pl.Datetime("us", "UTC")
    events = events.with_columns(timestamp=pl.lit(None, time_type), weight=pl.lit(1.0, pl.Float32))
    events = events.select("user_id", "item_id", "behavior", "timestamp", "weight", "split")
    if links is not None:
        links = links.rename({"user_id": "src", "item_id": "dst"}).with_columns(weight=pl.lit(1.0, pl.Float32))
    return InteractionLog(events.lazy(), social=links)


def build_stores(kind: str, log: InteractionLog, protocol: str, scratch: Path) -> dict[str, GraphStore]:
    """The store to choose epochs on and, where its validation items are part of train, the one to train on anew."""
    if protocol == "random":
        whole = InteractionLog(log.events.drop("split"), social=log.social)
        return {"valid": graphrec.build(whole, scratch / "valid", split={"method": "random", "valid": 0.1, "test": 0.1})}
    split = {"method": "given", "hide_pairs": protocol == "clean"}
    target = {"target_behavior": "buy"} if kind == "taobao" else {}
    if kind == "ciao":
        return {"valid": graphrec.build(log, scratch / "valid", split=split)}
    held = {**split, "valid": VALID_SHARE}
    return {
        "valid": graphrec.build(log, scratch / "valid", split=held, **target),
        "full": graphrec.build(log, scratch / "full", split=split, **target),
    }


def run_all(recipes: dict[str, Recipe], stores: dict[str, GraphStore], seeds: int, scratch: Path) -> dict[str, dict[str, Any]]:
    """Every model with every seed: means, standard deviations, and p-values against the first model."""
    rows: dict[str, dict[str, Any]] = {}
    first = None
    for name, recipe in recipes.items():
        results = []
        for seed in range(seeds):
            results.append(measure(recipe, stores, seed, scratch))
            shown = {metric: round(float(results[-1][metric].mean()), 4) for metric in METRICS}
            print(name, f"seed {seed}", shown, {key: results[-1][key] for key in ("valid", "epochs", "seconds", "relations")},
                  file=sys.stderr, flush=True)  # fmt: skip
        values = {metric: [float(result[metric].mean()) for result in results] for metric in METRICS}
        row: dict[str, Any] = {metric: statistics.fmean(found) for metric, found in values.items()}
        row |= {f"{m}_sd": statistics.stdev(found) if seeds > 1 else 0.0 for m, found in values.items()}
        per_user = np.stack([np.mean([result[metric] for result in results], axis=0) for metric in METRICS], axis=1)
        first = per_user if first is None else first
        p_values = sign_flip_p(per_user - first, 10_000, 0)
        row |= {f"{metric}_p": float(p) for metric, p in zip(METRICS, p_values, strict=True)}
        row |= {key: [result[key] for result in results] for key in ("epochs", "valid", "relations")}
        rows[name] = row | {"seconds": statistics.fmean(result["seconds"] for result in results)}
    return rows


def measure(recipe: Recipe, stores: dict[str, GraphStore], seed: int, scratch: Path) -> dict[str, Any]:
    """Train one model once: its per-user test metrics, the epochs chosen, the best validation and the seconds it all took."""
    started = time.perf_counter()

    def train(store: GraphStore, **settings: Any) -> Any:
        given = {**recipe.train, "seed": seed, "metric": WATCHED, **settings}
        folder = scratch / "run"
        return graphrec.train(store, recipe.model, folder, given, model_settings=recipe.model_settings, overwrite=True)

    store = stores["valid"]
    run = train(store)
    chosen = run.summary()  # of a closed-form model, without epochs
    if "full" in stores:
        store = stores["full"]
        run = train(store, epochs=max(1, chosen.get("best_epoch", 0)), patience=0)
    found = graphrec.evaluate(run, store, "test", k=(10, 20), metrics=("recall", "ndcg"), bootstrap=0, mask_valid=False)
    return {
        **{metric: found.values(metric) for metric in METRICS},
        "epochs": chosen.get("best_epoch", 0),
        "valid": chosen.get("valid", {}).get(WATCHED),
        "relations": chosen.get("relations", {}),
        "seconds": round(time.perf_counter() - started, 1),
    }


def find_friends(log: InteractionLog, recipes: dict[str, Recipe], seeds: int, scratch: Path) -> dict[str, Any]:
    """Every model with every seed, which also holds out other links: means and standard deviations by model."""
    rows: dict[str, Any] = {}
    for name, recipe in recipes.items():
        results = []
        for seed in range(seeds):
            kept, held = hold_out_links(log.social, 0.2, seed)
            part = InteractionLog(log.events, social=kept)
            split = {"method": "given", "valid": VALID_SHARE}
            store = graphrec.build(part, scratch / "store", split=split, overwrite=True)
            given = {**recipe.train, "seed": seed}
            run = graphrec.train(store, recipe.model, scratch / "run", given, model_settings=recipe.model_settings, overwrite=True)
            results.append(evaluate_friends(run.model, store, held, k=20))
            print(name, f"seed {seed}", results[-1], file=sys.stderr, flush=True)
        rows[name] = {key: statistics.fmean(result[key] for result in results) for key in results[0]}
        rows[name] |= {f"{key}_sd": statistics.stdev(result[key] for result in results) if seeds > 1 else 0.0
                       for key in ("recall@20", "ndcg@20")}  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
