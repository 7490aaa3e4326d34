"""Adaptive temperature: Lambert's W, who gets which temperature, and both paths against the dense formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw

from graphrec.losses.adaptive import AdaptiveSoftmax, AdaptiveSoftmaxSettings, lambert_w
from graphrec.losses.batch import Batch
from graphrec.losses.softmax import SampledSoftmax, SampledSoftmaxSettings


def test_lambert_w_equals_scipys():
    x = torch.tensor([-1 / math.e, -0.3678, -0.2, -1e-9, 0.0, 1e-6, 1.0, 30.0, 1e4], dtype=torch.float64)
    expected = torch.from_numpy(lambertw(x.numpy()).real)
    torch.testing.assert_close(lambert_w(x)[1:], expected[1:], rtol=1e-8, atol=1e-10)
    assert float(lambert_w(x)[0]) == pytest.approx(-1, abs=1e-6)


def batch() -> Batch:
    """Three pairs of two users against three in-batch negatives; each row's own positive is a hit."""
    index = torch.tensor([0, 1, 2])
    hits = torch.tensor([[0, 1, 2], [0, 1, 2]])
    users, rows = torch.tensor([0, 1, 0]), torch.tensor([4, 6])
    return Batch(rows, index, users, index, index, torch.tensor([1.0, 2.0, 1.0]), hits, torch.zeros(3))


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, 4, dtype=torch.float64, generator=generator).requires_grad_() for n in (2, 3))


def dense(user: torch.Tensor, item: torch.Tensor, base: float, beta: float) -> torch.Tensor:
    """Two passes of the plain formula: losses at t_0, then with each user's own temperature."""
    counts, users = [1.0, 2.0, 1.0], [0, 1, 0]

    def losses(temperature: list[float]) -> list[torch.Tensor]:
        found = []
        for pair, who in enumerate(users):
            scores = (item @ user[who]) / temperature[who]
            total = sum(scores[j].exp() * (1 if j == pair else counts[j]) for j in range(3))
            found.append(total.log() - scores[pair])
        return found

    first = [float(value.detach()) for value in losses([base, base])]
    excess = np.array([(first[0] + first[2]) / 2, first[1]]) - np.mean(first)
    own = [base * math.exp(lambertw(max(-1 / math.e, beta * one)).real) for one in excess]
    return torch.stack(losses(own)).mean()


@pytest.mark.parametrize("path", ["rows", "scores"])
def test_loss_and_gradient_equal_the_dense_formula(path):
    loss, (user, item) = AdaptiveSoftmax(AdaptiveSoftmaxSettings(temperature=0.8, adaptivity=0.6)), rows()
    if path == "rows":
        got = loss.of_rows(user, item, batch())
    else:
        scores = user[batch().users] @ item.T
        got = loss(scores.diagonal(), scores, batch())
    expected = dense(user, item, 0.8, 0.6)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
    gradients = (torch.autograd.grad(value, (user, item)) for value in (got, expected))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_without_adaptivity_it_is_the_sampled_softmax():
    user, item = rows()
    got = AdaptiveSoftmax(AdaptiveSoftmaxSettings(temperature=0.5, adaptivity=0)).of_rows(user, item, batch())
    plain = SampledSoftmax(SampledSoftmaxSettings(temperature=0.5)).of_rows(user, item, batch())
    torch.testing.assert_close(got, plain)
