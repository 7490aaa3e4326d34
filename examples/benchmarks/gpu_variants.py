"""Checks of what the operators can do beside their plain form, against float64; imported by gpu.py.

Edge weights, row restriction, epilogues and gradients of the product, several relations at once, attention with dropout, candidates,
and negatives from a distribution or a pool. A check is what `gpu_checks` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from gpu_checks import ALLOWED, Check, error, exact, integers, random, wide
from torch import Tensor

from graphrec import ops
from graphrec.ops import Relation
from graphrec.ops.attention import keep_factors
from graphrec.ops.sampling import AliasTable, _negatives_reference, sample_negatives


def dense(graph: Relation, weight: Tensor | None = None) -> Tensor:
    """A with its edge weights or ones, float64 (U, I)."""
    matrix = torch.zeros(graph.num_dst, graph.num_src, dtype=torch.float64, device=graph.device)
    values = matrix.new_ones(graph.num_edges) if weight is None else weight.double()
    return matrix.index_put((graph.rows, graph.indices.long()), values, accumulate=True)


def gradients(
    name: str, ours: Tensor, got: dict[str, Tensor], theirs: Tensor, want: dict[str, Tensor]
) -> Iterator[Check]:
    """Value and gradients of one operator, for one random gradient of its output."""
    yield error(name, ours.detach(), theirs.detach())
    above = torch.randn(ours.shape, generator=torch.Generator(ours.device).manual_seed(1), device=ours.device).to(
        ours.dtype
    )
    left = torch.autograd.grad(ours, list(got.values()), above)
    right = torch.autograd.grad(theirs, list(want.values()), above.double())
    for part, mine, other in zip(got, left, right, strict=True):
        label, worst, allowed = error(f"{name}, gradient by {part}", mine, other)
        yield label, worst, 4 * max(allowed, ALLOWED[ours.dtype])  # scores stay float32 beside rounded features


def doubles(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: part.detach().double().requires_grad_() for name, part in parts.items()}


def product(graph: Relation, dim: int, dtype: torch.dtype) -> Iterator[Check]:
    """spmm with all it takes, of all rows and of some; the mean; sddmm."""
    scale = wide(dtype)
    left, right = graph.scale_dst(-0.5, scale), graph.scale_src(-0.5, scale)
    rows = torch.randperm(graph.num_dst, generator=torch.Generator().manual_seed(2))[: graph.num_dst // 3].to(
        graph.device
    )
    for name, some in (("all rows", None), ("some rows", rows)):
        height = graph.num_dst if some is None else len(some)
        got = {
            "x": random(graph, graph.num_src, dim, dtype=dtype).requires_grad_(),
            "z": random(graph, height, dim, dtype=dtype).requires_grad_(),
            "edge weight": random(graph, graph.num_edges, dtype=scale).abs_().requires_grad_(),
        }
        want = doubles(got)
        ours = ops.spmm(graph, got["x"], left, right, 0.7, got["z"], -1.3, some, edge_weight=got["edge weight"])
        matrix = left.double()[:, None] * dense(graph, want["edge weight"]) * right.double()
        matrix = matrix if some is None else matrix[some]
        theirs = 0.7 * (matrix @ want["x"]) - 1.3 * want["z"]
        yield from gradients(f"spmm d {dim}, weights, epilogue, {name}", ours, got, theirs, want)
    got = {"x": random(graph, graph.num_src, dim, dtype=dtype).requires_grad_()}
    want = doubles(got)
    matrix = dense(graph)
    theirs = (matrix @ want["x"]) / matrix.sum(1, keepdim=True).clamp(min=1)
    yield from gradients(f"spmm d {dim}, mean", ops.spmm(graph, got["x"], reduce="mean"), got, theirs, want)
    got = {
        side: random(graph, size, dim, dtype=dtype).requires_grad_()
        for side, size in (("dst", graph.num_dst), ("src", graph.num_src))
    }
    want = doubles(got)
    theirs = (want["dst"][graph.rows] * want["src"][graph.indices.long()]).sum(1)
    yield from gradients(f"sddmm d {dim}", ops.sddmm(graph, *got.values()), got, theirs, want)


def several_relations(graph: Relation, dim: int, dtype: torch.dtype) -> Iterator[Check]:
    """hetero_spmm over a relation, another of the same ends, and the way back, summed and stacked."""
    scale = wide(dtype)
    relations = [(graph, "item", "user"), (graph, "item", "user"), (graph.transpose(), "user", "item")]
    left = [graph.scale_dst(-1.0, scale), None, None]
    right = [None, graph.scale_src(-0.5, scale), None]
    sizes = {"item": graph.num_src, "user": graph.num_dst}
    matrix = dense(graph)
    for combine, target in itertools.product(("sum", "stack"), sizes):
        got = {name: random(graph, size, dim, dtype=dtype).requires_grad_() for name, size in sizes.items()}
        want = doubles(got)
        ours = ops.hetero_spmm(relations, got, left, right, 0.5, combine)[target]
        user = [
            left[0].double()[:, None] * (matrix @ want["item"]),
            matrix @ (right[1].double()[:, None] * want["item"]),
        ]
        parts = user if target == "user" else [matrix.T @ want["user"]]
        theirs = 0.5 * (sum(parts) if combine == "sum" else torch.stack(parts, 1))
        source = "item" if target == "user" else "user"
        sides = {source: got[source]}, {source: want[source]}
        yield from gradients(f"hetero_spmm d {dim}, {combine}, to {target}", ours, sides[0], theirs, sides[1])


def attention(graph: Relation, heads: int, dim: int, dtype: torch.dtype) -> Iterator[Check]:
    """gat with dropout: what the counters keep is the same on every device."""
    scale, share, seed = wide(dtype), 0.3, 11
    got = {
        "dst": random(graph, graph.num_dst, heads, dtype=scale).requires_grad_(),
        "score": random(graph, graph.num_src, heads, dtype=scale).requires_grad_(),
        "x": random(graph, graph.num_src, heads, dim, dtype=dtype).requires_grad_(),
    }
    want = doubles(got)
    ours = ops.gat(graph, got["dst"], got["score"], got["x"], dropout=share, seed=seed)
    keep = keep_factors(graph.num_edges, heads, seed, share, graph.device).double()
    row, column = graph.rows, graph.indices.long()
    value = torch.nn.functional.leaky_relu(want["dst"][row] + want["score"][column], 0.2).exp()
    total = value.new_zeros(graph.num_dst, heads).index_add(0, row, value)
    weighted = (keep * value / total[row])[..., None] * want["x"][column]
    theirs = weighted.new_zeros(graph.num_dst, heads, dim).index_add(0, row, weighted)
    yield from gradients(f"gat {heads} x {dim}, dropout", ours, got, theirs, want)


def ranking(graph: Relation, dim: int, k: int) -> Iterator[Check]:
    """topk_scores among candidates, with exact scores."""
    user_x, item_x = (random(graph, size, dim).mul(2).round() for size in (graph.num_dst, graph.num_src))
    allowed = integers(graph, 3, graph.num_src) > 0
    values, items = ops.topk_scores(user_x, item_x, k, graph.indptr, graph.indices, candidates=allowed)
    scores = (user_x @ item_x.T).masked_fill(~allowed | (dense(graph) > 0), -torch.inf)
    wanted, order = torch.sort(scores, dim=1, descending=True, stable=True)
    wanted, order = wanted[:, :k], order[:, :k].masked_fill(wanted[:, :k] == -torch.inf, -1)
    yield exact(f"topk_scores d {dim}, k {k}, candidates: values", values, wanted)
    yield exact(f"topk_scores d {dim}, k {k}, candidates: items", items, order)


def negatives(graph: Relation, count: int) -> Iterator[Check]:
    """sample_negatives by popularity, from a pool, and by weights of a pool."""
    users = integers(graph, graph.num_dst, count)
    pool = integers(graph, graph.num_src, 50)
    popularity = torch.bincount(graph.indices.long(), minlength=graph.num_src).double().add(1).pow(0.75).cpu()
    host = [part.cpu().numpy() for part in (users, graph.indptr, graph.indices)]
    for name, slots, weights in (
        ("popularity", None, popularity),
        ("pool", pool, None),
        ("pool by weight", pool, popularity[:50]),
    ):
        table = None if weights is None else AliasTable.from_weights(weights)
        parts = (None, None) if table is None else (table.probability.cpu().numpy(), table.alias.cpu().numpy())
        distribution = (
            None if table is None else AliasTable(table.probability.to(graph.device), table.alias.to(graph.device))
        )
        got = sample_negatives(graph, users, seed=3, offset=9, distribution=distribution, pool=slots)
        own = None if slots is None else slots.cpu().numpy()
        wanted = _negatives_reference(*host, own, *parts, graph.num_src, 3, 9, 1000)
        yield exact(f"sample_negatives {count}, {name}", got, torch.from_numpy(wanted))


def all_variants(graph: Relation) -> Iterator[Check]:
    """Every check on one small bipartite graph (users, items); matrices of its size are written out."""
    for dtype in ALLOWED:
        for dim in (3, 64):
            yield from product(graph, dim, dtype)
            yield from several_relations(graph, dim, dtype)
        yield from attention(graph, 2, 5, dtype)
    yield from ranking(graph, 7, 20)
    yield from negatives(graph, 300)
