"""Gradients that cannot be differentiated again say so, instead of counting as constants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def once_differentiable(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate the backward pass of an operator whose gradients have no derivative of their own.

    With `create_graph=True` the gradients then raise RuntimeError when they are differentiated, whatever they depend on. torch's
    decorator of this name does so only where the incoming gradient is itself differentiable, and returns zeros otherwise.

    Args:
        name: of the operator, as its users call it.

    Returns:
        A decorator of `backward(ctx, *gradients)`, as `registration.register` takes it, that returns a tensor, or a tuple of
        tensors, lists of tensors and None.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(backward)
        def guarded(ctx: Any, *gradients: Any) -> Any:
            with torch.no_grad():
                found = backward(ctx, *gradients)
            return _last(name, found) if torch.is_grad_enabled() else found

        return guarded

    return decorate


def _last(name: str, found: Any) -> Any:
    if isinstance(found, Tensor):
        return _Last.apply(name, torch.empty(0, requires_grad=True), found)
    if isinstance(found, Iterable):
        return type(found)(_last(name, part) for part in found)
    return found


class _Last(torch.autograd.Function):
    """A copy of a tensor that seems to depend on an anchor, so that its derivative is asked for."""

    @staticmethod
    def forward(name: str, anchor: Tensor, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[str, Tensor, Tensor], output: Tensor) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            f"{ctx.name} is differentiable once, got a second derivative; leave its gradients out of what is differentiated"
        )
