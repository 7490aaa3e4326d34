"""Measure one LightGCN training step under the reference protocol: BPR, batch 2048, 3 layers, 64 dimensions, Adam.

    python examples/benchmarks/step.py --data DIR [--steps 200] [--public FOLDER] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. A step draws its pairs and
negatives, propagates forwards and backwards, and updates all embeddings. `seconds_per_step` is the median over the steps
after a warm-up, plus the mean cost of drawing over a whole epoch, because batches are drawn many at a time.

With --public, a checkout of LightGCN's public PyTorch code (GitHub: gusye1234/LightGCN-PyTorch), that code's own step is
timed too, after ours, on the same graph and batches. `speedup` is its `public_seconds_per_step` over our
`seconds_per_step`; only ours includes drawing. `loss_difference` and `gradient_difference` compare the two at one step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from types import ModuleType

import public_lightgcn
import torch

from graphrec.errors import ConfigError
from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.read import read_split_folder
from graphrec.memory import kept_memory
from graphrec.models.lightgcn import LightGCN
from graphrec.ops import backend
from graphrec.progress import SILENT
from graphrec.training.loop import Loop
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler


def measure(
    store: GraphStore, folder: Path, steps: int, warmup: int, public: ModuleType | None = None
) -> dict[str, object]:
    """Train `warmup + steps` steps on `store`, then some with the `public` code if given; return the measurements."""
    settings = TrainSettings(device="cpu")
    model = LightGCN()
    model.prepare(store, seed=settings.seed)
    sampler = make_sampler(model, settings)
    drawing, (batches, drawn) = timed(lambda: draw_epoch(sampler, warmup + steps))
    loop = Loop(model, sampler, settings, folder, None, SILENT)
    with kept_memory():  # as `Loop.run` trains
        seconds = [timed(lambda batch=batch: loop.step(batch))[0] for batch in batches][warmup:]
    training = statistics.median(seconds)
    result = {
        "seconds_per_step": training + drawing / drawn,
        "training_seconds": training,
        "sampling_seconds": drawing / drawn,
        "backend": backend(),
        "batch_size": settings.batch_size,
        "num_layers": model.settings.num_layers,
        "embedding_dim": model.settings.embedding_dim,
        "threads": torch.get_num_threads(),
        "steps": len(seconds),
        "steps_per_epoch": sampler.steps_per_epoch,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if public:
        result |= public_lightgcn.measure(public, store, settings, batches)
        result["speedup"] = result["public_seconds_per_step"] / result["seconds_per_step"]
    return result


def draw_epoch(sampler, wanted: int) -> tuple[list, int]:  # type: ignore[no-untyped-def]
    """Draw a whole epoch; keep the first `wanted` batches, and return them with the number drawn."""
    kept, drawn = [], 0
    for batch in sampler.batches(0):
        drawn += 1
        if len(kept) < wanted:
            kept.append(batch)
    return kept, drawn


def timed(action):  # type: ignore[no-untyped-def]
    """Run `action`; return its seconds and its result."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--steps", type=int, default=200, help="steps to measure, at most an epoch (default 200)")
    parser.add_argument("--warmup", type=int, default=20, help="steps before measuring (default 20)")
    parser.add_argument(
        "--public", type=Path, metavar="FOLDER", help="checkout of LightGCN's public code, to time it too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    try:
        public = public_lightgcn.load(arguments.public) if arguments.public else None
    except ConfigError as problem:
        parser.error(str(problem))
    with tempfile.TemporaryDirectory() as folder:
        store = build(read_split_folder(arguments.data), Path(folder) / "store")
        result = measure(store, Path(folder) / "run", arguments.steps, arguments.warmup, public)
    if arguments.json:
        print(json.dumps(result))
    else:
        width = max(18, *map(len, result))
        for name, value in result.items():
            digits = ".1e" if name.endswith("_difference") else ".4f"
            print(f"{name:>{width}}  {format(value, digits) if isinstance(value, float) else value}")


if __name__ == "__main__":
    main()
