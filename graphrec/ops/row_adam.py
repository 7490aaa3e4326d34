"""Adam for tables of which a step knows some rows only: the others are stepped later, when they are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphrec.ops.adam import FusedAdam

_WINDOW = 256  # steps after which the first moment of an idle row has nothing left to say: (0.9 / sqrt(0.999))^256 < 1e-11
_ROWS_AT_ONCE = 1 << 16


class RowAdam(FusedAdam):
    """Adam whose steps on rows without a gradient are made up for when the row is next read; dense gradients as in `FusedAdam`.

    Adam goes on moving a row that has no gradient, by the first moment that it has left. After its step s, a row that stays
    without gradient until step t moves, with ρ = β1 / sqrt(β2) and rate_j that of step j, by

    - m / (sqrt(v) + epsilon') · S(s, t),  S(s, t) = Σ_{j = s+1..t} ρ^(j-s) · rate_j sqrt(1 - β2^j) / (1 - β1^j),

    and its moments become β1^(t-s) m and β2^(t-s) v. `catch_up(table, rows)` does so before a step reads the rows and `settle`
    for all rows, so that training on rows is Adam's, step by step, and a step costs what its rows cost, however long the table
    is. epsilon' is epsilon as it counts in the first idle step; that it changes with j is the one thing left out.

    Args:
        params, lr, eps: as in `FusedAdam`.
        betas: β1 and β2, with β1² < β2.

    Raises:
        ValueError: a setting is out of range, or a sparse gradient is not one of whole rows.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1. `torch.optim.SparseAdam` leaves rows without a gradient alone, and
    so takes steps that are fewer and, for rows that come late, longer.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr, betas, eps)
        if not betas[0] ** 2 < betas[1]:
            raise ValueError(f"RowAdam: the square of the first beta must be below the second, got betas = {betas}")

    @torch.no_grad()
    def catch_up(self, parameter: Tensor, rows: Tensor) -> None:
        """Bring rows of a table up to now; nothing for one that has had no sparse gradient yet.

        Args:
            parameter: one of `params`.
            rows: int64 (r,), distinct.
        """
        state = self.state.get(parameter, {})
        if "seen" not in state:
            return
        now = int(state["step"])
        seen = state["seen"][rows]
        late = seen < now
        rows, seen = rows[late], seen[late]
        if not len(rows):
            return
        (group,) = (group for group in self.param_groups if any(one is parameter for one in group["params"]))
        (beta1, beta2), epsilon = group["betas"], group["eps"]
        idle = (now - seen).double()
        first, second = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        shape = (-1, *[1] * (parameter.dim() - 1))

        def per_row(values: Tensor) -> Tensor:
            return values.to(parameter.dtype).view(shape)

        small = per_row(epsilon * ((1 - beta2 ** (seen + 1).double()) / beta2).sqrt())
        moved = first * per_row(state["drift"][seen]) / (second.sqrt() + small)
        parameter[rows] = parameter[rows] - moved
        state["exp_avg"][rows] = first * per_row(beta1**idle)
        state["exp_avg_sq"][rows] = second * per_row(beta2**idle)
        state["seen"][rows] = now

    def settle(self) -> None:
        """Bring all rows of all tables up to now, for whoever reads them as a whole."""
        for group in self.param_groups:
            for parameter in group["params"]:
                for rows in torch.arange(len(parameter) if parameter.dim() else 0, device=parameter.device).split(_ROWS_AT_ONCE):
                    self.catch_up(parameter, rows)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if parameter.grad.layout == torch.strided:
            super()._update(parameter, group)
            return
        gradient = parameter.grad.coalesce()
        if gradient.sparse_dim() != 1:
            raise ValueError(f"RowAdam: a sparse gradient must be one of whole rows, got {gradient.sparse_dim()} sparse dimensions")
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["seen"] = torch.zeros(len(parameter), dtype=torch.int64, device=parameter.device)
            state["drift"] = torch.zeros(1, dtype=torch.float64, device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        rows, values = gradient.indices()[0], gradient.values()
        self.catch_up(parameter, rows)
        state["step"] += 1
        now, rate, (beta1, beta2) = int(state["step"]), float(group["lr"]), group["betas"]
        correction = (1 - beta2**now) ** 0.5
        length = rate / (1 - beta1**now)
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        for name, value in (("exp_avg", first), ("exp_avg_sq", second)):
            state[name][rows] = value
        parameter[rows] = parameter[rows].addcdiv_(first, second.sqrt_().div_(correction).add_(group["eps"]), value=-length)
        state["seen"][rows] = now
        self._note_drift(state, now, length * correction, beta1 / beta2**0.5)

    def _note_drift(self, state: dict[str, Any], now: int, weight: float, ratio: float) -> None:
        """Add step `now` to S(s, now) of every s before it; S(now, now) is 0."""
        if now >= len(state["drift"]):
            state["drift"] = torch.cat([state["drift"], state["drift"].new_zeros(max(1024, now))])
        start = max(0, now - _WINDOW)
        ages = torch.arange(now - start, 0, -1, dtype=torch.float64, device=state["drift"].device)
        state["drift"][start:now] += weight * ratio**ages
