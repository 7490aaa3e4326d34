"""Measure every CPU kernel beside what a user would run instead, and print one table.

    python examples/benchmarks/kernels.py --data DIR [--only spmm attention ...] [--public FOLDER] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. Each line of the table is one
comparison of one run: our time, the other's over ours, the ratio that the kernel is meant to reach where there is one, and
the share of the machine that is used: compulsory bytes a second over the bandwidth, or for the ranking operations a second over those
of a matrix product, both the best that `machine.py` finds here, and why a share may pass 1 is said there. The parts
are scripts of their own (`spmm.py`, `attention.py`, `operators.py`, `ranking.py`, `sampling.py`, `step.py`), which say in detail what
is timed. --public takes a checkout of LightGCN's public code, times its step too, and tells how far our loss and gradient are from
its own, relative to the loss and to the largest entry. Each part runs in a process of its own, because DGL, implicit and torch bring
OpenMP runtimes whose idle threads spin and slow each other down. Nothing else should run beside this.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import attention
import machine
import operators
import public_lightgcn
import ranking
import sampling
import spmm
import step
import torch

from graphrec.graph.build import build
from graphrec.logs.read import read_split_folder
from graphrec.ops import Relation, backend

PARTS = ("spmm", "attention", "operators", "ranking", "sampling", "step")


@dataclass(frozen=True)
class Line:
    """One comparison: `ratio` is the other's time over ours (or our rate over the other's), `goal` what it should reach."""

    kernel: str
    ours: str
    other: str
    ratio: float
    goal: float | None = None
    share: float | None = None


def spmm_lines(data: Path, bandwidth: float, repeats: int) -> list[Line]:
    """The normalised product at six dimensions and as `ops.spmm`, dot products along edges, histories pushed over two hops."""
    edges = spmm.read_edges(data)
    relation = spmm.square_relation(*edges)
    lines = []
    goals = {"torch_coo": 14, "torch_csr_int32": 4.5, "dgl_scaled": 1.5, "dgl_copy_u_sum": 1.0}
    for row in spmm.measure(relation, [16, 32, 64, 100, 128, 256], repeats, bandwidth):
        for other in ("torch_coo", "torch_csr_int32", "torch_csr_int64", "scipy_csr", "dgl_scaled", "dgl_copy_u_sum"):
            name, ours = f"spmm fp32 {row['case']}", f"{row['ours_ms']:.2f} ms"
            lines.append(Line(name, ours, other, row[f"{other}_ratio"], goals.get(other), row["fraction"]))
        name, ours = f"spmm bf16 {row['case']}", f"{row['ours_bf16_ms']:.2f} ms"
        lines.append(Line(name, ours, "own fp32", row["bf16_ratio"], 1.3, row["bf16_fraction"]))
    row = spmm.measure_called(relation, 64, repeats, bandwidth)
    name, ours = f"spmm as called, {row['case']}", f"{row['ours_ms']:.2f} ms"
    lines.append(Line(name, ours, "normalised_forward", row["normalised_forward_ratio"], None, row["fraction"]))
    row = spmm.measure_sddmm(relation, 64, repeats, bandwidth)
    lines.append(Line("sddmm d=64", f"{row['ours_ms']:.2f} ms", "dgl u_dot_v", row["dgl_ratio"], None, row["fraction"]))
    row = spmm.measure_push(Relation.from_coo(*edges), 64, repeats, bandwidth)
    name, ours = f"push, {row['case']}", f"{row['ours_ms']:.2f} ms"
    return lines + [Line(name, ours, other, row[f"{other}_ratio"], None, row["fraction"]) for other in ("spmm", "scipy")]


def attention_lines(data: Path, repeats: int) -> list[Line]:
    """Attention of 4 heads x 16, forward and backward: time and memory against DGL."""
    lines = []
    for row in attention.benchmark(data, repeats=repeats):
        name = f"attention {row['what']} fwd+bwd"
        goal = 3.0 if row["what"] == "layer" else None
        lines.append(Line(name, f"{1e3 * row['seconds']:.1f} ms", "dgl time", row["speedup"], goal, row["bandwidth_share"]))
        goal = 2.0 if row["what"] == "layer" else None
        lines.append(Line(name, f"{row['peak_mb']:.0f} MB", "dgl memory", 1 / row["memory_ratio"], goal))
    return lines


def operator_lines(relation: Relation, repeats: int, bandwidth: float) -> list[Line]:
    """Several relations in one call, and the losses with their gradients."""
    return [
        Line(row["operator"], f"{row['ours_ms']:.2f} ms", name.removesuffix("_ratio"), ratio, None, row["fraction"])
        for row in operators.measure(relation, repeats, bandwidth)
        for name, ratio in row.items()
        if name.endswith("_ratio")
    ]


def ranking_lines(data: Path, repeats: int, operations: float) -> list[Line]:
    """Top-20 of all users among all items, seen items left out."""
    row = ranking.measure(data, 20, 64, repeats)
    share = 2 * row["users"] * row["items"] * row["dim"] / row["ours_seconds"] / operations
    ours = f"{row['ours_seconds']:.3f} s"
    lists = row["implicit_ranking_mb"] / row["ours_ranking_mb"]
    return [
        Line("top-20 of all users", ours, "implicit time", row["ratio"], 2.0, share),
        Line("top-20 of all users", f"{row['ours_ranking_mb']:.0f} MB", "implicit memory", lists),
    ]


def sampling_lines(relation: Relation, repeats: int, bandwidth: float) -> list[Line]:
    """Negatives, neighbours and one optimiser step."""
    row = sampling.measure(relation, repeats)
    negatives = row["negatives_per_second"]
    name, ours, share = (
        "negatives, checked",
        f"{negatives / 1e6:.0f} M/s",
        16 * negatives / bandwidth,
    )  # a user in, an item out
    lines = [
        Line(name, ours, "20 M/s", negatives / 20e6, 1.0, share),
        Line(name, ours, "numpy", negatives / row["negatives_numpy_per_second"], None, share),
    ]
    rate = row["neighbors_per_second"]
    ours, share = f"{rate / 1e6:.0f} M/s", 12 * rate / bandwidth  # an index in, an edge out
    lines.append(Line("neighbours, fanout 10", ours, "dgl", rate / row["neighbors_dgl_per_second"], None, share))
    nodes = relation.num_dst + relation.num_src
    share = adam_bytes(nodes, sampling.DIM) / (1e-3 * row["adam_ms"]) / bandwidth
    for other in ("torch_fused", "torch_foreach"):
        ratio = row[f"adam_{other}_ms"] / row["adam_ms"]
        lines.append(Line("adam, all embeddings", f"{row['adam_ms']:.2f} ms", other, ratio, None, share))
    return lines


def adam_bytes(nodes: int, dim: int) -> int:
    """Value, gradient and two moments read, all but the gradient written, float32."""
    return 7 * 4 * nodes * dim


def step_lines(data: Path, public: Path | None, bandwidth: float) -> list[Line]:
    """One LightGCN step of the reference protocol; its bytes are those of six products and of Adam."""
    with tempfile.TemporaryDirectory() as folder:
        store = build(read_split_folder(data), Path(folder) / "store")
        module = public_lightgcn.load(public) if public else None
        row = step.measure(store, Path(folder) / "run", 100, 10, module)
        nodes, edges, dim = store.num_users + store.num_items, store.train_matrix().nnz, sampling.DIM
    ours = row["seconds_per_step"]
    moved = 6 * spmm.compulsory_bytes(nodes, 2 * edges, dim) + adam_bytes(nodes, dim)
    share, text = moved / ours / bandwidth, f"{1e3 * ours:.1f} ms"
    lines = [Line("LightGCN step", text, "1.04 s, as stated for the public code", 1.04 / ours, 20, share)]
    if module:
        other = f"public code, {1e3 * row['public_seconds_per_step']:.0f} ms in this run"
        lines.append(Line("LightGCN step", text, other, row["speedup"], None, share))
        for part in ("loss", "gradient"):
            difference = row[f"{part}_difference"]
            name, allowed = f"LightGCN step, {part}", "1e-5 of the public code's, allowed"
            lines.append(Line(name, f"{difference:.1e} off", allowed, 1e-5 / max(difference, 1e-9), 1))
    return lines


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each (default 15)")
    parser.add_argument("--public", type=Path, metavar="FOLDER", help="checkout of LightGCN's public code")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    if len(options.only) == 1:
        result = measure(options.only[0], options.data, options.repeats, options.public)
    else:
        parts = [in_child(part, options) for part in options.only]
        result = parts[0] | {"lines": [line for part in parts for line in part["lines"]]}
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


def measure(part: str, data: Path, repeats: int, public: Path | None) -> dict[str, Any]:
    """Run one part: the machine's figures, and its lines of the table under "lines"."""
    load = os.getloadavg()[0]
    bandwidth, operations = machine.bandwidth(), machine.operations()
    if part == "spmm":
        lines = spmm_lines(data, bandwidth, repeats)
    elif part == "attention":
        lines = attention_lines(data, repeats)
    elif part == "operators":
        lines = operator_lines(Relation.from_coo(*spmm.read_edges(data)), repeats, bandwidth)
    elif part == "ranking":
        lines = ranking_lines(data, max(3, repeats // 3), operations)
    elif part == "sampling":
        lines = sampling_lines(Relation.from_coo(*spmm.read_edges(data)), repeats, bandwidth)
    else:
        lines = step_lines(data, public, bandwidth)
    return {
        "backend": backend(), "threads": torch.get_num_threads(), "bandwidth_gb_s": bandwidth / 1e9,
        "peak_gflop_s": operations / 1e9, "load_before": load, "lines": [asdict(line) for line in lines],
    }  # fmt: skip


def in_child(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, "--data", str(options.data), "--only", part, "--json"]
    command += ["--repeats", str(options.repeats)] + (["--public", str(options.public)] if options.public else [])
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    lines = [Line(**line) for line in result.pop("lines")]
    print(
        "  ".join(
            f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in result.items()
        )
    )
    print(f"{'kernel':30} {'ours':>10}  {'against':40} {'ratio':>6} {'goal':>5}  share of machine")
    for line in lines:
        goal = "" if line.goal is None else f"{line.goal:g}"
        share = "" if line.share is None else f"{line.share:.2f}"
        missed = "  MISSED" if line.goal is not None and line.ratio < line.goal else ""
        print(f"{line.kernel:30} {line.ours:>10}  {line.other:40} {line.ratio:6.2f} {goal:>5}  {share}{missed}")


if __name__ == "__main__":
    main()
