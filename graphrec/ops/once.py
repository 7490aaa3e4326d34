"""Gradients that cannot be differentiated again say so, instead of counting as constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def once_differentiable(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate the backward pass of an operator whose gradients have no derivative of their own.

    With `create_graph=True` the gradients then raise RuntimeError when they are differentiated by what they depend on: incoming
    gradients, and tensors that were saved for the backward pass. torch's decorator of this name looks at the former alone, and
    returns zeros where the gradient of a sum, which is constant, comes in.

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
            if not torch.is_grad_enabled():
                return found
            parts = [part for one in gradients for part in (one if isinstance(one, list | tuple) else [one])]
            origins = [x for x in (*parts, *ctx.saved_tensors) if isinstance(x, Tensor) and x.requires_grad]
            return _last(name, found, origins) if origins else found

        return guarded

    return decorate


def _last(name: str, found: Any, origins: list[Tensor]) -> Any:
    if isinstance(found, Tensor):
        return _Last.apply(name, found, *origins)
    if isinstance(found, list | tuple):
        return type(found)(_last(name, part, origins) for part in found)
    return found


class _Last(torch.autograd.Function):
    """A tensor as it is, and for autograd a function of what it was computed from."""

    @staticmethod
    def forward(ctx: Any, name: str, x: Tensor, *origins: Tensor) -> Tensor:
        ctx.name = name
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            f"{ctx.name} is differentiable once, got a second derivative; leave its gradients out of what is differentiated"
        )
