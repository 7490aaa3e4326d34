"""Timings of the CUDA operators and of a LightGCN epoch for the GPU benchmark; imported by gpu.py.

Our operators are captured into CUDA graphs, so that a time is the device's and not that of the calls. "Warm" repeats one call
on the same data; "cold" writes a buffer larger than the L2 cache before each and subtracts that. Torch's operators
are captured as well where torch can; elsewhere they run in a plain loop, whose calls overlap with the device's work but take longer
than it where there is little of that. `peer_by` says which: "graph" or "loop".
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_checks import GAT, GATV2, Attention, attention_reference, integers, random
from gpu_epoch import BATCH, DIM, BprStep, Epoch, capture, grouped, normalised
from gpu_timing_calls import calls
from torch import Tensor
from torch.nn import functional

from graphrec import ops
from graphrec.ops import Relation
from graphrec.ops.adam import adam_step
from graphrec.ops.sampling import negatives_forward
from graphrec.ops.sddmm import sddmm_forward

Row = dict[str, Any]


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
        looped: bool = False,
        **more: Any,
    ) -> Row:
        """One row of the table; `moved` counts every gathered row, whether or not a cache has it; `looped`: so are the peers."""
        warm, cold = self.times(run, count)
        row = {"operator": name, **more, "warm_us": warm, "cold_us": cold}
        row |= {"gb_s": moved / warm / 1e3, "of_copy": moved / warm * 1e6 / self.bandwidth}
        for peer, call in peers.items():
            row[peer], row["peer_by"] = (peer_time(call), "loop") if looped else fair_time(call)
        return row


def fair_time(call: Callable[[], Any], count: int = 10) -> tuple[float | None, str | None]:
    """Microseconds of one of `count` calls and how they were made: as one CUDA graph, or in a loop where torch cannot capture them."""
    try:
        return elapsed(capture(call, count).replay, 3) / count, "graph"
    except (RuntimeError, NotImplementedError) as problem:
        print(f"torch, as a CUDA graph: {str(problem).splitlines()[0]}")
    taken = peer_time(call, count)
    return taken, None if taken is None else "loop"


def peer_time(call: Callable[[], Any], count: int = 10) -> float | None:
    """Microseconds of one of `count` calls in a loop; None where torch does not take the dtype or layout."""

    def several() -> None:
        for _ in range(count):
            call()

    try:
        return elapsed(several, 3) / count
    except (RuntimeError, NotImplementedError) as problem:
        print(f"torch: {str(problem).splitlines()[0]}")
        return None


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
            # Torch's backward runs on the stream of its forward, outside any capture.
            moved = edges * (24 + 2 * width)
            yield clock.row(f"{name} backward", parts.backward, moved, {"torch_us": backward}, looped=True, **more)


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
    yield result | {"torch_us": peer_time(theirs, 1), "peer_by": "loop", "tflop_s": operations / result["warm_us"] / 1e6}


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
    fused = torch.optim.Adam([parameter], fused=True, capturable=True)
    moved = 28 * state[0].numel()
    yield clock.row("adam", lambda: adam_step(*state, step=2), moved, {"torch_us": fused.step}, **more)


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
            row["peer_by"] = "loop"
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
