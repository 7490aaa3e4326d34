"""Measure the operators of a training step that are no single product: several relations at once, and the losses with their gradients.

    python examples/benchmarks/operators.py --data DIR [--repeats 15] [--json]

DIR holds a `train.txt` adjacency list (`user item item ...`), plain or .gz. All run on one bipartite graph with 64 dimensions in
float32; results are compared first. `hetero_spmm` carries users to items and items to users in one call: beside it two products of
torch's with CSR matrices, and DGL's `multi_update_all` with `copy_u` and `sum`. `bpr` (one negative for each of 2,048 pairs) and
`sampled_softmax` (2,048 pairs, the others of the batch as negatives) include the gradients by both embedding tables: beside them
the same losses of torch's operators. Turns and medians are those of spmm.py.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_timing_calls
import machine
import spmm
import torch
from gpu_checks import integers, random, torch_csr
from torch import Tensor
from torch.nn.functional import softplus

from graphrec import _dgl, ops
from graphrec.ops import Relation

DIM, BATCH = 64, 2048
Ways = dict[str, Callable[[], Any]]


def measure(graph: Relation, repeats: int, bandwidth: float) -> list[dict[str, Any]]:
    """Milliseconds of each operator, the peers' over ours, and compulsory bytes a second as a share of the bandwidth.

    Args:
        graph: users by items.
        repeats: timed turns.
        bandwidth: bytes a second, of machine.py.
    """
    x = {"user": random(graph, graph.num_dst, DIM) * 0.1, "item": random(graph, graph.num_src, DIM) * 0.1}
    nodes = graph.num_dst + graph.num_src
    moved = 8 * graph.num_edges + 8 * DIM * nodes  # both index lists, each row in and out
    rows = [("hetero_spmm, both directions", _both_directions(graph, x), moved)]
    rows.append(("bpr fwd+bwd", _bpr(graph, x), 4 * DIM * (3 * BATCH + nodes)))
    ours, moved, theirs = gpu_timing_calls.softmax(graph, x["user"], x["item"])
    _compare(ours(), theirs())
    rows.append(("sampled_softmax fwd+bwd", {"ours": ours, "torch": theirs}, 4 * DIM * (2 * BATCH + nodes)))
    results = []
    for name, ways, compulsory in rows:
        taken = spmm.medians(ways, repeats)
        own = taken.pop("ours")
        ratios = {f"{peer}_ratio": milliseconds / own for peer, milliseconds in taken.items()}
        results.append({"operator": name, "ours_ms": own, **ratios, "fraction": compulsory / (own * 1e-3) / bandwidth})
    return results


def _both_directions(graph: Relation, x: dict[str, Tensor]) -> Ways:
    dgl = _dgl.import_dgl()
    warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
    both = [(graph, "item", "user"), (graph.transpose(), "user", "item")]
    matrices = [torch_csr(relation, torch.ones(graph.num_edges)) for relation, _, _ in both]
    users, items = graph.rows, graph.indices.long()
    sizes = {"user": graph.num_dst, "item": graph.num_src}
    theirs = dgl.heterograph({("item", "to", "user"): (items, users), ("user", "of", "item"): (users, items)}, sizes)
    theirs.create_formats_()

    def by_torch() -> dict[str, Tensor]:
        return {target: matrix @ x[source] for matrix, (_, source, target) in zip(matrices, both, strict=True)}

    def by_dgl() -> dict[str, Tensor]:
        theirs.ndata["x"] = x
        passed = dgl.function.copy_u("x", "m"), dgl.function.sum("m", "y")
        theirs.multi_update_all({"to": passed, "of": passed}, "sum")
        return theirs.ndata["y"]

    ways: Ways = {"ours": lambda: ops.hetero_spmm(both, x), "torch_csr": by_torch, "dgl_multi_update_all": by_dgl}
    for peer in (by_torch, by_dgl):
        found, wanted = ops.hetero_spmm(both, x), peer()
        _compare([found["user"], found["item"]], [wanted["user"], wanted["item"]])
    return ways


def _bpr(graph: Relation, x: dict[str, Tensor]) -> Ways:
    place = integers(graph, graph.num_edges, BATCH)
    users, positives, negatives = graph.rows[place], graph.indices[place].long(), integers(graph, graph.num_src, BATCH)
    tables = [x["user"].clone().requires_grad_(), x["item"].clone().requires_grad_()]

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(ops.bpr(*tables, users, positives, negatives[:, None]), tables)

    def by_torch() -> tuple[Tensor, ...]:
        user = tables[0][users]
        excess = (user * tables[1][negatives]).sum(1) - (user * tables[1][positives]).sum(1)
        return torch.autograd.grad(softplus(excess).mean(), tables)

    _compare(ours(), by_torch())
    return {"ours": ours, "torch": by_torch}


def _compare(found: Any, wanted: Any) -> None:
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt, plain or .gz")
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each (default 15)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    bandwidth = machine.bandwidth()
    rows = measure(Relation.from_coo(*spmm.read_edges(options.data)), options.repeats, bandwidth)
    spmm.show(bandwidth, rows, options.json)


if __name__ == "__main__":
    main()
