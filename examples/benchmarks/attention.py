"""Measure one graph attention layer, forward and backward, against DGL's GATConv with the same weights and input.

    python examples/benchmarks/attention.py --data DIR [--heads 4] [--features 16] [--repeats 15] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. The layer carries item features
(I, heads * features) to users over all training edges. Three things are timed, each forwards and backwards:

    layer     GATConv as it is: both linear projections, attention, bias, and the gradients by weights and by both inputs
    operator  attention alone, from given scores and projected features: no projection on either side
    gatv2     GATv2Conv as it is, likewise

Ours and DGL's take turns in one process, and `seconds` are medians over the turns. `peak_mb` is the growth of the resident
set at its highest during the first step in a process of its own, after the same step on a tiny graph has loaded everything
that is loaded once. `bandwidth_share` is the bytes that one step cannot avoid moving, in order, over the seconds it
took and over the bandwidth that `machine.py` finds here. `difference` is the largest difference of outputs and gradients,
relative to the largest value of each.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from torch import Tensor, nn

from graphrec._dgl import import_dgl
from graphrec.memory import kept_memory
from graphrec.nn.gat import GATLayer, GATv2Layer
from graphrec.ops import Relation, backend, gat

WHAT = ("layer", "operator", "gatv2")
Step = Callable[[], list[Tensor]]


OURS = {  # DGL's name of a parameter: ours
    "attn_l": "src_attention",
    "attn_r": "dst_attention",
    "attn": "attention",
    "bias": "bias",
    "fc_src.weight": "src_weight.weight",
    "fc_dst.weight": "dst_weight.weight",
}


def layer_of(conv: nn.Module, width: int) -> GATLayer:
    """Our layer with the values of a GATConv, or of a GATv2Conv without bias, from `width` columns to as many."""
    values = {OURS[name]: value for name, value in conv.named_parameters()}
    kind = GATv2Layer if "attention" in values else GATLayer
    layer = kind(width, conv._out_feats, conv._num_heads, dst_dim=width, bias="bias" in values)
    shapes = {name: own.shape for name, own in layer.named_parameters()}
    layer.load_state_dict({name: value.detach().view(shapes[name]) for name, value in values.items()})
    return layer


def dgl_operator(graph: Any, dst_score: Tensor, src_score: Tensor, src_x: Tensor) -> Tensor:
    """What GATConv does after its projections."""
    dgl = import_dgl()
    graph.srcdata.update({"ft": src_x, "el": src_score[..., None]})
    graph.dstdata["er"] = dst_score[..., None]
    graph.apply_edges(dgl.function.u_add_v("el", "er", "e"))
    score = nn.functional.leaky_relu(graph.edata.pop("e"), 0.2)
    graph.edata["a"] = dgl.nn.functional.edge_softmax(graph, score)
    graph.update_all(dgl.function.u_mul_e("ft", "a", "m"), dgl.function.sum("m", "ft"))
    return graph.dstdata["ft"]


def make_steps(what: str, dst: Tensor, src: Tensor, shape: tuple[int, int], heads: int, features: int) -> dict[str, Step]:
    """Forward and backward of both sides on the edges (dst, src) of a graph of `shape`: {"ours": step, "dgl": step}."""
    dgl = import_dgl()
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    relation = Relation.from_coo(dst, src, *shape)
    relation.t_edges  # noqa: B018  (kept from here on, as DGL keeps its formats)
    sizes = {"item": shape[1], "user": shape[0]}
    graph = dgl.heterograph({("item", "rated_by", "user"): (src, dst)}, sizes)
    graph.create_formats_()
    gradient = draw(shape[0], heads, features)
    if what == "operator":
        inputs = [draw(shape[0], heads), draw(shape[1], heads), draw(shape[1], heads, features)]
        wanted = {"ours": inputs, "dgl": inputs}
        run = {"ours": lambda: gat(relation, *inputs), "dgl": lambda: dgl_operator(graph.local_var(), *inputs)}
    else:
        torch.manual_seed(0)
        make = dgl.nn.GATConv if what == "layer" else dgl.nn.GATv2Conv
        options = {} if what == "layer" else {"bias": False}
        width = heads * features
        conv = make((width, width), features, heads, allow_zero_in_degree=True, **options)
        layer, item_x, user_x = layer_of(conv, width), draw(shape[1], width), draw(shape[0], width)
        own, names = dict(layer.named_parameters()), [name for name, _ in conv.named_parameters()]
        wanted = {"ours": [item_x, user_x, *(own[OURS[name]] for name in names)], "dgl": [item_x, user_x, *conv.parameters()]}
        run = {
            "ours": lambda: layer(relation, item_x, user_x).view(gradient.shape),
            "dgl": lambda: conv(graph, (item_x, user_x)),
        }
    for x in (*wanted["ours"], *wanted["dgl"]):
        x.requires_grad_()
    return {side: partial(step, forward, wanted[side], gradient) for side, forward in run.items()}


def step(forward: Callable[[], Tensor], inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """Run forwards and backwards; return the output and the gradients."""
    y = forward()
    return [y.detach(), *torch.autograd.grad(y, inputs, gradient)]


def measure(what: str, steps: dict[str, Step], repeats: int) -> dict[str, object]:
    """Time both sides in turns and compare what they compute."""
    results = {side: run() for side, run in steps.items()}
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for _ in range(repeats):
        for side, run in steps.items():
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    ours, dgl = (statistics.median(seconds[side]) for side in ("ours", "dgl"))
    difference = max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in zip(*results.values(), strict=True)
    )
    return {"what": what, "seconds": ours, "dgl_seconds": dgl, "speedup": dgl / ours, "difference": difference}


def peak_mb(side: str, what: str, edges: Path, heads: int, features: int) -> float:
    """Measure the memory of one side's first step; meant for a process that does nothing else."""
    stored = np.load(edges)
    tiny = make_steps(what, torch.tensor([0, 1]), torch.tensor([1, 0]), (2, 2), heads, features)
    tiny[side]()
    dst, src = torch.from_numpy(stored["dst"]), torch.from_numpy(stored["src"])
    run = make_steps(what, dst, src, tuple(stored["shape"].tolist()), heads, features)[side]
    with kept_memory():  # leaving it gives freed memory back, which the step could take without growing
        pass
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    run()
    return resident_mb("VmHWM") - before


def resident_mb(field: str) -> float:
    """Read one line of the process's status: the resident set now (VmRSS) or at its highest (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compulsory_bytes(what: str, shape: tuple[int, int], num_edges: int, heads: int, features: int) -> int:
    """Bytes of one step if every array were read or written once per pass over it; weights and scores of nodes are left out."""
    row = 4 * heads * features
    forward = 4 * num_edges + shape[1] * row + shape[0] * row
    # Both passes of the backward: y and its gradient by row, then gradient, features and their gradient by source, the
    # edges' positions, and the edge gradients written once and read once.
    backward = 2 * shape[0] * row + shape[0] * row + 2 * shape[1] * row + 12 * num_edges + 2 * 4 * heads * num_edges
    if what == "operator":
        return forward + backward
    # A projection reads its input and writes its result, and backwards reads the result's gradient and the input again and
    # writes the input's gradient. GAT needs no projected targets, only their scores; GATv2 reads them in every pass over
    # rows and writes their gradient.
    sources, targets = (5, 3) if what == "layer" else (5, 5 + 3)
    return forward + backward + row * (sources * shape[1] + targets * shape[0])


def in_child(*arguments: object) -> float:
    """Run this script again to measure memory."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def benchmark(data: str | Path, heads: int = 4, features: int = 16, repeats: int = 15) -> list[dict[str, object]]:
    """Measure everything on the data set in folder `data`; one table row for each of `WHAT`."""
    from graphrec.graph.build import build
    from graphrec.logs.read import read_split_folder

    rows, bandwidth = [], machine.bandwidth()
    with tempfile.TemporaryDirectory() as folder:
        matrix = build(read_split_folder(data), Path(folder) / "store").train_matrix().tocoo()
        edges = Path(folder) / "edges.npz"
        np.savez(edges, dst=matrix.row.astype(np.int64), src=matrix.col.astype(np.int64), shape=np.array(matrix.shape))
        for what in WHAT:
            stored = np.load(edges)
            ends = torch.from_numpy(stored["dst"]), torch.from_numpy(stored["src"])
            row = measure(what, make_steps(what, *ends, matrix.shape, heads, features), repeats)
            for name, side in (("peak_mb", "ours"), ("dgl_peak_mb", "dgl")):
                row[name] = in_child("--child", side, what, edges, "--heads", heads, "--features", features)
            row["memory_ratio"] = row["peak_mb"] / row["dgl_peak_mb"]  # type: ignore[operator]
            moved = compulsory_bytes(what, matrix.shape, matrix.nnz, heads, features)
            row["bandwidth_share"] = moved / row["seconds"] / bandwidth  # type: ignore[operator]
            rows.append(row | {"edges": matrix.nnz, "threads": torch.get_num_threads(), "backend": backend()})
    return rows


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--features", type=int, default=16, help="features of a head")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each side (default 15)")
    parser.add_argument("--json", action="store_true", help="print one JSON list as the last line")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "WHAT", "EDGES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, what, edges = arguments.child
        print(peak_mb(side, what, Path(edges), arguments.heads, arguments.features))
        return
    if not arguments.data:
        parser.error("--data is required")
    rows = benchmark(arguments.data, arguments.heads, arguments.features, arguments.repeats)
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{name} {format(value, '.4g') if isinstance(value, float) else value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
