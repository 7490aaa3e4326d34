"""LightGCN's epoch for the GPU benchmark, with one CUDA graph a step, and checks of its loss and gradient; imported by gpu.py.

The epoch is the benchmark's own. It differs from the training of the toolkit, whose loop does not capture its steps: there is no L2
penalty, an epoch's batches are drawn at once, and Adam and the copy of a batch run outside the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from gpu_checks import ALLOWED, Check, both_ways, error, log_one_plus_exp, random, torch_csr
from torch import Tensor
from torch.nn import functional

from graphrec import _kernels
from graphrec.ops import Relation
from graphrec.ops.adam import adam_step
from graphrec.ops.sampling import negatives_forward
from graphrec.ops.spmm import product, scale_dtype

BATCH, DIM, LAYERS = 2048, 64, 3


def capture(run: Callable[[], Any], count: int = 1) -> torch.cuda.CUDAGraph:
    """`count` calls of `run` as one CUDA graph; `run` must not wait for the device.

    The stream in use is the same afterwards, also where `run` cannot be captured, which raises RuntimeError.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is set up at first use must not be captured
        run()
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
        for _ in range(count):
            run()
    return graph


def normalised(graph: Relation, dtype: torch.dtype) -> Tensor:
    """The symmetric normalisation as torch's CSR tensor."""
    scale = graph.scale_dst(-0.5)
    return torch_csr(graph, (scale[graph.rows] * scale[graph.indices.long()]).to(dtype))


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

    As in training, the last layer forward is computed at the rows of the batch alone. `capture` makes of the passes something that
    replays them.
    """

    def __init__(
        self, graph: Relation, square: Relation, dtype: torch.dtype, size: int = BATCH, capture: Callable[[Callable[[], Any]], Any] = capture
    ) -> None:
        self.graph, self.square, self.dtype, self.size = graph, square, dtype, size
        self.x = random(square, square.num_dst, DIM) * 0.1
        self.moments = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.steps, self.step = graph.num_edges // size, 0
        sizes = [size] * 3 + [3 * size, graph.num_dst + 1, size, graph.num_src + 1, 2 * size]
        self.data = torch.zeros(sum(sizes), dtype=torch.int64, device=self.x.device)  # of a step
        parts = self.data.split(sizes)
        self.batch, self.nodes, groups = parts[:3], parts[3], parts[4:]
        self.output, self.gradient = (torch.empty_like(self.x, dtype=dtype) for _ in range(2))
        self.loss = BprStep(self.output[: graph.num_dst], self.output[graph.num_dst :], self.batch, groups)
        self.loss.gradients = self.gradient[: graph.num_dst], self.gradient[graph.num_dst :]
        self.data.copy_(self.draw()[0])
        self.captured = capture(self._passes)

    def _layer(self, y: Tensor, x: Tensor, factor: float = 1.0, rows: Tensor | None = None) -> Tensor:
        """`normalised_forward`, but rows may repeat, as those of a batch do: the gradients are written out here."""
        square, dtype = self.square, scale_dtype(y)
        scales = square.scale_dst(-0.5, dtype), None
        return product(square.indptr, square.indices, y, *scales, factor, x, factor, rows, edge_weight=square.scale_edges(-0.5, dtype))[0]

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
        graph, shape = self.graph, (self.steps, self.size)
        order = torch.randperm(graph.num_edges, device=self.x.device)[: self.steps * self.size]
        users, positives = graph.rows[order], graph.indices[order].long()
        sampling = users, graph.indptr, graph.indices, graph.num_src, None, None, None, 1, self.step * self.size, 1000
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


def captured_checks(graph: Relation) -> Iterator[Check]:
    """`epoch_checks` of steps that are captured, which takes a GPU."""
    return epoch_checks(graph, capture)


def epoch_checks(graph: Relation, capture: Callable[[Callable[[], Any]], Any] = lambda run: SimpleNamespace(replay=run)) -> Iterator[Check]:
    """The pairs' losses and the table's gradient at the first and the last step of an epoch, against autograd in float64.

    Args:
        graph: users by items.
        capture: makes of a call something that replays it; as it stands, without a CUDA graph.
    """
    square = both_ways(graph)
    for dtype in (torch.float32, torch.bfloat16):
        epoch = Epoch(graph, square, dtype, min(128, graph.num_edges), capture)
        drawn = epoch.draw()
        for place in (0, len(drawn) - 1):
            epoch.data.copy_(drawn[place])
            epoch.gradient.fill_(torch.nan)
            epoch.captured.replay()
            losses, gradient = _exact_step(epoch)
            parts = {  # log 2 is what pairs of equal scores lose, far more than pairs differ by
                "losses": (epoch.loss.losses - math.log(2), losses - math.log(2)),
                "gradient": (epoch.table_gradient, gradient),
            }
            for name, (got, wanted) in parts.items():
                size = float(wanted.abs().max())  # beside 1 every error would be small
                _, worst, _ = error(name, got.float() / size, wanted / size)
                yield f"LightGCN epoch, {name}, step {place}, {str(dtype)[6:]}", worst, 2 * ALLOWED[dtype]


def _exact_step(epoch: Epoch) -> tuple[Tensor, Tensor]:
    """Losses (B,) and the gradient of their mean by the table (N, D), both float64."""
    square, x = epoch.square, epoch.x.double().requires_grad_()
    row, column, scale = square.rows, square.indices.long(), square.scale_dst(-0.5, torch.float64)
    weight = (scale[row] * scale[column])[:, None]
    y = total = x
    for _ in range(LAYERS):
        y = torch.zeros_like(x).index_add(0, row, weight * y[column])
        total = total + y
    user_x, item_x = (total / (LAYERS + 1)).split([epoch.graph.num_dst, epoch.graph.num_src])
    users, positives, negatives = epoch.batch
    losses = log_one_plus_exp((user_x[users] * (item_x[negatives] - item_x[positives])).sum(1))
    return losses.detach(), torch.autograd.grad(losses.mean(), x)[0]
