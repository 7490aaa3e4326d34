"""Heads: pairs, matrix and ranking vectors agree, for every registered head."""

from __future__ import annotations

import pytest
import torch

from graphrec.nn import HEADS
from graphrec.nn.heads import CosineHead, CosineSettings, DotHead
from graphrec.registry import resolve

USER = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
ITEM = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", HEADS)
def test_pairs_and_matrix_agree(name):
    head = resolve("head", HEADS, name)()
    user, item = head.prepare(USER, ITEM)
    matrix = head.matrix(user, item)
    assert matrix.shape == (5, 7)
    torch.testing.assert_close(head.pairs(user, item[:5]), matrix.diagonal())
    blocks = item[torch.arange(15).reshape(5, 3) % 7]  # (B, n, D)
    expected = torch.stack([matrix[row, torch.arange(15).reshape(5, 3)[row] % 7] for row in range(5)])
    torch.testing.assert_close(head.pairs(user, blocks), expected)


@pytest.mark.parametrize("name", HEADS)
def test_ranking_vectors_rank_as_the_scores_do(name):
    head = resolve("head", HEADS, name)()
    user, item = head.ranking_vectors(USER, ITEM)
    order = (user @ item.T).argsort(1)
    assert torch.equal(order, head.matrix(*head.prepare(USER, ITEM)).argsort(1))


def test_dot_by_hand():
    head = DotHead()
    user, item = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    assert head.matrix(*head.prepare(user, item)).tolist() == [[1.0, 4.0]]


def test_cosine_by_hand():
    head = CosineHead(CosineSettings(temperature=0.5))
    user, item = torch.tensor([[3.0, 4.0]]), torch.tensor([[30.0, 40.0], [-4.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(head.matrix(*head.prepare(user, item)), torch.tensor([[2.0, 0.0, 0.0]]))
    raw = CosineHead(CosineSettings(ranking="dot")).ranking_vectors(user, item)
    assert torch.equal(raw[0], user) and torch.equal(raw[1], item)
