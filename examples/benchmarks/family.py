"""Tune the trained models on one data set by its validation part, then table the whole family over seeds.

    python examples/benchmarks/family.py --data DIR --out OUT [--trials 10] [--minutes 5] [--seeds 3] [--models A,B]
        [--search-seed 0] [--json]

DIR has a given split: `train.txt` and `test.txt` adjacency lists, or one of the folders that `relations.py` reads. A tenth of
each user's training items becomes the validation part. Every trained model starts from its run file in `examples/runs/` with 64
dimensions; `graphrec tune` searches its learning rate, its weight decay and what its paper tunes (`SEARCHED`), and the closed-form
ones their own spaces. Trainings end early by validation NDCG@20. The best settings are written to OUT/runs/NAME.toml and go
through `graphrec benchmark`. Started again with the same OUT it goes on where it was; studies and cells that are finished stay.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import relation_data
from recipes import some_of

import graphrec
from graphrec.benchmarking.report import table
from graphrec.graph.store import GraphStore
from graphrec.logs.read import read_split_folder
from graphrec.progress import SILENT, ConsoleReporter, Reporter

RUNS = Path(__file__).parent.parent / "runs"
BUDGET = {"epochs": 200, "batch_size": 2048, "eval_every": 10, "patience": 4, "metric": "ndcg@20"}
BASIC = {
    "train.learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
    "train.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}
LAYERS = {"model.num_layers": {"low": 1, "high": 3}}
SOFTMAX = {"model.loss.temperature": {"low": 0.07, "high": 0.4, "log": True}}
WEIGHT = {"low": 0.01, "high": 1.0, "log": True}

# What is searched beside the basic entries; a name without a run file is a registered model.
SEARCHED: dict[str, dict[str, Any]] = {
    "bpr-mf": {},
    "lightgcn": LAYERS,
    "lightgcn-softmax": LAYERS | SOFTMAX,
    "lightgcn-adaptive": LAYERS | SOFTMAX | {"model.loss.adaptivity": [0.25, 0.5, 1.0]},
    "ngcf": {"model.dropout": [0.0, 0.1, 0.3]},
    "gat": {"model.dropout": [0.0, 0.3, 0.6], "model.attention_dropout": [0.0, 0.3, 0.6]},
    "vgae": LAYERS | {"model.auxiliary.kl.weight": {"low": 1e-3, "high": 0.1, "log": True}},
    "ultragcn": {
        "model.loss.num_negatives": [4, 16, 64],
        "model.loss.negative_weight": {"low": 3.0, "high": 300.0, "log": True},
        "model.auxiliary.item-graph.weight": {"low": 1e-5, "high": 1e-2, "log": True},
    },
    "sgl": LAYERS | {"model.auxiliary.sgl.weight": WEIGHT},
    "simgcl": LAYERS | {"model.auxiliary.simgcl.weight": WEIGHT, "model.noise": [0.03, 0.1, 0.3]},
    "xsimgcl": {"model.auxiliary.xsimgcl.weight": WEIGHT, "model.noise": [0.03, 0.1, 0.3]},
    "directau": {
        "train.learning_rate": {"low": 3e-4, "high": 3e-3, "log": True},
        "train.weight_decay": {"low": 1e-7, "high": 1e-4, "log": True},
        "model.num_layers": {"low": 0, "high": 2},
        "model.loss.uniformity_weight": [0.2, 0.5, 1.0, 2.0, 5.0],
    },
    "pinsage": {"model.loss.margin": [0.1, 0.3, 1.0]},
}
CLOSED = ("item-knn", "user-knn")  # quick enough for their own spaces
UNTUNED = ("popularity", "graph-filter")  # nothing to choose, or chosen at fit time


def main() -> None:
    """Parse the command line, tune, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a given split")
    parser.add_argument("--out", type=Path, required=True, help="keeps the store, the studies, the cells and the tables")
    parser.add_argument("--trials", type=int, default=10, help="settings to try for each model (default 10)")
    parser.add_argument("--minutes", type=float, default=5.0, help="time for each model's search (default 5)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the table, 0, 1, ... (default 3)")
    everything = [*UNTUNED, *CLOSED, *SEARCHED]
    parser.add_argument("--models", default=",".join(everything), help="names with commas between (default all)")
    parser.add_argument("--search-seed", type=int, default=0, help="of the searches: another one, with another OUT, tries other settings")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    progress = SILENT if options.json else ConsoleReporter()
    try:
        names = some_of(options.models, everything)
        store = open_store(options.data, options.out / "store" / options.data.name)
        rows = [tuned(name, store, options, progress) for name in names]
        result = graphrec.benchmark(store.folder, rows, options.out / "table", seeds=options.seeds, progress=progress)
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        print(json.dumps(result.to_dict(), default=str))
        return
    header, rows = table(result.rows)
    for row in (header, *rows):
        print("  ".join(str(value).ljust(20) for value in row))


def open_store(data: Path, folder: Path) -> GraphStore:
    """The store of the data, built once, with a tenth of the training items for validation."""
    if not folder.is_dir():
        is_adjacency = any(data.glob("train.txt*")) and not any(data.glob("trust.txt*"))
        rejected = folder.parent / "rejected.parquet"
        log = read_split_folder(data, rejected=rejected) if is_adjacency else relation_data.read(data)[1]
        graphrec.build(log, folder, split={"method": "given", "valid": relation_data.VALID_SHARE})
    return GraphStore.open(folder)


def tuned(name: str, store: GraphStore, options: argparse.Namespace, progress: Reporter) -> str:
    """Search for the settings of a model; returns its row for the table: a run file or its name."""
    if name in UNTUNED:
        return name
    target = options.out / "runs" / f"{name}.toml"
    if target.is_file():
        return str(target)
    budget: dict[str, Any] = {"trials": options.trials, "minutes": options.minutes, "startup_trials": 3}
    model, settings, train = name, {}, None
    if (path := RUNS / f"{name}.toml").is_file():
        config = graphrec.load_config(path)
        model = config.model.name
        settings, train = (part.model_dump(exclude_unset=True) for part in (config.model.settings, config.train))
    if name in SEARCHED:
        budget |= {"defaults": False, "space": BASIC | SEARCHED[name]}
        train = {**(train or {}), **BUDGET, "seed": options.search_seed}
    progress.note(f"{name}: searching")
    study = options.out / "studies" / name
    found = graphrec.tune(store, model, study, budget, model_settings=settings, train_settings=train, progress=progress)
    if found.best_file is None:
        raise graphrec.errors.RunError(f"{name}: no trial was finished in {options.minutes:g} minutes; give --minutes more")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(found.best_file.read_bytes())
    return str(target)


if __name__ == "__main__":
    main()
