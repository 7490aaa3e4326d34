"""Adam that touches only the rows of a table that have a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphrec.ops.adam import FusedAdam


class RowAdam(FusedAdam):
    """Adam with a clock for each row of a table with sparse gradients; dense gradients are stepped as in `FusedAdam`.

    For the rows r that have a gradient g, with t_r the steps that row r has had, this one included:

    m_r ← m_r + (1 - β1)(g - m_r);  v_r ← β2 v_r + (1 - β2) g²;
    p_r ← p_r - rate / (1 - β1^t_r) · m_r / (sqrt(v_r) / sqrt(1 - β2^t_r) + epsilon)

    A row without a gradient is left alone, moments and clock included, so a step costs what its rows cost, however long the
    table is. A table all of whose rows have a gradient in every step is stepped as Adam steps it.

    Args:
        params, lr, betas, eps: as in `FusedAdam`.

    Raises:
        ValueError: a setting is out of range, or a sparse gradient is not one of whole rows.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1, kept for each row by itself. `torch.optim.SparseAdam` counts the
    steps of the whole table: there a row that comes late starts with steps up to (1 - β1) / sqrt(1 - β2) = 3 times as long.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr, betas, eps)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if parameter.grad.layout == torch.strided:
            super()._update(parameter, group)
            return
        gradient = parameter.grad.coalesce()
        if gradient.sparse_dim() != 1:
            raise ValueError(f"RowAdam: a sparse gradient must be one of whole rows, got {gradient.sparse_dim()} sparse dimensions")
        state = self.state[parameter]
        if not state:
            state["step"] = parameter.new_zeros(len(parameter), dtype=torch.float32)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        rows, values = gradient.indices()[0], gradient.values()
        rate, (beta1, beta2), epsilon = float(group["lr"]), group["betas"], group["eps"]
        step = state["step"][rows] + 1
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        for name, value in (("step", step), ("exp_avg", first), ("exp_avg_sq", second)):
            state[name][rows] = value
        step = step.double()  # 1 - β2^t loses half of its digits in float32
        shape = (-1, *[1] * (values.dim() - 1))
        correction = ((1 - beta2**step).sqrt()).to(values.dtype).view(shape)
        length = (rate / (1 - beta1**step)).to(values.dtype).view(shape)
        scale = second.sqrt_().div_(correction).add_(epsilon)
        parameter[rows] = parameter[rows] - first.mul_(length).div_(scale)
