"""How an operator becomes `torch.ops.graphrec.<name>`: schema, kernels, fake and autograd in one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd import forward_ad

_LIBRARY = torch.library.Library("graphrec", "DEF")


def _without_autocast(compute: Callable[..., Any], device_type: str) -> Callable[..., Any]:
    @wraps(compute)
    def exact(*arguments: Any) -> Any:
        if not torch.is_autocast_enabled(device_type):
            return compute(*arguments)
        with torch.autocast(device_type, enabled=False):
            return compute(*arguments)

    return exact


def register(
    schema: str,
    compute: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define an operator for CPU and CUDA tensors; autocast does not reach into it, whichever implementation runs.

    Args:
        schema: `name(arguments) -> results` in torch's schema language.
        compute: what runs; it chooses between native library and reference by `_kernels.kind`.
        fake: the same signature; returns empty results of the right shapes, dtypes and devices. torch calls it wherever a tensor
            has no entries, which may be one on the meta device among others: tensors of several devices are refused.
        setup_context, backward: as `torch.library.register_autograd` takes them; None when there is no gradient.

    Returns:
        What calls the operator, with the arguments of `compute`. It refuses tangents of forward-mode differentiation, which torch
        would drop without a word: the derivative would be zero.
    """
    compute = _without_autocast(_without_autocast(compute, "cpu"), "cuda")
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, compute, "CPU")
    _LIBRARY.impl(name, compute, "CUDA")
    torch.library.register_fake(f"graphrec::{name}", _on_one_device(name, fake), lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"graphrec::{name}", backward, setup_context=setup_context, lib=_LIBRARY)
    operator = getattr(torch.ops.graphrec, name).default

    @wraps(compute)
    def called(*arguments: Any) -> Any:
        if forward_ad._current_level >= 0:
            _refuse_tangents(name, arguments)
        return operator(*arguments)

    return called


def _tensors(arguments: tuple[Any, ...]) -> list[torch.Tensor]:
    parts = [part for one in arguments for part in (one if isinstance(one, list | tuple) else [one])]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def _refuse_tangents(name: str, arguments: tuple[Any, ...]) -> None:
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in _tensors(arguments)):
        raise NotImplementedError(
            f"{name} has no forward-mode derivative, got a dual tensor; use reverse mode, as torch.autograd.grad does"
        )


def _on_one_device(name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fake)
    def checked(*arguments: Any) -> Any:
        devices = {str(tensor.device): None for tensor in _tensors(arguments)}
        if len(devices) > 1:
            raise ValueError(f"{name}: all tensors must be on one device, got {' and '.join(devices)}; move them with .to()")
        return fake(*arguments)

    return checked
