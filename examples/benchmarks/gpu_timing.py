"""Timings of the CUDA operators and of a LightGCN epoch for the GPU benchmark; imported by gpu.py.

Our operators are captured into CUDA graphs, so that a time is the device's and not that of the calls. "Warm" repeats one call
on the same data; "cold" writes a buffer larger than the L2 cache before each and subtracts that. Torch's operators run in a
plain loop, whose calls overlap with the device's work.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from gpu_checks import GAT, GATV2, Attention, attention_reference, integers, random, torch_csr
from gpu_timing_calls import calls
from torch import Tensor
from torch.nn import functional

from graphrec import _kernels, ops
from graphrec.ops import Relation
from graphrec.ops.adam import adam_step
from graphrec.ops.sampling import negatives_forward
from graphrec.ops.sddmm import sddmm_forward

Row = dict[str, Any]
BATCH, DIM, LAYERS = 2048, 64, 3


def elapsed(run: Callable[[], Any], repeats: int = 7) -> float:
    """Median microseconds on the device, after a warm-up."""
    run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    return statistics.median(times)


def capture(run: Callable[[], Any], count: int = 1) -> torch.cuda.CUDAGraph:
    """`count` calls of `run` as one CUDA graph; `run` must not wait for the device."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is set up at first use must not be captured
        run()
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            run()
    return graph


class Clock:
    """Warm and cold times; `flush` writes more than any L2 cache holds."""

    def __init__(self, device: torch.device) -> None:
        self.buffer = torch.empty(256 << 20, dtype=torch.uint8, device=device)
        self.flush = elapsed(capture(self.buffer.zero_, 5).replay) / 5
        half = len(self.buffer) // 2
        copy = elapsed(capture(lambda: self.buffer[:half].copy_(self.buffer[half:]), 5).replay) / 5
        self.bandwidth = 2 * half / copy * 1e6

    def times(self, run: Callable[[], Any], count: int = 20) -> tuple[float, float]:
        def flushed() -> None:
            self.buffer.zero_()
            run()

        warm = elapsed(capture(run, count).replay) / count
        return warm, elapsed(capture(flushed, 5).replay) / 5 - self.flush

    def row(
        self,
        name: str,
        run: Callable[[], Any],
        moved: float,
        peers: dict[str, Callable[[], Any]],
        count: int = 20,
        **more: Any,
    ) -> Row:
        """One row of the table; `moved` counts every gathered row, whether or not a cache has it."""
        warm, cold = self.times(run, count)
        row = {"operator": name, **more, "warm_us": warm, "cold_us": cold}
        row |= {"gb_s": moved / warm / 1e3, "of_copy": moved / warm * 1e6 / self.bandwidth}
        return row | {peer: peer_time(call) for peer, call in peers.items()}


def peer_time(call: Callable[[], Any], count: int = 10) -> float | None:
    """Microseconds of one of `count` calls; None where torch does not take the dtype or layout."""

    def several() -> None:
        for _ in range(count):
            call()

    try:
        return elapsed(several, 3) / count
    except (RuntimeError, NotImplementedError) as problem:
        print(f"torch: {str(problem).splitlines()[0]}")
        return None


def normalised(graph: Relation, dtype: torch.dtype) -> Tensor:
    """The symmetric normalisation as torch's CSR tensor."""
    scale = graph.scale_dst(-0.5)
    return torch_csr(graph, (scale[graph.rows] * scale[graph.indices.long()]).to(dtype))


def propagation(clock: Clock, square: Relation) -> Iterator[Row]:
    """spmm and sddmm over both directions of all edges."""
    row, column = square.rows, square.indices.long()
    edges, nodes = square.num_edges, square.num_dst
    for dtype in (torch.float32, torch.bfloat16):
        matrix = normalised(square, dtype)
        for dim in (16, 32, 64, 128, 256):
            x = random(square, nodes, dim, dtype=dtype)
            width = x.element_size() * dim
            more = {"dtype": str(dtype)[6:], "d": dim}
            peers: dict[str, Callable[[], Any]] = {"csr_us": lambda x=x, matrix=matrix: matrix @ x}

            def product(x: Tensor = x) -> Tensor:
                return ops.normalised_forward(square, x)

            yield clock.row("spmm", product, edges * (8 + width) + nodes * (8 + width), peers, **more)

            def scores(x: Tensor = x) -> Tensor:
                return sddmm_forward(square.indptr, square.indices, x, x)

            peers = {"torch_us": lambda x=x: (x[row] * x[column]).sum(1)} if dim <= 64 else {}
            yield clock.row("sddmm", scores, edges * (8 + width) + nodes * width, peers, **more)


def attention(clock: Clock, graph: Relation) -> Iterator[Row]:
    """gat and gatv2 from items to users, 4 heads of 16."""
    for kind, name in ((GAT, "gat"), (GATV2, "gatv2")):
        for dtype in (torch.float32, torch.bfloat16):
            parts = Attention(graph, kind, 4, 16, dtype)
            width, edges = parts.x.element_size() * 64, graph.num_edges
            more = {"dtype": str(dtype)[6:], "d": 64}
            forward, backward = torch_attention(parts)
            yield clock.row(f"{name} forward", parts.forward, edges * (4 + width), {"torch_us": forward}, **more)
            yield clock.row(f"{name} backward", parts.backward, edges * (24 + 2 * width), {"torch_us": backward}, **more)


def torch_attention(parts: Attention) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same layer and its gradients with torch's operators, one per step of the formula."""
    values = [None if v is None else v.clone().requires_grad_() for v in (parts.dst, parts.score, parts.x, parts.vector)]
    given = [v for v in values if v is not None]

    def forward() -> Tensor:
        return attention_reference(parts.graph, parts.kind, *values)

    y = forward()
    gradient = parts.gradient.to(y.dtype)
    return forward, lambda: torch.autograd.grad(y, given, gradient, retain_graph=True)


def ranking(clock: Clock, graph: Relation) -> Iterator[Row]:
    """topk_scores for all users over all items, beside torch's product and top-k in blocks of 2048 users."""
    user_x, item_x = (random(graph, size, DIM) for size in (graph.num_dst, graph.num_src))
    row, column = graph.rows, graph.indices.long()
    offsets = graph.indptr.tolist()

    def ours() -> tuple[Tensor, Tensor]:
        return torch.ops.graphrec.topk_scores(user_x, item_x, 20, graph.indptr, graph.indices, None)

    def theirs() -> None:
        for first in range(0, graph.num_dst, 2048):
            scores = user_x[first : first + 2048] @ item_x.T
            seen = slice(offsets[first], offsets[min(first + 2048, graph.num_dst)])
            scores[row[seen] - first, column[seen]] = -torch.inf
            scores.topk(20)

    moved = 4.0 * DIM * (graph.num_dst + graph.num_src)
    result = clock.row("topk_scores", ours, moved, {}, 2, dtype="float32", d=DIM)
    operations = 2 * DIM * graph.num_dst * graph.num_src
    yield result | {"torch_us": peer_time(theirs, 1), "tflop_s": operations / result["warm_us"] / 1e6}


def training_parts(clock: Clock, graph: Relation) -> Iterator[Row]:
    """sample_negatives for an epoch, bpr at the batch of an epoch's step, Adam over both tables."""
    edges, users = graph.num_edges, graph.rows
    arguments = (users, graph.indptr, graph.indices, graph.num_src, None, None, None, 1, 0, 1000)
    yield clock.row("sample_negatives", lambda: negatives_forward(*arguments), 32 * edges, {}, dtype="int64")
    tables = [random(graph, size, DIM) for size in (graph.num_dst, graph.num_src)]
    index = [integers(graph, size, BATCH) for size in (graph.num_dst, graph.num_src, graph.num_src)]
    groups = [grouped(part[None], size) for part, size in ((index[0], graph.num_dst), (torch.cat(index[1:]), graph.num_src))]
    step = BprStep(*tables, index, [part[0] for pair in groups for part in pair])

    def theirs() -> Tensor:
        user = tables[0][index[0]]
        return functional.softplus((user * (tables[1][index[2]] - tables[1][index[1]])).sum(1)).mean()

    more = {"dtype": "float32", "d": DIM}
    yield clock.row("bpr", step.forward, BATCH * 12 * DIM, {"torch_us": theirs}, **more)
    written = 4 * DIM * (graph.num_dst + graph.num_src)
    yield clock.row("bpr backward", step.backward, BATCH * 20 * DIM + written, {}, **more)
    state = [random(graph, graph.num_dst + graph.num_src, DIM).abs_() for _ in range(4)]
    parameter = torch.nn.Parameter(state[0].clone())
    parameter.grad = state[1]
    fused = torch.optim.Adam([parameter], fused=True)
    moved = 28 * state[0].numel()
    yield clock.row("adam", lambda: adam_step(*state, step=2), moved, {"torch_us": fused.step}, **more)


class BprStep:
    """bpr and its gradients into tables that stay in place; nothing waits for the device, so that it can be captured.

    `batch`: users, positives, negatives. `groups`: as `grouped` gives them, for the users and for positives and negatives.
    """

    def __init__(self, user_x: Tensor, item_x: Tensor, batch: Sequence[Tensor], groups: Sequence[Tensor]) -> None:
        self.user_x, self.item_x, self.groups = user_x, item_x, groups
        users, positives, negatives = batch
        self.index = users, positives, negatives[:, None]
        self.losses = torch.empty(len(users), device=user_x.device)
        self.slopes = torch.empty(len(users), 1, device=user_x.device)
        self.gradients = torch.zeros_like(user_x), torch.zeros_like(item_x)
        self.one = torch.ones(1, device=user_x.device)
        self.code = _kernels.DTYPES[user_x.dtype], len(users), 1, user_x.shape[1]

    def forward(self) -> None:
        dtype, *shape = self.code
        _kernels.call("bpr", self.user_x, dtype, *shape, self.user_x, self.item_x, *self.index, self.losses, self.slopes)

    def backward(self) -> None:
        dtype, *shape = self.code
        tables = self.user_x, self.item_x
        _kernels.call(
            *(
                "bpr_backward",
                self.user_x,
                dtype,
                *map(len, tables),
                *shape,
                *tables,
                *self.index,
                self.slopes,
                self.one,
            ),
            *(1.0 / len(self.losses), *self.groups, *self.gradients),
        )


def grouped(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As graphrec.ops.losses.group for each row of `index` (steps, entries): indptr (steps, size + 1) and order."""
    counts = index.new_zeros(len(index), size + 1)
    counts.scatter_add_(1, index + 1, torch.ones_like(index))
    return counts.cumsum(1), torch.argsort(index, dim=1, stable=True)


class Epoch:
    """LightGCN with BPR: three layers forward and three back in one captured graph per step, then Adam.

    As in training, the last layer forward is computed at the rows of the batch alone.
    """

    def __init__(self, graph: Relation, square: Relation, dtype: torch.dtype) -> None:
        self.graph, self.square, self.dtype = graph, square, dtype
        self.x = random(square, square.num_dst, DIM) * 0.1
        self.moments = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.steps, self.step = graph.num_edges // BATCH, 0
        sizes = [BATCH] * 3 + [3 * BATCH, graph.num_dst + 1, BATCH, graph.num_src + 1, 2 * BATCH]
        self.data = torch.zeros(sum(sizes), dtype=torch.int64, device=self.x.device)  # of a step
        parts = self.data.split(sizes)
        self.batch, self.nodes, groups = parts[:3], parts[3], parts[4:]
        self.output, self.gradient = (torch.empty_like(self.x, dtype=dtype) for _ in range(2))
        self.loss = BprStep(self.output[: graph.num_dst], self.output[graph.num_dst :], self.batch, groups)
        self.loss.gradients = self.gradient[: graph.num_dst], self.gradient[graph.num_dst :]
        self.data.copy_(self.draw()[0])
        self.captured = capture(self._passes)

    def _layer(self, y: Tensor, x: Tensor, factor: float = 1.0, rows: Tensor | None = None) -> Tensor:
        return ops.normalised_forward(self.square, y, factor, x, rows)

    def _passes(self) -> None:
        """(x + A x + A² x + A³ x) / 4 as three products that add x, the loss, and the same for its gradient: A is symmetric."""
        x, nodes, g, factor = self.x.to(self.dtype), self.nodes, self.gradient, 1.0 / (LAYERS + 1)
        y = self._layer(self._layer(x, x), x)
        self.output[nodes] = self._layer(y, x[nodes], factor, nodes)
        self.loss.forward()
        self.loss.backward()
        self.table_gradient = self._layer(self._layer(self._layer(g, g), g), g, factor)

    def draw(self) -> Tensor:
        """The batches of an epoch, their nodes and groups (steps, ...): a random order of the edges, and a negative for each."""
        graph, shape = self.graph, (self.steps, BATCH)
        order = torch.randperm(graph.num_edges, device=self.x.device)[: self.steps * BATCH]
        users, positives = graph.rows[order], graph.indices[order].long()
        sampling = users, graph.indptr, graph.indices, graph.num_src, None, None, None, 1, self.step * BATCH, 1000
        drawn = [part.view(shape) for part in (users, positives, negatives_forward(*sampling)[0])]
        items = torch.cat(drawn[1:], 1)
        groups = grouped(drawn[0], graph.num_dst) + grouped(items, graph.num_src)
        return torch.cat([*drawn, drawn[0], items + graph.num_dst, *groups], 1)

    def run(self) -> None:
        for data in self.draw():
            self.data.copy_(data)
            self.captured.replay()
            self.step += 1
            adam_step(self.x, self.table_gradient, *self.moments, step=self.step)

    def torch_step(self) -> Callable[[], None]:
        """The same step written with torch's operators."""
        matrix, parameter = normalised(self.square, torch.float32), torch.nn.Parameter(self.x.clone())
        optimiser = torch.optim.Adam([parameter], fused=True)
        users, positives, negatives = (part.clone() for part in self.batch)

        def step() -> None:
            y = total = parameter
            for _ in range(LAYERS):
                y = matrix @ y
                total = total + y
            user_x, item_x = (total / (LAYERS + 1)).split([self.graph.num_dst, self.graph.num_src])
            excess = (user_x[users] * (item_x[negatives] - item_x[positives])).sum(1)
            optimiser.zero_grad()
            functional.softplus(excess).mean().backward()
            optimiser.step()

        return step


def epochs(graph: Relation, square: Relation) -> Iterator[Row]:
    for dtype in (torch.float32, torch.bfloat16):
        epoch = Epoch(graph, square, dtype)
        epoch.run()
        first = float(epoch.loss.losses.mean())
        seconds = elapsed(epoch.run, 2) / 1e6
        row = {
            "operator": "LightGCN epoch",
            "dtype": str(dtype)[6:],
            "d": DIM,
            "steps": epoch.steps,
            "seconds": seconds,
        }
        if dtype == torch.float32:
            theirs = peer_time(epoch.torch_step())
            row["torch_seconds"] = None if theirs is None else theirs * epoch.steps / 1e6
        yield row | {"loss_after_1": first, "loss_after_4": float(epoch.loss.losses.mean())}


def all_timings(graph: Relation, square: Relation) -> Iterator[Row]:
    """Every row of the table, the copy bandwidth first."""
    clock = Clock(graph.device)
    yield {"operator": "copy", "gb_s": clock.bandwidth / 1e9}
    yield from propagation(clock, square)
    yield from attention(clock, graph)
    yield from ranking(clock, graph)
    yield from training_parts(clock, graph)
    yield from epochs(graph, square)
    yield from calls(graph, peer_time)
