"""Graphs for the GPU benchmark and checks of every CUDA operator against float64; imported by gpu.py.

A check yields its name, the largest error as a share of max(1, largest value wanted), and the error that is allowed. The
samplers must agree exactly. Everything runs on the device of the graph, so that large cases are quick on a GPU and small ones
run on the host through the emulated library.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from graphrec import _kernels, ops
from graphrec.ops import Relation
from graphrec.ops.adam import _adam_reference, adam_step
from graphrec.ops.sampling import _negatives_reference, _neighbors_reference, sample_negatives, sample_neighbors

Check = tuple[str, float, float]
ALLOWED = {torch.float32: 5e-5, torch.float64: 1e-11, torch.bfloat16: 1e-2}
GAT, GATV2 = 1, 2


def relation_of(dst: Tensor, src: Tensor, num_dst: int, num_src: int) -> Relation:
    """Build from edges with torch alone; duplicates merge."""
    key = torch.unique(dst * num_src + src)
    rows, columns = key // num_src, key % num_src
    order = torch.argsort(columns, stable=True)
    indptr, t_indptr = (
        functional.pad(torch.bincount(index, minlength=size).cumsum(0), (1, 0))
        for index, size in ((rows, num_dst), (columns, num_src))
    )
    return Relation(indptr, columns.int(), t_indptr, rows[order].int(), num_dst, num_src)


def power_law(num_users: int, num_items: int, num_edges: int) -> Relation:
    """A random graph whose items have degrees like rank^-0.5 and whose users rank^-0.4, about `num_edges` edges: some repeat."""
    generator = torch.Generator().manual_seed(0)
    sides = []
    for size, exponent in ((num_users, 0.4), (num_items, 0.5)):
        weight = torch.arange(1.0, size + 1, dtype=torch.float64).pow(-exponent)[torch.randperm(size, generator=generator)]
        cumulative = weight.cumsum(0)
        drawn = torch.rand(num_edges, generator=generator, dtype=torch.float64) * cumulative[-1]
        sides.append(torch.searchsorted(cumulative, drawn).clamp_max(size - 1))
    return relation_of(*sides, num_users, num_items)


def read_relation(folder: Path) -> Relation:
    """Read the adjacency list `train.txt` or `train.txt.gz`: `user item item ...`."""
    path = folder / "train.txt"
    with path.open() if path.is_file() else gzip.open(folder / "train.txt.gz", "rt") as lines:
        lists = [torch.tensor([int(word) for word in line.split()]) for line in lines if line.strip()]
    users = torch.repeat_interleave(torch.stack([row[0] for row in lists]), torch.tensor([len(row) - 1 for row in lists]))
    items = torch.cat([row[1:] for row in lists])
    return relation_of(users, items, int(users.max()) + 1, int(items.max()) + 1)


def both_ways(relation: Relation) -> Relation:
    """All edges in both directions over one set of nodes, items after users."""
    users, items = relation.rows, relation.indices.long() + relation.num_dst
    size = relation.num_dst + relation.num_src
    return relation_of(torch.cat([users, items]), torch.cat([items, users]), size, size)


def random(like: Relation, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, device=like.device, dtype=torch.float64).to(dtype)


def integers(like: Relation, bound: int, *shape: int) -> Tensor:
    return torch.randint(bound, shape, generator=torch.Generator(like.device).manual_seed(bound), device=like.device)


def torch_csr(graph: Relation, values: Tensor) -> Tensor:
    """The relation with values (E,) as torch's CSR tensor, which cuSPARSE multiplies."""
    shape = graph.num_dst, graph.num_src
    return torch.sparse_csr_tensor(graph.indptr.int(), graph.indices, values, shape, check_invariants=False)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def error(name: str, got: Tensor, wanted: Tensor) -> Check:
    finite = wanted[wanted.isfinite()]
    size = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    difference = torch.where(got.double() == wanted, 0.0, (got.double() - wanted).abs())  # equal infinities
    worst = float(torch.nan_to_num(difference, nan=torch.inf).max()) if got.numel() else 0.0
    return f"{name} {str(got.dtype)[6:]}", worst / size, ALLOWED[got.dtype]


def exact(name: str, got: Tensor, wanted: Tensor) -> Check:
    return name, float((got.cpu() != wanted.cpu()).sum()), 0.0


def propagation(graph: Relation, dim: int, dtype: torch.dtype) -> Iterator[Check]:
    """spmm with scales, with its maximum and both backward passes, sddmm, push, hetero_spmm."""
    x, left = random(graph, graph.num_src, dim, dtype=dtype), graph.scale_dst(-0.5, wide(dtype))
    row, column = graph.rows, graph.indices.long()
    wanted = x.new_zeros(graph.num_dst, dim, dtype=torch.float64).index_add_(0, row, x.double()[column])
    tag = f"{graph.num_dst} x {graph.num_src}, d {dim}:"
    yield error(f"spmm {tag}", ops.spmm(graph, x, left=left), wanted * left.double()[:, None])
    dst_x = random(graph, graph.num_dst, dim, dtype=dtype)
    yield error(f"sddmm {tag}", ops.sddmm(graph, dst_x, x), (dst_x.double()[row] * x.double()[column]).sum(1))
    variable = x.clone().requires_grad_()
    y = ops.spmm(graph, variable, reduce="max")
    wide_x = x.double().requires_grad_()
    index = row[:, None].expand(-1, dim)
    largest = wide_x.new_full((graph.num_dst, dim), -torch.inf).scatter_reduce(0, index, wide_x[column], "amax")
    largest = torch.where(largest == -torch.inf, 0.0, largest)
    yield error(f"spmm max {tag}", y.detach(), largest.detach())
    if dtype != torch.bfloat16:  # rounded values tie, and torch shares a gradient among equals
        got, want = torch.autograd.grad(y, variable, dst_x)[0], torch.autograd.grad(largest, wide_x, dst_x.double())[0]
        yield error(f"spmm max backward {tag}", got, want)
    if dtype != torch.bfloat16:
        signals = torch.where(dst_x.T.abs() > 1.5, dst_x.T, 0.0)
        pushed = signals.new_zeros(dim, graph.num_src, dtype=torch.float64)
        pushed.index_add_(1, column, (signals.double() * left.double())[:, row])
        yield error(f"push {tag}", ops.push(graph, signals, left), pushed)
    out = torch.full_like(dst_x, torch.nan)
    parts = [[graph.num_dst, *(part.data_ptr() for part in (graph.indptr, graph.indices, x)), 0, 0, out.data_ptr(), dim]] * 2
    table = torch.tensor(parts, device=graph.device)
    _kernels.call("hetero_spmm", x, _kernels.DTYPES[dtype], 2, graph.num_dst, dim, table, 0.5)
    yield error(f"hetero_spmm {tag}", out, wanted)


def attention_reference(graph: Relation, kind: int, dst: Tensor, score: Tensor, x: Tensor, vector: Tensor) -> Tensor:
    row, column = graph.rows, graph.indices.long()
    value = dst[row] + (score if kind == GAT else x)[column]
    value = functional.leaky_relu(value, 0.2)
    value = value if kind == GAT else (value * vector).sum(-1)
    shares = (value - value.detach().max()).exp().to(x.dtype)
    total = torch.zeros(graph.num_dst, value.shape[1], dtype=x.dtype, device=x.device).index_add(0, row, shares)
    weighted = (shares / total[row])[..., None] * x[column]
    return x.new_zeros(graph.num_dst, *x.shape[1:]).index_add(0, row, weighted)


class Attention:
    """Buffers of one gat and gat_backward."""

    def __init__(self, graph: Relation, kind: int, heads: int, dim: int, dtype: torch.dtype) -> None:
        scores = wide(dtype)
        self.graph, self.kind = graph, kind
        self.x = random(graph, graph.num_src, heads, dim, dtype=dtype)
        shape = (graph.num_dst, heads) if kind == GAT else (graph.num_dst, heads, dim)
        self.dst = random(graph, *shape, dtype=scores if kind == GAT else dtype)
        self.score = random(graph, graph.num_src, heads, dtype=scores) if kind == GAT else None
        self.vector = None if kind == GAT else (random(graph, heads, dim).double() / dim**0.5).to(dtype)
        self.gradient = random(graph, graph.num_dst, heads, dim, dtype=dtype)
        self.y, self.lse = (
            torch.full_like(self.gradient, torch.nan),
            self.dst.new_empty(graph.num_dst, heads, dtype=scores),
        )
        inputs = self.dst, self.score, self.x
        self.gradients = [None if part is None else torch.full_like(part, torch.nan) for part in inputs]
        self.partials = None if kind == GAT else self.lse.new_empty(64, heads, dim)
        self.work = self.lse.new_empty(graph.num_dst, heads), self.lse.new_empty(graph.num_edges, heads)
        self.options, self.code = (0.2, 0.0, 0), _kernels.DTYPES[dtype]

    def forward(self) -> None:
        graph, inputs = self.graph, (self.dst, self.score, self.x, self.vector)
        sizes = graph.num_dst, *self.x.shape[1:]
        csr = graph.indptr, graph.indices
        _kernels.call("gat", self.x, self.code, self.kind, *sizes, *csr, *inputs, *self.options, self.y, self.lse)

    def backward(self) -> None:
        graph, inputs = self.graph, (self.dst, self.score, self.x, self.vector)
        sizes = graph.num_dst, graph.num_src, *self.x.shape[1:]
        csr = graph.indptr, graph.indices, graph.t_indptr, graph.t_indices, graph.t_edges
        outputs = self.y, self.lse, self.gradient, *self.gradients, 64, self.partials, *self.work
        _kernels.call("gat_backward", self.x, self.code, self.kind, *sizes, *csr, *inputs, *self.options, *outputs)

    def checks(self) -> Iterator[Check]:
        self.forward()
        self.backward()
        values = (self.dst, self.score, self.x, self.vector)
        variables = [None if v is None else v.double().requires_grad_() for v in values]
        wanted = attention_reference(self.graph, self.kind, *variables)
        name = f"{'gat' if self.kind == GAT else 'gatv2'} {self.graph.num_dst} rows, {tuple(self.x.shape[1:])}:"
        yield error(f"{name} y", self.y, wanted.detach())
        given = [v for v in variables if v is not None]
        gradients = iter(torch.autograd.grad(wanted, given, self.gradient.double()))
        third = None if self.partials is None else self.partials.sum(0)
        for part, got in zip(("dst", "score", "x", "vector"), (*self.gradients, third), strict=True):
            if got is not None:
                label, worst, _ = error(f"{name} gradient by {part}", got, next(gradients))
                yield label, worst, 4 * ALLOWED[self.x.dtype]  # the kernel reads y as rounded


def log_one_plus_exp(x: Tensor) -> Tensor:
    """Softplus to float64: torch's own takes x itself from 20 on, which is 2e-9 off."""
    return functional.softplus(x, threshold=40)


def losses(graph: Relation, dim: int, dtype: torch.dtype, batch: int, negatives: int) -> Iterator[Check]:
    """bpr with n = 3 and the sampled softmax with some hits, forward and backward, against autograd."""
    tag = f"batch {batch}, d {dim}:"
    tables = [random(graph, size, dim, dtype=dtype) / dim**0.25 for size in (graph.num_dst, graph.num_src)]
    users, positives = integers(graph, graph.num_dst, batch), integers(graph, graph.num_src, batch)
    several, one = integers(graph, graph.num_src, batch, 3), integers(graph, graph.num_src, negatives)
    weight = random(graph, negatives, dtype=wide(dtype))
    row, column = (torch.arange(size, device=graph.device) for size in (batch, negatives))
    hits = (row[:, None] % 7 == column % 11).nonzero().T
    got = [x.clone().requires_grad_() for x in tables]
    want = [x.double().requires_grad_() for x in tables]
    user, positive = want[0][users], want[1][positives]
    score = (user * positive).sum(1)
    excess = torch.einsum("bd,bnd->bn", user, want[1][several]) - score[:, None]
    logits = (user @ want[1][one].T / 0.3 + weight).index_put(tuple(hits), want[0].new_tensor(-torch.inf))
    pairs = {
        "bpr": (ops.bpr(*got, users, positives, several), log_one_plus_exp(excess).mean()),
        "sampled_softmax": (
            ops.sampled_softmax(*got, users, positives, one, weight, hits, 0.3),
            log_one_plus_exp(torch.logsumexp(logits, 1) - score / 0.3).mean(),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        yield error(f"{name} {tag}", ours.detach(), theirs.detach())
        left = torch.autograd.grad(ours * batch, got)
        right = torch.autograd.grad(theirs * batch, want, retain_graph=True)
        for side, gradient, other in zip(("users", "items"), left, right, strict=True):
            label, worst, allowed = error(f"{name} gradient by {side} {tag}", gradient, other)
            yield label, worst, 2 * allowed


def ranking(graph: Relation, dim: int, k: int) -> Iterator[Check]:
    """topk_scores: integer tables have exact scores, so the lists must be those of a stable sort."""
    user_x, item_x = (random(graph, size, dim).mul(2).round() for size in (graph.num_dst, graph.num_src))
    values, items = ops.topk_scores(user_x, item_x, k, graph.indptr, graph.indices)
    rows = torch.arange(0, graph.num_dst, max(1, graph.num_dst // 500), device=graph.device)
    scores = user_x[rows] @ item_x.T
    for place, row in enumerate(rows.tolist()):
        scores[place, graph.indices[graph.indptr[row] : graph.indptr[row + 1]].long()] = -torch.inf
    wanted, order = torch.sort(scores, dim=1, descending=True, stable=True)
    wanted, order = wanted[:, :k], order[:, :k].masked_fill(wanted[:, :k] == -torch.inf, -1)
    width = wanted.shape[1]
    tag = f"topk_scores {graph.num_dst} x {graph.num_src}, d {dim}, k {k}:"
    yield exact(f"{tag} values", values[rows][:, :width], wanted)
    yield exact(f"{tag} items", items[rows][:, :width], order)
    yield exact(f"{tag} of no items", ops.topk_scores(user_x, item_x[:0], k)[1], torch.full_like(items, -1))


def sampling(graph: Relation, count: int, fanout: int) -> Iterator[Check]:
    """The samplers against the NumPy rules."""
    users = integers(graph, graph.num_dst, count)
    host = [part.cpu().numpy() for part in (users, graph.indptr, graph.indices)]
    got = sample_negatives(graph, users, seed=3, offset=9)
    wanted = _negatives_reference(*host, None, None, None, graph.num_src, 3, 9, 1000)
    yield exact(f"sample_negatives {count}", got, torch.from_numpy(wanted))
    rows = users[: min(count, 300)]
    weights = random(graph, graph.num_edges).abs_()
    for name, weight in (("uniform", None), ("weighted", weights)):
        for replace in (False, True):
            got = sample_neighbors(graph, rows, fanout, weights=weight, replace=replace, seed=5)[1]
            host_weight = None if weight is None else weight.cpu().numpy()
            wanted = _neighbors_reference(rows.cpu().numpy(), host[1], host_weight, fanout, replace, 5, 0)
            yield exact(f"sample_neighbors {name}, replace {replace}, fanout {fanout}", got, torch.from_numpy(wanted))


def adam(graph: Relation, count: int) -> Iterator[Check]:
    for dtype in (torch.float32, torch.float64):
        got = [random(graph, count, dtype=dtype).abs_() * size for size in (1, 0.5, 0.2, 0.1)]
        want = [x.double().clone() for x in got]
        adam_step(*got, step=3, rate=0.01, weight_decay=0.1)
        _adam_reference(*want, 0.01, 0.9, 0.999, 1e-8, 0.1, 3)
        yield error(f"adam {count}", torch.cat([got[0], got[2], got[3]]), torch.cat([want[0], want[2], want[3]]))
        if dtype == torch.float32:
            got[1] = got[1].bfloat16()
            want = [x.double().clone() for x in got]
            adam_step(*got, step=3, rate=0.01, weight_decay=0.1)
            _adam_reference(*want, 0.01, 0.9, 0.999, 1e-8, 0.1, 3)
            name = f"adam {count}, bfloat16 gradient"
            yield error(name, torch.cat([got[0], got[2], got[3]]), torch.cat([want[0], want[2], want[3]]))


def all_checks(graph: Relation, large: bool) -> Iterator[Check]:
    """Every operator on one bipartite graph (users, items)."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for dim in (64,) if large else (3, 64):
            yield from propagation(graph, dim, dtype)
            yield from losses(graph, dim, dtype, 2048 if large else 41, 2048 if large else 131)
        for kind in (GAT, GATV2):
            yield from Attention(graph, kind, 2, 32 if large else 5, dtype).checks()
    yield from ranking(graph, 64, 20)
    if not large:
        yield from ranking(graph, 5, 70)
    yield from sampling(graph, 100_000 if large else 400, 10)
    yield from adam(graph, 4_500_001 if large else 1001)
