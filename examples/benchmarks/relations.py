"""Measure models that read several relations against LightGCN on the interactions alone.

    python examples/benchmarks/relations.py --data DIR [--protocol NAME] [--models a,b] [--seeds 3] [--json]

DIR is one of these data sets, known by its files, plain or .gz: Last.fm of HetRec 2011 with friendships (`user_artists.dat`,
`user_friends.dat`), its form in the LightGCN code (`data1.txt`, `test1.txt`, `trustnetwork.txt`), Ciao with trust (`train.txt`,
`valid.txt`, `test.txt`, `trust.txt`), Taobao with views, carts and purchases (`view.train.txt`, ..., `buy.test.txt`), Amazon
groceries with complements and substitutes (`train.csv`, `item_meta.csv`). Protocols:

    given    the split of the files (Last.fm of the LightGCN code, Ciao, Taobao)
    random   8:1:1 at random per user (both Last.fm). Of HetRec's, as in RecBole-GNN, whose published figures are for it: items
             without a training event count among the held-out ones and cannot be found, and validation items are masked
    time     the last tenth of the time to test, the tenth before it to validate (groceries)
    clean    the split of the files, and held-out purchases leave the views and carts too (Taobao)
    apart    as clean, and purchases of training leave the views and carts as well, so that training does not teach what the test
             then lacks: that what is bought has been viewed (Taobao)
    friends  a fifth of the pairs of linked users is held out and found again, by the cosine of the users' vectors; the split
             of the interactions is that of the files (Last.fm, Ciao). There is no p.

Under `given`, views and carts of Taobao that are also held-out purchases stay in training: most of the answers are there.
All items are ranked for every user with a test item, training items are left out. The settings are those of
`relation_recipes.py`; of several, seed 0 chooses by validation. The number of epochs is chosen on validation items for each
model and seed, and where the files have no validation part a tenth of each user's training items serves, and the model is then
trained anew on all of train. `valid` is the best validation ndcg@20. p is the paired sign-flip test of the per-user means over
seeds against the first model.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from recipes import Recipe, some_of
from relation_data import VALID_SHARE, build_stores, read
from relation_recipes import RECIPES

import graphrec
from graphrec.evaluation.friends import evaluate_friends
from graphrec.evaluation.significance import sign_flip_p
from graphrec.graph.held_links import hold_out_links
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.ops import backend

METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
WATCHED = "ndcg@20"
COUNTED_COLD = {("hetrec", "random")}  # where held-out items without a training event count as misses


def main() -> None:
    """Parse the command line, run every model and seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--protocol", default="given", choices=("given", "random", "clean", "apart", "time", "friends"))
    parser.add_argument("--models", help="names, separated by commas; default all of the data set's recipes")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, 0, 1, ... (default 3)")
    parser.add_argument(
        "--keep", type=Path, help="folder for stores and runs: what is there already is taken, a part is gone on with"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    try:
        kind, log = read(options.data)
        recipes = RECIPES[kind]
        names = some_of(options.models or ",".join(recipes), recipes)
        own = (
            tempfile.TemporaryDirectory(prefix="graphrec-relations-")
            if options.keep is None
            else contextlib.nullcontext(options.keep)
        )
        with own as scratch:
            chosen = {name: recipes[name] for name in names}
            if options.protocol == "friends":
                rows = find_friends(log, chosen, options.seeds, Path(scratch))
            else:
                stores = build_stores(kind, log, options.protocol, Path(scratch))
                cold = (kind, options.protocol) in COUNTED_COLD
                rows = run_all(chosen, stores, options.seeds, Path(scratch), cold)
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    report = {"data": options.data.name, "protocol": options.protocol, "seeds": options.seeds, "backend": backend(), "models": rows}
    if options.json or options.protocol == "friends":
        print(json.dumps(report))
        return
    print(f"backend {backend()}")
    for name, row in rows.items():
        cells = [
            f"{metric} {row[metric]:.4f} ± {row[metric + '_sd']:.4f} (p {row[metric + '_p']:.4f})" for metric in METRICS
        ]
        print(f"{name:20} {'  '.join(cells)}  epochs {row['epochs']}  {row['seconds']:.0f} s  {row['relations']}")


def run_all(
    recipes: dict[str, list[Recipe]], stores: dict[str, GraphStore], seeds: int, scratch: Path, cold: bool = False
) -> dict[str, dict[str, Any]]:
    """Every model with every seed: means, standard deviations, and p-values against the first model."""
    rows: dict[str, dict[str, Any]] = {}
    first = None
    for name, grid in recipes.items():
        results, recipe = [], choose(name, grid, stores["valid"], scratch)
        for seed in range(seeds):
            results.append(measure(recipe, stores, seed, scratch, cold))
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
        row |= {"settings": {"model": recipe.model_settings, "train": recipe.train}}
        rows[name] = row | {"seconds": statistics.fmean(result["seconds"] for result in results)}
    return rows


def choose(name: str, grid: list[Recipe], store: GraphStore, scratch: Path) -> Recipe:
    """The recipe that validates best with seed 0."""
    if len(grid) == 1:
        return grid[0]
    found = []
    for recipe in grid:
        run, model = train(recipe, store, scratch, seed=0)
        if "residual" in recipe.model_settings:  # which the run has not seen
            best = graphrec.evaluate(model, store, "valid", k=20, metrics="ndcg", bootstrap=0).metrics[WATCHED]
        else:
            best = run.summary()["valid"][WATCHED]
        print(name, recipe.model_settings, f"validation {WATCHED} {best:.4f}", file=sys.stderr, flush=True)
        found.append(best)
    return grid[int(np.argmax(found))]


def train(recipe: Recipe, store: GraphStore, scratch: Path, seed: int, **settings: Any) -> tuple[Any, Any]:
    """One run of a recipe, in a folder of its own, gone on with where it is there already; and the model to evaluate.

    A residual is added to the finished run of the recipe without it, so both share their epochs and weights.
    """
    own = {name: value for name, value in recipe.model_settings.items() if name != "residual"}
    given = {**recipe.train, "metric": WATCHED, "seed": seed, **settings}
    key = json.dumps([store.folder.name, recipe.model, own, given], sort_keys=True)
    folder = scratch / f"run-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if (folder / "model").exists():
        run = graphrec.load(folder)
    else:
        there = (folder / "config.json").exists()
        often = {"checkpoint_every": 15}  # seconds; a run may be stopped at any time
        more = {"model_settings": own, "resume": there, "overwrite": not there}
        run = graphrec.train(store, recipe.model, folder, {**given, **often}, **more)
    model = run.model
    if "residual" in recipe.model_settings:
        residual = Residual(ResidualSettings(**recipe.model_settings["residual"]))
        residual.fit(store, seed=seed)
        model.add_residual(residual)
    return run, model


def measure(
    recipe: Recipe, stores: dict[str, GraphStore], seed: int, scratch: Path, cold: bool = False
) -> dict[str, Any]:
    """Train one model once: its per-user test metrics, the epochs chosen, the best validation and the seconds it all took."""
    started = time.perf_counter()
    store = stores["valid"]
    run, model = train(recipe, store, scratch, seed)
    chosen = run.summary()  # of a closed-form model, without epochs
    if "full" in stores:
        store = stores["full"]
        epochs = {"epochs": max(1, chosen["best_epoch"]), "patience": 0} if "best_epoch" in chosen else {}
        run, model = train(recipe, store, scratch, seed, **epochs)
    found = graphrec.evaluate(model, store, "test", k=(10, 20), metrics=("recall", "ndcg"), bootstrap=0, mask_valid=cold)
    return {
        **(with_cold_items(found, store) if cold else {metric: found.values(metric) for metric in METRICS}),
        "epochs": chosen.get("best_epoch", 0),
        "valid": chosen.get("valid", {}).get(WATCHED),
        "relations": chosen.get("relations", {}),
        "seconds": round(time.perf_counter() - started, 1),
    }


def with_cold_items(found: Any, store: GraphStore) -> dict[str, np.ndarray]:
    """The metrics of every user with a held-out item, those without a training event counted as items that were not found."""
    held = store.events("test").group_by("user_id").agg(pl.col("item_id").n_unique().alias("all"))
    table = held.join(found.per_user, on="user_id", how="left").sort("user_id").fill_null(0)
    known, whole = (table[name].to_numpy().astype(np.int64) for name in ("relevant", "all"))
    ideal = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, 22))))  # of the first n places
    values = {}
    for metric in METRICS:
        name, k = metric.split("@")
        kept = (
            known / whole if name == "recall" else ideal[np.minimum(known, int(k))] / ideal[np.minimum(whole, int(k))]
        )
        values[metric] = table[metric].to_numpy() * kept
    return values


def find_friends(log: InteractionLog, recipes: dict[str, list[Recipe]], seeds: int, scratch: Path) -> dict[str, Any]:
    """Every model with every seed, which also holds out other links: means and standard deviations by model."""
    rows: dict[str, Any] = {}
    for name, [recipe, *_] in recipes.items():
        results = []
        for seed in range(seeds):
            kept, held = hold_out_links(log.social, 0.2, seed)
            part = InteractionLog(log.events, social=kept)
            split = {"method": "given", "valid": VALID_SHARE}
            store = graphrec.build(part, scratch / "store", split=split, overwrite=True)
            given = {**recipe.train, "seed": seed}
            run = graphrec.train(
                store, recipe.model, scratch / "run", given, model_settings=recipe.model_settings, overwrite=True
            )
            results.append(evaluate_friends(run.model, store, held, k=20))
            print(name, f"seed {seed}", results[-1], file=sys.stderr, flush=True)
        rows[name] = {key: statistics.fmean(result[key] for result in results) for key in results[0]}
        rows[name] |= {f"{key}_sd": statistics.stdev(result[key] for result in results) if seeds > 1 else 0.0
                       for key in ("recall@20", "ndcg@20")}  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
