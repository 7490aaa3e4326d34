"""Adam in one pass over each table, with the interface and the state of `torch.optim.Adam`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import check_numbers
from graphrec.ops.registration import register


def adam_step(
    parameter: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    *,
    step: int,
    rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Make one Adam step in place.

    g ← g + weight_decay · p;  m ← m + (1 - β1)(g - m);  v ← β2 v + (1 - β2) g²;
    p ← p - rate / (1 - β1^step) · m / (sqrt(v) / sqrt(1 - β2^step) + epsilon)

    Moves 7 values per element. The gradient is left alone; in bfloat16 it is what a model computed in lower precision has, with
    the parameters and sums kept in float32.

    Args:
        parameter, first_moment, second_moment: contiguous float32 or float64, of one shape and dtype; overwritten.
        gradient: the same shape and dtype, or bfloat16 for float32 parameters.
        step: counts from 1.
        rate, betas, epsilon, weight_decay: of the formula.

    Raises:
        ValueError: shapes, dtypes or layouts differ, or step is below 1.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1, with its two divisions as `torch.optim.Adam` orders them.
    """
    parts = {"gradient": gradient, "first_moment": first_moment, "second_moment": second_moment}
    for name, value in parts.items():
        rounded = name == "gradient" and (parameter.dtype, value.dtype) == (torch.float32, torch.bfloat16)
        fits = rounded or value.dtype == parameter.dtype
        if value.shape != parameter.shape or not fits or value.device != parameter.device:
            wanted = f"{parameter.dtype} {tuple(parameter.shape)} on {parameter.device}"
            got = f"{value.dtype} {tuple(value.shape)} on {value.device}"
            raise ValueError(f"adam: {name} must be as the parameter, {wanted}, got {got}")
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"adam: parameters must be float32 or float64, got {parameter.dtype}")
    for name, value in {"parameter": parameter, "first_moment": first_moment, "second_moment": second_moment}.items():
        if not value.is_contiguous():
            raise ValueError(f"adam: {name} must be contiguous, got strides {value.stride()}")
    if step < 1:
        raise ValueError(f"adam: step counts from 1, got {step}")
    _ADAM(parameter, gradient.contiguous(), first_moment, second_moment, rate, *betas, epsilon, weight_decay, step)


_NOT_OURS = {"amsgrad": "torch.optim.Adam", "maximize": "torch.optim.Adam", "decoupled_weight_decay": "torch.optim.AdamW"}
"""Settings of torch's Adam that `FusedAdam` has not, and what has them."""


class FusedAdam(torch.optim.Optimizer):
    """`torch.optim.Adam` (without amsgrad) in one pass over each table: same arithmetic, and a `state_dict` that either can load.

    g ← g + weight_decay · p;  m ← m + (1 - β1)(g - m);  v ← β2 v + (1 - β2) g²;
    p ← p - lr / (1 - β1^t) · m / (sqrt(v) / sqrt(1 - β2^t) + eps)

    for each parameter p with its gradient g, in the step t that counts from 1; m and v start at 0. Moves 7 values per element
    and step: g, p, m and v are read, the last three written.

    Args:
        params: contiguous float32 or float64 parameters with dense gradients, or parameter groups.
        lr, betas, eps, weight_decay: as in `torch.optim.Adam`.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting is out of range, a parameter has another dtype or layout, or at `step` a gradient is sparse or does not fit, or a loaded state asks for
            amsgrad, maximize or AdamW's decoupled weight decay.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1, with its two divisions as `torch.optim.Adam` orders them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        check_numbers("FusedAdam", "pass its value", lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= value < math.inf for value in (lr, eps, weight_decay)) or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"FusedAdam: lr, eps and weight_decay must be finite and at least 0 and betas in [0, 1), got lr = {lr}, betas = {betas}, "
                f"eps = {eps}, weight_decay = {weight_decay}"
            )
        # What torch's Adam has besides, at its defaults, so that it finds all of its settings in our state_dict.
        rest = {"amsgrad": False, "maximize": False, "foreach": None, "capturable": False, "differentiable": False}
        rest |= {"fused": None, "decoupled_weight_decay": False}
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **rest})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as torch's optimizers do.

        Raises:
            ValueError: a parameter is not float32 or float64, or its values do not lie in order.
        """
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.dtype not in (torch.float32, torch.float64) or not parameter.is_contiguous():
                raise ValueError(
                    f"FusedAdam: parameters must be contiguous float32 or float64, got {parameter.dtype} "
                    f"{tuple(parameter.shape)} with strides {parameter.stride()}; make it of x.contiguous(), or use torch.optim.Adam"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for name, use in _NOT_OURS.items():
                if group.get(name):
                    raise ValueError(f"FusedAdam: the loaded state has {name} = True, which is not computed here; use {use} for it")
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if parameter.grad.layout != torch.strided:
            raise ValueError("FusedAdam: gradients must be dense; use torch.optim.SparseAdam for sparse ones")
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)  # on the CPU: it is read here, and a GPU need not be waited for
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        state["step"] += 1
        adam_step(
            *(parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"]),
            step=int(state["step"]),
            rate=float(group["lr"]),
            betas=group["betas"],
            epsilon=group["eps"],
            weight_decay=group["weight_decay"],
        )


def _compute(parameter, gradient, first, second, rate, beta1, beta2, epsilon, weight_decay, step):  # type: ignore[no-untyped-def]
    if _kernels.kind(parameter) is None:
        _adam_reference(parameter, gradient, first, second, rate, beta1, beta2, epsilon, weight_decay, step)
    elif parameter.numel():
        _kernels.call(
            *("adam", parameter, _kernels.DTYPES[parameter.dtype], _kernels.DTYPES[gradient.dtype], parameter.numel()),
            *(parameter, gradient, first, second),
            *(float(rate), float(beta1), float(beta2), float(epsilon), float(weight_decay), step),
        )


def _adam_reference(parameter, gradient, first, second, rate, beta1, beta2, epsilon, weight_decay, step):  # type: ignore[no-untyped-def]
    gradient = gradient.to(parameter.dtype) + weight_decay * parameter
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (second.sqrt() / (1 - beta2**step) ** 0.5).add_(epsilon)
    parameter.addcdiv_(first, scale, value=-rate / (1 - beta1**step))


_ADAM = register(
    "adam(Tensor(a!) parameter, Tensor gradient, Tensor(b!) first_moment, Tensor(c!) second_moment, float rate, float beta1, "
    "float beta2, float epsilon, float weight_decay, int step) -> ()",
    _compute,
    lambda *_: None,
)
