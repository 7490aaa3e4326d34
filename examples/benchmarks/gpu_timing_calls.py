"""Timings of the operators that a model calls outside a captured step: several relations, pushed signals, the softmax of a batch,
neighbours; imported by gpu_timing.py.

They are timed as a user calls them, checks and launches included, in a loop whose calls overlap with the device's work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_checks import integers, random, torch_csr
from torch import Tensor

from graphrec import ops
from graphrec.ops import Relation

BATCH, DIM, SIGNALS, HISTORY, FANOUT = 2048, 64, 64, 30, 25


def calls(graph: Relation, time: Callable[[Callable[[], Any]], float | None]) -> Iterator[dict[str, Any]]:
    """Rows with the microseconds of a call, beside those of torch's operators.

    Args:
        graph: users by items.
        time: gives the microseconds of a call, or None where it cannot be made.
    """
    for name, dtype, run, moved, peer in _operators(graph):
        row = {"operator": name, "dtype": dtype, "d": DIM if dtype == "float32" else None, "call_us": time(run)}
        if row["call_us"]:
            row["gb_s"] = moved / row["call_us"] / 1e3
        if peer is not None:
            row["torch_us"] = time(peer)
        yield row


def _operators(graph: Relation) -> Iterator[tuple[str, str, Callable[[], Any], float, Callable[[], Any] | None]]:
    """Name, dtype, call, bytes moved and torch's way, or None where torch has none."""
    users, items, edges = graph.num_dst, graph.num_src, graph.num_edges
    x = {"user": random(graph, users, DIM), "item": random(graph, items, DIM)}
    both = [(graph, "item", "user"), (graph.transpose(), "user", "item")]
    matrices = [torch_csr(relation, torch.ones(edges, device=graph.device)) for relation, _, _ in both]

    def products() -> list[Tensor]:
        return [matrix @ x[source] for matrix, (_, source, _) in zip(matrices, both, strict=True)]

    moved = 2 * edges * (4 + 4 * DIM) + 4 * DIM * (users + items)
    yield "hetero_spmm", "float32", lambda: ops.hetero_spmm(both, x), moved, products

    signals = torch.zeros(SIGNALS, users, device=graph.device)
    signals.scatter_(1, integers(graph, users, SIGNALS * HISTORY).view(SIGNALS, HISTORY), 1.0)
    walked = float((signals != 0).sum(0).double() @ graph.degree_dst.double())
    yield (
        *("push", "float32", lambda: ops.push(graph, signals), 4.0 * SIGNALS * (users + 2 * items) + 12 * walked),
        lambda: matrices[1] @ signals.T,
    )

    yield "sampled_softmax and gradients", "float32", *softmax(graph, x["user"], x["item"])

    rows = integers(graph, users, BATCH)
    moved = BATCH * (24 + 20 * FANOUT)
    yield "sample_neighbors", "int64", lambda: ops.sample_neighbors(graph, rows, FANOUT, seed=1), moved, None


def softmax(graph: Relation, user_x: Tensor, item_x: Tensor) -> tuple[Callable[[], Any], float, Callable[[], Any]]:
    """The in-batch softmax of a batch of edges with its gradients, by sampled_softmax and by torch; each positive is its own hit."""
    place = integers(graph, graph.num_edges, BATCH)
    users, positives = graph.rows[place], graph.indices[place].long()
    at = torch.arange(BATCH, device=graph.device)
    hits, weight = torch.stack([at, at]), torch.zeros(BATCH, device=graph.device)
    tables = [(table * 0.1).requires_grad_() for table in (user_x, item_x)]

    def ours() -> tuple[Tensor, ...]:
        loss = ops.sampled_softmax(*tables, users, positives, positives, weight, hits, 0.1)
        return torch.autograd.grad(loss, tables)

    def theirs() -> tuple[Tensor, ...]:
        scores = tables[0][users] @ tables[1][positives].T / 0.1
        return torch.autograd.grad((scores.logsumexp(1) - scores.diagonal()).mean(), tables)

    moved = 4.0 * DIM * (4 * BATCH + 2 * BATCH + 2 * (graph.num_dst + graph.num_src))
    return ours, moved, theirs
