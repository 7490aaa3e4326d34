"""DirectAU on vectors with a known answer, and against the dense formula with its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from graphrec.losses.alignment import DirectAU, DirectAUSettings, uniformity
from graphrec.losses.batch import Batch

AXES = torch.eye(3, dtype=torch.float64)


def batch(users: list[int], items: list[int]) -> Batch:
    return Batch.from_indices(torch.tensor(users), torch.tensor(items), torch.empty(len(users), 0, dtype=torch.int64))


def test_uniformity_of_known_arrangements():
    once = torch.ones(3, dtype=torch.int64)
    assert float(uniformity(AXES, once)) == pytest.approx(-4)  # orthogonal: squared distance 2
    assert float(uniformity(AXES[[0, 0, 0]], once)) == pytest.approx(0)
    opposite = torch.stack([AXES[0], -AXES[0]])
    assert float(uniformity(opposite, once[:2])) == pytest.approx(-8)
    assert float(uniformity(AXES[:1], once[:1])) == 0


def test_a_row_drawn_twice_counts_twice():
    got = uniformity(AXES[:2], torch.tensor([2, 1]))  # three pairs: one of distance 0, two orthogonal
    assert float(got) == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))


def test_alignment_is_the_squared_distance_of_unit_vectors():
    loss = DirectAU(DirectAUSettings(uniformity_weight=1e-12))
    same, apart = batch([0, 1], [0, 1]), batch([0, 1], [1, 0])
    assert float(loss.of_rows(3 * AXES[:2], 5 * AXES[:2], same)) == pytest.approx(0, abs=1e-9)
    assert float(loss.of_rows(3 * AXES[:2], 5 * AXES[:2], apart)) == pytest.approx(2)


def dense(user: torch.Tensor, item: torch.Tensor, weight: float) -> torch.Tensor:
    """Equations 5 and 6 pair by pair, on the drawn rows."""
    user, item = (rows / rows.norm(dim=1, keepdim=True) for rows in (user, item))
    spread = []
    for rows in (user, item):
        pairs = [(-2 * (rows[a] - rows[b]).square().sum()).exp() for a in range(len(rows)) for b in range(a)]
        spread.append(torch.stack(pairs).mean().log())
    return (user - item).square().sum(1).mean() + weight * (spread[0] + spread[1]) / 2


@pytest.mark.parametrize("tile", [1, 1 << 19])
def test_loss_and_gradient_equal_the_dense_formula(monkeypatch, tile):
    monkeypatch.setattr("graphrec.losses.alignment._TILE", tile)
    generator = torch.Generator().manual_seed(0)
    drawn = batch([7, 2, 7, 9, 4], [1, 1, 3, 5, 0])
    user, item = (torch.randn(4, 6, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    got = DirectAU(DirectAUSettings(uniformity_weight=0.7)).of_rows(user, item, drawn)
    expected = dense(user[drawn.users], item[drawn.positives], 0.7)
    torch.testing.assert_close(got, expected)
    pairs = zip(torch.autograd.grad(got, (user, item)), torch.autograd.grad(expected, (user, item)), strict=True)
    for left, right in pairs:
        torch.testing.assert_close(left, right)
