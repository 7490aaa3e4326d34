"""Measure training on sampled neighbourhoods, without and with a history, against training on the whole graph.

    python examples/benchmarks/sampled_training.py --data DIR [--seeds N] [--rates 2e-3,5e-3,1e-2] [--json]
    python examples/benchmarks/sampled_training.py --grow 500000,2000000,8000000 [--json]

DIR holds `train.txt` and `test.txt` adjacency lists, plain or .gz. One recipe, in-batch softmax on cosines from a spectral start,
is trained in three ways, full batches, sampled ones, and sampled ones with `history_every`, for the same epochs, and all items are
ranked as in `quality.py`. Every training is a fresh process; its peak is resident memory of reading the store and training,
without building or ranking. Each way has the learning rate of --rates that does best, with seed 0, on a tenth of each user's
training items, held out.

--grow makes worlds of so many events (`graphrec datasets make`), with users and items in proportion, and takes steps of both
kinds in fresh processes. `step_mb` is by how much a step's peak exceeds what is resident between steps, that is, without the
tables, moments and edges, which have to grow; `inference_mb` the same for the final pass over the graph, at once for "full"
and in blocks of --block rows for "sampled". It includes the vectors that are kept, and pages of the scratch files, which the
system takes back when it needs them; `inference_anonymous_mb`, looked at every millisecond, does not count those. Memory needs
Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import quality

import graphrec
from graphrec.logs.read import read_log, read_split_folder
from graphrec.logs.synthetic import make_world
from graphrec.models import create
from graphrec.ops import backend
from graphrec.progress import SILENT
from graphrec.settings import parse
from graphrec.training.loop import Loop
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler

MODEL = {
    "num_layers": 2,
    "embedding_dim": 64,
    "inputs": {"init": "spectral"},
    "head": {"name": "cosine", "ranking": "dot"},
    "loss": {"name": "sampled-softmax", "temperature": 0.1},
}
TRAIN = {"epochs": 2, "learning_rate": 2e-3, "schedule": "cosine", "sampler": "uniform-edge", "weight_decay": 0.0}
WARMUP, STEPS = 3, 20


def main() -> None:
    """Parse the command line, measure in fresh processes, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, 0, 1, ... (default 1)")
    parser.add_argument("--rates", default="2e-3,5e-3,1e-2", help="learning rates to choose from, with commas (default %(default)s)")
    parser.add_argument("--layers", type=int, default=MODEL["num_layers"], help="hops (default %(default)s)")
    parser.add_argument("--fanouts", default="10,5", help="neighbours drawn in each hop (default %(default)s)")
    parser.add_argument("--history-every", type=int, default=50, help="steps between two passes of the history (default %(default)s)")
    parser.add_argument("--grow", help="events of the worlds to make, with commas between")
    parser.add_argument("--batch-size", type=int, default=2048, help="of training (default 2048)")
    parser.add_argument("--grow-batch-size", type=int, default=128, help="of the steps of --grow (default 128)")
    parser.add_argument("--block", type=int, default=16384, help="rows of a block of the final pass (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)  # the fresh process's own call
    options = parser.parse_args()
    if options.child:
        print(json.dumps({"train": train_once, "steps": take_steps}[options.child.pop("task")](**options.child)))
        return
    if (options.data is None) == (options.grow is None):
        parser.error("give either --data or --grow")
    report = {"backend": backend()} | (compare(options) if options.data else grow(options))
    if options.json:
        print(json.dumps(report))
        return
    print(f"backend {report['backend']}")
    for row in report["rows"]:
        print("  ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))


def settings_of(options: argparse.Namespace, batching: str, batch_size: int, **more: Any) -> dict[str, Any]:
    """What a child needs to know of the recipe."""
    train = TRAIN | {"batching": batching, "batch_size": batch_size} | more
    if batching == "sampled":
        train |= {"fanouts": [int(part) for part in options.fanouts.split(",")], "inference_block": options.block}
    return {"model": MODEL | {"num_layers": options.layers}, "train": train}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Train in every way for every seed, each at its best rate; average over seeds."""
    rates = [float(part) for part in options.rates.split(",")]
    with tempfile.TemporaryDirectory(prefix="graphrec-sampled-") as scratch:
        stores = {"valid": quality.VALID_SHARE, "test": 0.0}
        for side, share in stores.items():
            log = read_split_folder(options.data, rejected=Path(scratch) / "rejected.parquet")
            graphrec.build(log, Path(scratch) / side, split={"method": "given", "valid": share})
        rows: list[dict[str, Any]] = []
        for batching, more in (("full", {}), ("sampled", {}), ("sampled", {"history_every": options.history_every})):

            def measured(side: str, rate: float, seed: int, batching: str = batching, more: dict[str, int] = more) -> dict[str, float]:
                task = settings_of(options, batching, options.batch_size, learning_rate=rate, **more)
                found = fresh({"task": "train", "store": f"{scratch}/{side}", "side": side, "seed": seed, **task})
                way = " ".join([batching, *more])
                print(f"{way}, rate {rate:g}, seed {seed}: {side} NDCG@20 {found['ndcg@20']:.4f}", file=sys.stderr, flush=True)
                return found

            on_valid = {rate: measured("valid", rate, 0)["ndcg@20"] for rate in rates} if len(rates) > 1 else {}
            rate = max(rates, key=lambda rate: on_valid.get(rate, 0.0))
            results = [measured("test", rate, seed) for seed in range(options.seeds)]
            row: dict[str, Any] = {"batching": batching, **more, "learning_rate": rate}
            for name in results[0]:
                values = [result[name] for result in results]
                row[name] = max(values) if name.endswith("_mb") else statistics.fmean(values)
                if name in quality.METRICS:
                    row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
            row |= {f"valid ndcg@20 at {rate:g}": value for rate, value in on_valid.items()}
            row["of full ndcg@20"] = row["ndcg@20"] / (rows or [row])[0]["ndcg@20"]
            rows.append(row)
    return {"data": options.data.name, "seeds": options.seeds, "layers": options.layers, "fanouts": options.fanouts, "rows": rows}


def train_once(store: str, model: dict[str, Any], train: dict[str, Any], side: str, seed: int) -> dict[str, float]:
    """Train in this process; returns metrics, seconds and the peak of training."""
    opened = graphrec.graph.store.GraphStore.open(store)
    with tempfile.TemporaryDirectory(prefix="graphrec-sampled-") as folder:
        quality.reset_peak()
        started = time.perf_counter()
        run = graphrec.train(opened, "lightgcn", Path(folder) / "run", {**train, "seed": seed}, model_settings=model)
        seconds, peak = time.perf_counter() - started, quality.peak_mb()
        metrics = graphrec.evaluate(run, opened, side, k=20, metrics=("recall", "ndcg")).metrics
    return {**{name: metrics[name] for name in quality.METRICS}, "fit_seconds": seconds, "train_peak_mb": peak}


def grow(options: argparse.Namespace) -> dict[str, Any]:
    """Make worlds of growing size and take steps in each."""
    rows = []
    for events in (int(part) for part in options.grow.split(",")):
        with tempfile.TemporaryDirectory(prefix="graphrec-world-") as scratch:
            world = {"num_users": events // 20, "num_items": events // 80, "funnel": {"view": 1.0}, "media": {}, "friends": 0.0}
            make_world(f"{scratch}/world", num_events=events, **world)
            log = read_log(f"{scratch}/world/events.parquet", rejected=Path(scratch) / "rejected.parquet")
            store = graphrec.build(log, Path(scratch) / "store", split="random")
            size = {"users": store.num_users, "items": store.num_items, "edges": store.train_matrix().nnz}
            for batching in ("full", "sampled"):
                task = settings_of(options, batching, options.grow_batch_size)
                task["model"]["inputs"] = {"init": "normal"}  # the spectral start is not what is measured
                rows.append({**size, "batching": batching, **fresh({"task": "steps", "store": f"{scratch}/store", **task})})
    return {"layers": options.layers, "fanouts": options.fanouts, "batch_size": options.grow_batch_size, "rows": rows}


def take_steps(store: str, model: dict[str, Any], train: dict[str, Any]) -> dict[str, float]:
    """Take steps in this process; returns milliseconds of drawing and of a step, and megabytes."""
    made = create("lightgcn", model)
    settings = parse(TrainSettings, train, "train")
    made.prepare(graphrec.graph.store.GraphStore.open(store))
    sampler = make_sampler(made, settings)
    with tempfile.TemporaryDirectory(prefix="graphrec-sampled-") as folder:
        loop = Loop(made, sampler, settings, Path(folder), None, SILENT)
        batches = sampler.batches(0)
        for _ in range(WARMUP):
            loop.step(next(batches))
        loop.optimizer.zero_grad(set_to_none=True)
        before = resident_mb()
        drawing, stepping, nodes = [], [], []
        for _ in range(STEPS):
            started = time.perf_counter()
            batch = next(batches)
            drawn = time.perf_counter()
            loop.step(batch)
            drawing.append(drawn - started)
            stepping.append(time.perf_counter() - drawn)
            nodes.append(len(batch.neighbourhood.users) + len(batch.neighbourhood.items) if batch.neighbourhood else 0)
        step_mb = quality.peak_mb() - before
        loop.optimizer.zero_grad(set_to_none=True)
        del batch
        before = resident_mb()
        started = time.perf_counter()
        with anonymous_peak() as anonymous:
            loop.finish()
        inference = time.perf_counter() - started
    return {
        "draw_ms": 1e3 * statistics.median(drawing),
        "step_ms": 1e3 * statistics.median(stepping),
        "nodes": max(nodes) or store_nodes(made),
        "step_mb": step_mb,
        "resident_mb": before,
        "inference_mb": quality.peak_mb() - before,
        "inference_anonymous_mb": max(anonymous) - anonymous[0],
        "inference_seconds": inference,
    }


@contextmanager
def anonymous_peak() -> Iterator[list[float]]:
    """Record resident memory that is no page of a file, in MB, now and every millisecond."""

    def look() -> float:
        text = Path("/proc/self/status").read_text()
        return int(text.split("RssAnon:")[1].split()[0]) / 1024

    seen, done = [look()], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def store_nodes(model: graphrec.Recommender) -> int:
    """Users and items of the whole graph, which is what a step on all of it works on."""
    return model.relation.num_dst + model.relation.num_src


def resident_mb() -> float:
    """Give freed memory back, start a new peak, and return what is resident now."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
    quality.reset_peak()
    return quality.peak_mb()


def fresh(task: dict[str, Any]) -> dict[str, Any]:
    """Run a task in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
