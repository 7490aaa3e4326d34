"""Losses of candidate lists: values by hand, gradients that move positives up, places without a candidate that do not count."""

from __future__ import annotations

import math

import pytest
import torch

from graphrec.losses import LIST_LOSSES
from graphrec.losses.listwise import bce, lambdarank, list_ndcg, pairwise, softmax
from graphrec.registry import resolve

SCORES = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([[False, True, False]])
ALL = torch.ones(1, 3, dtype=torch.bool)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_values_by_hand():
    assert float(bce(SCORES, LABELS, ALL)) == pytest.approx(softplus(2) + softplus(-1) + softplus(0))
    assert float(pairwise(SCORES, LABELS, ALL)) == pytest.approx((softplus(1) + softplus(-1)) / 2)
    assert float(softmax(SCORES, LABELS, ALL)) == pytest.approx(math.log(math.exp(2) + math.exp(1) + 1) - 1)
    first, second, third = (
        1.0,
        1 / math.log2(3),
        1 / math.log2(4),
    )  # the positive stands at the second place; the ideal is 1
    expected = (first - second) * softplus(1) + (second - third) * softplus(-1)
    assert float(lambdarank(SCORES, LABELS, ALL)) == pytest.approx(expected)


def test_lambdarank_divides_by_the_ideal_of_all_positives():
    labels = torch.tensor([[False, True, True]])
    first, second, third = 1.0, 1 / math.log2(3), 1 / math.log2(4)
    expected = ((first - second) * softplus(1) + (first - third) * softplus(2)) / (first + second)
    assert float(lambdarank(SCORES, labels, ALL)) == pytest.approx(expected)


def test_pairs_of_several_positives_are_averaged_within_the_list():
    labels = torch.tensor([[True, True, False]])
    assert float(pairwise(SCORES, labels, ALL)) == pytest.approx((softplus(-2) + softplus(-1)) / 2)


@pytest.mark.parametrize("name", LIST_LOSSES)
def test_the_mean_over_lists_and_unused_places(name):
    loss = resolve("list loss", LIST_LOSSES, name)
    wide = torch.cat([SCORES, torch.tensor([[99.0, -99.0]], dtype=torch.float64)], 1)
    labels = torch.cat([LABELS, torch.zeros(1, 2, dtype=torch.bool)], 1)
    known = torch.cat([ALL, torch.zeros(1, 2, dtype=torch.bool)], 1)
    alone = loss(SCORES, LABELS, ALL)
    torch.testing.assert_close(loss(wide, labels, known), alone)
    twice = loss(SCORES.repeat(2, 1), LABELS.repeat(2, 1), ALL.repeat(2, 1))
    torch.testing.assert_close(twice, alone)


@pytest.mark.parametrize("name", LIST_LOSSES)
def test_gradients_raise_positives_and_lower_negatives(name):
    loss = resolve("list loss", LIST_LOSSES, name)
    scores = SCORES.clone().requires_grad_()
    loss(scores, LABELS, ALL).backward()
    assert scores.grad[0, 1] < 0 and scores.grad[0, 0] > 0 and scores.grad[0, 2] > 0
    # lambdarank holds the places fixed, and a small step changes none
    assert torch.autograd.gradcheck(lambda s: loss(s, LABELS, ALL), (SCORES.clone().requires_grad_(),))


@pytest.mark.parametrize("name", ["pairwise", "softmax", "lambdarank"])
@pytest.mark.parametrize("label", [True, False])
def test_a_list_of_one_kind_teaches_nothing(name, label):
    scores = SCORES.clone().requires_grad_()
    value = resolve("list loss", LIST_LOSSES, name)(scores, torch.full_like(LABELS, label), ALL)
    value.backward()
    assert float(value.detach()) == 0 and not scores.grad.any()


def test_ndcg_of_lists_by_hand():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 1.0, 5.0]])
    labels = torch.tensor([[False, True, True], [True, False, False]])
    known = torch.tensor([[True, True, True], [True, True, False]])
    relevant = torch.tensor([3, 1])
    second = 1 / math.log2(3)
    values = list_ndcg(scores, labels, known, relevant, 2)
    assert values.tolist() == pytest.approx([second / (1 + second), 1.0])  # a tie keeps the order given
