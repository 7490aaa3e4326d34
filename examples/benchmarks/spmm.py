"""Measure the sparse products on a bipartite graph against torch, SciPy and DGL.

    python examples/benchmarks/spmm.py --data DIR [--dims 16 32 64 100 128 256] [--repeats 15] [--json]

DIR holds a `train.txt` adjacency list (`user item item ...`), plain or .gz. One product goes over both directions of every
edge, with D^-1/2 before and after, as LightGCN propagates: `normalised_forward`, which has no autograd of its own and reads the columns'
scales in the order of the edges, made at the first product. `spmm as called` is the same by `ops.spmm`, as GCN and NGCF call it. All ways
take turns, so that they meet the same noise; a turn is three calls in a row, as in training, of which the first is not counted. Freed
memory is kept, as in training: otherwise the system clears the pages of every result anew from some size on, which takes as long as a
product. Milliseconds are medians. Results are compared with a float64 product first.

`fraction` is the compulsory traffic (index once, each row read once and written once) over the time, as a share of the
bandwidth that `machine.py` finds in the same run: how far the kernel is from a memory that is read without repetition.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import scipy.sparse
import torch

from graphrec import _dgl, ops
from graphrec.memory import kept_memory
from graphrec.nn.motifs import to_scipy
from graphrec.ops import Relation

Row = dict[str, Any]


def read_edges(folder: Path) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Read `train.txt` or `train.txt.gz`: users and items (E,), and how many there are of each."""
    path = next((folder / name for name in ("train.txt", "train.txt.gz") if (folder / name).is_file()), None)
    if path is None:
        raise SystemExit(f"{folder} holds neither train.txt nor train.txt.gz")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        lists = [np.array(line.split(), dtype=np.int64) for line in lines if line.strip()]
    users = np.repeat([row[0] for row in lists], [len(row) - 1 for row in lists])
    items = np.concatenate([row[1:] for row in lists])
    return users, items, int(users.max()) + 1, int(items.max()) + 1


def square_relation(users: np.ndarray, items: np.ndarray, num_users: int, num_items: int) -> Relation:
    """Both directions of all edges over one set of nodes, items after users."""
    size = num_users + num_items
    return Relation.from_coo(np.r_[users, items + num_users], np.r_[items + num_users, users], size, size)


def medians(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each way over `repeats` turns of three calls, of which the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with kept_memory():
        for _ in range(repeats):
            for name, run in ways.items():
                for call in range(3):
                    start = time.perf_counter()
                    run()
                    if call:
                        seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def measure(relation: Relation, dims: list[int], repeats: int, bandwidth: float) -> list[Row]:
    """Time the normalised product at each dimension, in float32 and bfloat16, beside its peers."""
    dgl = _dgl.import_dgl()
    warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
    graph = dgl.graph((relation.indices.long(), relation.rows), num_nodes=relation.num_dst)
    graph.create_formats_()
    scale = relation.scale_dst(-0.5)
    values = scale[relation.rows] * scale[relation.indices.long()]
    size = (relation.num_dst, relation.num_src)
    coo = torch.sparse_coo_tensor(torch.stack([relation.rows, relation.indices.long()]), values, size).coalesce()
    csr = {
        bits: torch.sparse_csr_tensor(relation.indptr.to(dtype), relation.indices.to(dtype), values, size)
        for bits, dtype in (("int32", torch.int32), ("int64", torch.int64))
    }
    scipy_csr = scipy.sparse.csr_matrix((values.numpy(), relation.indices.numpy(), relation.indptr.numpy()), size)
    rows = []
    for dim in dims:
        x = torch.randn(relation.num_src, dim, generator=torch.Generator().manual_seed(0))
        half = x.bfloat16()
        check(relation, x, scale)
        ways = {
            "ours": lambda x=x: ops.normalised_forward(relation, x),
            "ours_bf16": lambda half=half: ops.normalised_forward(relation, half),
            "torch_coo": lambda x=x: coo @ x,
            "torch_csr_int32": lambda x=x: csr["int32"] @ x,
            "torch_csr_int64": lambda x=x: csr["int64"] @ x,
            "scipy_csr": lambda x=x: scipy_csr @ x.numpy(),
            "dgl_scaled": lambda x=x: dgl.ops.copy_u_sum(graph, x * scale[:, None]) * scale[:, None],
            "dgl_copy_u_sum": lambda x=x: dgl.ops.copy_u_sum(graph, x),
        }
        taken = medians(ways, repeats)
        moved, half_moved = (compulsory_bytes(relation.num_dst, relation.num_edges, dim, size) for size in (4, 2))
        rows.append({
            "operator": "spmm", "case": f"d={dim}", "ours_ms": taken["ours"], "ours_bf16_ms": taken["ours_bf16"],
            "bf16_ratio": taken["ours"] / taken["ours_bf16"],
            **{f"{name}_ratio": taken[name] / taken["ours"] for name in list(ways)[2:]},
            "gathered_gb_s": 4e-6 * relation.num_edges * (dim + 1) / taken["ours"],
            "fraction": moved / (taken["ours"] * 1e-3) / bandwidth,
            "bf16_fraction": half_moved / (taken["ours_bf16"] * 1e-3) / bandwidth,
        })  # fmt: skip
    return rows


def compulsory_bytes(nodes: int, edges: int, dim: int, size: int = 4) -> int:
    """What a square product must move: the index and the scales once, each row of `size`-byte values in and out once."""
    return 4 * edges + 8 * nodes + 2 * size * dim * nodes


def measure_called(relation: Relation, dim: int, repeats: int, bandwidth: float) -> Row:
    """Time the product as GCN and NGCF call it in training, `ops.spmm` with both scales on an input that has a gradient, forwards.

    It looks up a column's scale at each edge, which `normalised_forward` has in the order of the edges, and records the call.
    """
    x = torch.randn(relation.num_src, dim, generator=torch.Generator().manual_seed(0))
    variable, left, right = x.clone().requires_grad_(), relation.scale_dst(-0.5), relation.scale_src(-0.5)
    ways = {
        "ours": lambda: ops.spmm(relation, variable, left=left, right=right),
        "normalised_forward": lambda: ops.normalised_forward(relation, x),
    }
    torch.testing.assert_close(ways["ours"]().detach(), ways["normalised_forward"](), rtol=1e-4, atol=1e-5)
    taken = medians(ways, repeats)
    return {
        "operator": "spmm as called", "case": f"d={dim}", "ours_ms": taken["ours"],
        "normalised_forward_ratio": taken["normalised_forward"] / taken["ours"],
        "fraction": compulsory_bytes(relation.num_dst, relation.num_edges, dim) / (taken["ours"] * 1e-3) / bandwidth,
    }  # fmt: skip


def measure_sddmm(relation: Relation, dim: int, repeats: int, bandwidth: float) -> Row:
    """Time dot products along the edges beside DGL's `u_dot_v`."""
    dgl = _dgl.import_dgl()
    graph = dgl.graph((relation.indices.long(), relation.rows), num_nodes=relation.num_dst)
    a, b = (torch.randn(n, dim) for n in (relation.num_dst, relation.num_src))
    ours = ops.sddmm(relation, a, b)
    torch.testing.assert_close(ours, dgl.ops.u_dot_v(graph, b, a).squeeze(1), rtol=1e-4, atol=1e-4)
    taken = medians(
        {"ours": lambda: ops.sddmm(relation, a, b), "dgl": lambda: dgl.ops.u_dot_v(graph, b, a)}, repeats
    )
    compulsory = 8 * relation.num_edges + 8 * dim * relation.num_dst
    return {
        "operator": "sddmm", "case": f"d={dim}", "ours_ms": taken["ours"], "dgl_ratio": taken["dgl"] / taken["ours"],
        "fraction": compulsory / (taken["ours"] * 1e-3) / bandwidth,
    }  # fmt: skip


def measure_push(relation: Relation, count: int, repeats: int, bandwidth: float) -> Row:
    """Time two hops of some users' histories beside `spmm` of them as columns and SciPy's sparse product.

    Compulsory are the signals in and out at each hop, and once the indices of the edges that any of them goes over.
    """
    back = relation.transpose()
    matrix = to_scipy(relation)
    rows = matrix[np.linspace(0, relation.num_dst - 1, count).astype(np.int64)]
    columns = matrix.T.tocsr()
    items = torch.from_numpy(rows.toarray())
    ways = {
        "ours": lambda: ops.push(relation, ops.push(back, items)),
        "spmm": lambda: ops.spmm(back, ops.spmm(relation, items.T.contiguous())).T.contiguous(),
        "scipy": lambda: (rows @ columns @ matrix).toarray(),
    }
    torch.testing.assert_close(ways["ours"](), ways["spmm"](), rtol=1e-4, atol=1e-4)
    taken = medians(ways, repeats)
    met = [ends.degree_dst[x.any(dim=0)].sum() for ends, x in ((back, items), (relation, ops.push(back, items)))]
    compulsory = 8 * count * (relation.num_dst + relation.num_src) + 4 * int(sum(met))
    return {
        "operator": "push", "case": f"{count} histories, two hops", "ours_ms": taken["ours"],
        "spmm_ratio": taken["spmm"] / taken["ours"], "scipy_ratio": taken["scipy"] / taken["ours"],
        "fraction": compulsory / (taken["ours"] * 1e-3) / bandwidth,
    }  # fmt: skip


def check(relation: Relation, x: torch.Tensor, scale: torch.Tensor) -> None:
    """Stop if our product is not the float64 one."""
    values = (scale[relation.rows].double() * scale[relation.indices.long()].double()).numpy()
    size = (relation.num_dst, relation.num_src)
    exact = scipy.sparse.csr_matrix((values, relation.indices.numpy(), relation.indptr.numpy()), size) @ x.double().numpy()
    torch.testing.assert_close(ops.normalised_forward(relation, x).double(), torch.from_numpy(exact), rtol=1e-4, atol=1e-5)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt, plain or .gz")
    parser.add_argument("--dims", type=int, nargs="+", default=[16, 32, 64, 100, 128, 256], help="embedding dimensions")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each (default 15)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    edges = read_edges(arguments.data)
    relation = square_relation(*edges)
    bandwidth = machine.bandwidth()
    rows = measure(relation, arguments.dims, arguments.repeats, bandwidth)
    rows.append(measure_called(relation, 64, arguments.repeats, bandwidth))
    rows.append(measure_sddmm(relation, 64, arguments.repeats, bandwidth))
    rows.append(measure_push(Relation.from_coo(*edges), 64, arguments.repeats, bandwidth))
    show(bandwidth, rows, arguments.json)


def show(bandwidth: float, rows: list[Row], as_json: bool) -> None:
    """Print what the rows were measured on, then the rows."""
    result = {"backend": ops.backend(), "threads": torch.get_num_threads(), "bandwidth_gb_s": bandwidth / 1e9, "rows": rows}
    if as_json:
        print(json.dumps(result))
        return
    print(f"{result['backend']}, {result['threads']} threads, {result['bandwidth_gb_s']:.1f} GB/s")
    for row in rows:
        print("  ".join(f"{name} {value:.2f}" if isinstance(value, float) else str(value) for name, value in row.items()))


if __name__ == "__main__":
    main()
