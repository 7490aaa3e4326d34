"""UltraGCN's weights and losses against the paper's formulas on a graph small enough to do by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.losses.batch import Batch
from graphrec.losses.constraint import ItemGraph, ItemGraphSettings, UltraGCN, UltraGCNSettings, item_neighbours
from graphrec.losses.step import Step
from graphrec.nn.identity import IdentityEncoder
from graphrec.ops import Relation

R = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=np.float32)
TRAIN = sp.csr_matrix(R)
BATCH = Batch.from_indices(torch.tensor([0, 1, 0]), torch.tensor([1, 0, 2]), torch.tensor([[3, 3], [2, 3], [3, 3]]))


def test_beta_is_that_of_the_paper():
    loss = UltraGCN()
    loss.prepare(TRAIN)
    degree_user, degree_item = R.sum(1), R.sum(0)
    for user, item in ((0, 1), (1, 0), (2, 3)):
        beta = math.sqrt((degree_user[user] + 1) / (degree_item[item] + 1)) / degree_user[user]
        assert float(loss.user_factor[user] * loss.item_factor[item]) == pytest.approx(beta)


def test_loss_and_gradient_equal_the_formula():
    loss = UltraGCN(UltraGCNSettings(negative_weight=7, plain_weight=0.2, degree_weight=1.5))
    loss.prepare(TRAIN)
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_()
    negative = torch.randn(3, 2, dtype=torch.float64, generator=generator).requires_grad_()
    users, items, others = [0, 1, 0], [1, 0, 2], [[3, 3], [2, 3], [3, 3]]
    du, di, expected = R.sum(1), R.sum(0), 0.0

    def weight(u: int, i: int) -> float:
        return 0.2 + 1.5 * math.sqrt((du[u] + 1) / (di[i] + 1)) / du[u]

    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        expected = expected - weight(user, item) * positive[row].sigmoid().log()
        for column, other in enumerate(others[row]):
            expected = expected - 7 / 2 * weight(user, other) * (-negative[row, column]).sigmoid().log()
    got = loss(positive, negative, BATCH)
    torch.testing.assert_close(got, expected / 3)
    gradients = (torch.autograd.grad(value, (positive, negative)) for value in (got, expected / 3))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("block", [1, 1024])
def test_neighbours_are_those_of_the_formula(monkeypatch, block):
    monkeypatch.setattr("graphrec.losses.constraint._ROWS", block)
    gram = R.T @ R
    total = gram.sum(1)
    neighbours, weights = item_neighbours(TRAIN, 2)
    for item in range(3):
        omega = {
            other: gram[item, other] / (total[item] - gram[item, item]) * math.sqrt(total[item] / total[other])
            for other in range(3)
            if other != item and gram[item, other] > 0
        }
        expected = sorted(omega, key=lambda other: (-omega[other], other))[:2]
        assert neighbours[item, : len(expected)].tolist() == expected
        np.testing.assert_allclose(weights[item, : len(expected)], [omega[other] for other in expected], rtol=1e-6)
    assert weights[3].tolist() == [0, 0]


def test_the_item_constraint_and_its_gradient_equal_the_formula():
    loss = ItemGraph(ItemGraphSettings(num_neighbours=2))
    loss.prepare(TRAIN)
    generator = torch.Generator().manual_seed(1)
    user_x, item_x = (torch.randn(4, 5, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    encoder, relation = IdentityEncoder(), Relation.from_scipy(TRAIN)
    rows = encoder(relation, user_x, item_x, BATCH.user_rows, BATCH.item_rows)
    got = loss(Step(encoder, relation, user_x, item_x, BATCH, *rows))
    expected = 0.0
    for user, item in ((0, 1), (1, 0), (0, 2)):
        for other, weight in zip(*(table[item].tolist() for table in (loss.neighbours, loss.weights)), strict=True):
            expected = expected - weight * (user_x[user] @ item_x[other]).sigmoid().log()
    torch.testing.assert_close(got.double(), expected / 3, rtol=1e-5, atol=1e-6)
    gradients = (torch.autograd.grad(value, (user_x, item_x)) for value in (got, expected / 3))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)
