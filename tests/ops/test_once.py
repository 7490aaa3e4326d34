"""A second derivative that does not exist is an error, never a zero."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from graphrec.ops.once import once_differentiable


class Square(torch.autograd.Function):
    """x², whose gradient autograd knows nothing of."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable("square")
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def test_the_first_derivative_is_left_alone():
    x = torch.tensor([3.0], requires_grad=True)
    for create_graph in (False, True):
        assert torch.equal(torch.autograd.grad(Square.apply(x), x, create_graph=create_graph)[0], torch.tensor([6.0]))


@pytest.mark.parametrize("scale", [torch.tensor(1.0), torch.tensor(1.0, requires_grad=True)], ids=["constant", "learned"])
def test_the_second_one_raises_whatever_the_incoming_gradient_is(scale):
    x = torch.tensor([3.0], requires_grad=True)
    (slope,) = torch.autograd.grad((scale * Square.apply(x)).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="square is differentiable once"):
        torch.autograd.grad((slope.square() + x).sum(), x, retain_graph=True)  # only what leads to x is visited
    with pytest.raises(RuntimeError, match="square is differentiable once"):
        (slope.square() + x).sum().backward()


def test_lists_and_none_stay_where_they_are():
    origin = torch.ones(2, requires_grad=True)
    backward = once_differentiable("many")(lambda ctx, gradients: (None, [2 * gradients[0], None], gradients[0]))
    nothing, (first, second), last = backward(SimpleNamespace(saved_tensors=()), [origin, None])
    assert nothing is None and second is None
    for one in (first, last):
        with pytest.raises(RuntimeError, match="many is differentiable once"):
            one.sum().backward()


def test_what_depends_on_nothing_stays_a_constant():
    backward = once_differentiable("line")(lambda ctx, gradient: 2 * gradient)
    assert not backward(SimpleNamespace(saved_tensors=(torch.ones(1), None)), torch.ones(2)).requires_grad
