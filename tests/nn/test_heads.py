"""Heads: pairs, matrix and ranking vectors agree, for every registered head."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.nn import HEADS, mlp_head
from graphrec.nn.heads import BilinearHead, CosineHead, CosineSettings, DotHead
from graphrec.nn.mlp_head import MLPHead, MLPSettings
from graphrec.registry import resolve

USER = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
ITEM = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))


def made(name):
    """The head with random parameters: as it starts, W is the identity and the perceptron's part is zero."""
    head = resolve("head", HEADS, name)(None, 8, torch.Generator().manual_seed(2)).eval()
    for number, parameter in enumerate(head.parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(number))
    return head.requires_grad_(False)


@pytest.mark.parametrize("name", HEADS)
def test_pairs_and_matrix_agree(name):
    head = made(name)
    user, item = head.prepare(USER, ITEM)
    matrix = head.matrix(user, item)
    assert matrix.shape == (5, 7)
    torch.testing.assert_close(head.pairs(user, item[:5]), matrix.diagonal())
    blocks = item[torch.arange(15).reshape(5, 3) % 7]  # (B, n, D)
    expected = torch.stack([matrix[row, torch.arange(15).reshape(5, 3)[row] % 7] for row in range(5)])
    torch.testing.assert_close(head.pairs(user, blocks), expected)


@pytest.mark.parametrize("name", HEADS)
def test_ranking_vectors_rank_as_the_scores_do(name):
    head = made(name)
    user, item = head.ranking_vectors(USER, ITEM)
    scores = head.matrix(*head.prepare(USER, ITEM))
    if not head.is_inner_product:
        assert torch.equal(head.matrix(*head.prepare(user, item)), scores)  # what a saved model computes
    assert torch.equal((user @ item.T).argsort(1), scores.argsort(1)) == head.is_inner_product


@pytest.mark.parametrize("name", HEADS)
def test_training_starts_at_the_dot_product_or_the_cosine(name):
    head = resolve("head", HEADS, name)(None, 8, torch.Generator().manual_seed(2))
    lengths = USER.norm(dim=1)[:, None] * ITEM.norm(dim=1) if name.startswith("cosine") else 1.0
    torch.testing.assert_close(head.matrix(*head.prepare(USER, ITEM)).detach(), USER @ ITEM.T / lengths)


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


def test_bilinear_by_hand():
    head = BilinearHead(dim=2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    user, item = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert head.matrix(*head.prepare(user, item)).tolist() == [[6.0, 1.0]]


def test_mlp_by_hand():
    head = MLPHead(MLPSettings(hidden=(2, 1), inputs="both"), 1).requires_grad_(False)
    for parameter, value in (
        (head.first["of_user"], [[1.0], [-1.0]]),
        (head.first["of_item"], [[2.0], [0.0]]),
        (head.first["of_product"], [[0.0], [1.0]]),
        (head.tower.biases[0], [0.5, 0.0]),
        (head.tower.weights[0], [[1.0, 10.0]]),
        (head.tower.biases[1], [-1.0]),
        (head.product_weight, [3.0]),
        (head.hidden_weight, [0.1]),
    ):
        parameter.copy_(torch.tensor(value))
    user, item = head.prepare(torch.tensor([[2.0]]), torch.tensor([[3.0], [-4.0]]))
    # first layer: relu([2 + 6 + 0.5, -2 + 6]) = [8.5, 4] and relu([2 - 8 + 0.5, -2 - 8]) = [0, 0]
    # second: relu(8.5 + 40 - 1) = 47.5 and relu(0 - 1) = 0; product branch: 3 * 6 and 3 * -8
    torch.testing.assert_close(head.matrix(user, item), torch.tensor([[18.0 + 4.75, -24.0]]))


@pytest.mark.parametrize("inputs", ["concat", "product", "both"])
def test_the_matrix_of_the_mlp_keeps_few_values_and_has_the_gradients_of_the_pairs(inputs, monkeypatch):
    head = MLPHead(MLPSettings(hidden=(6, 4), inputs=inputs), 8, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(head.hidden_weight, generator=torch.Generator().manual_seed(1))
    wide, narrow = [], []
    for limit, widths in ((1 << 22, wide), (8 * 3, narrow)):
        monkeypatch.setattr(mlp_head, "_VALUES_AT_ONCE", limit)
        head.zero_grad()
        head.first.zero_grad()
        seen = []
        hook = head.tower.dropout.register_forward_hook(lambda _, given, out, seen=seen: seen.append(out[..., 0].numel()))
        scores = head.matrix(*head.prepare(USER, ITEM))
        scores.square().sum().backward()
        hook.remove()
        widths += [max(seen), scores.detach(), *(p.grad.clone() for p in head.parameters())]
    assert (wide[0], narrow[0]) == (35, 3)
    for one, other in zip(wide[1:], narrow[1:], strict=True):
        torch.testing.assert_close(one, other)
    pairs = head.pairs(*(rows if side else rows.unsqueeze(0).expand(5, 7, -1) for side, rows in
                         zip((1, 0), head.prepare(USER, ITEM), strict=True)))  # fmt: skip
    head.zero_grad()
    pairs.square().sum().backward()
    for one, parameter in zip(wide[2:], head.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_bad_widths_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        MLPSettings(hidden=(8, 0))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(("user_dim", "item_dim"), [(16, 16), (16, 8), (8, 16), (8, 1)])
def test_rows_that_do_not_fit_are_refused(name, user_dim, item_dim):
    head, user, item = made(name), torch.ones(5, user_dim), torch.ones(7, item_dim)
    got = rf"users must be \(u, 8\) and items \(i, 8\), got \(5, {user_dim}\) and \(7, {item_dim}\); make the head with"
    with pytest.raises(ValueError, match=rf"{type(head).__name__}.prepare: {got}"):
        head.prepare(user, item)
    if head.is_inner_product:
        with pytest.raises(ValueError, match=rf"{type(head).__name__}.(ranking_vectors|prepare): {got}"):
            head.ranking_vectors(user, item)
    users, items = head.prepare(USER, ITEM)
    users, items = (side[:, :1].expand(-1, side.shape[1] + dim - 8) for side, dim in ((users, user_dim), (items, item_dim)))
    with pytest.raises(ValueError, match=rf"{type(head).__name__}.matrix: users must be .*got \(5, {users.shape[1]}\) and"):
        head.matrix(users, items)
    for rows in (items[:5], items[:5, None].expand(5, 2, -1)):
        with pytest.raises(ValueError, match=rf"{type(head).__name__}.pairs: users must be .* or \(u, n, .*got \(5, {users.shape[1]}\)"):
            head.pairs(users, rows)


@pytest.mark.parametrize("name", HEADS)
def test_pairs_of_other_lengths_are_refused(name):
    head = made(name)
    user, item = head.prepare(USER, ITEM)
    for rows in (item, item[:1], item[:6].view(2, 3, -1), item[0]):
        with pytest.raises(ValueError, match=rf"{type(head).__name__}.pairs: users must be"):
            head.pairs(user, rows)


def test_a_head_that_scores_in_another_way_says_so():
    def head(*names: str, inner: bool) -> type:
        return type("Mine", (DotHead,), {"is_inner_product": inner} | {name: lambda self, user, item: 0 for name in names})

    for names, inner, got in (
        (("pairs",), True, "matrix kept and is_inner_product = True"),
        (("matrix",), True, "pairs kept and is_inner_product = True"),
        (("pairs", "matrix"), True, "neither kept and is_inner_product = True"),
        (("pairs",), False, "matrix kept and is_inner_product = False"),
    ):
        with pytest.raises(TypeError, match=f"Mine: .* must override both pairs and matrix and say is_inner_product = False, got {got}"):
            head(*names, inner=inner)()
    assert head("prepare", "ranking_vectors", inner=True)().pairs(USER, USER).shape == (5,)
    assert head("pairs", "matrix", inner=False)().matrix(USER, ITEM) == 0


def test_a_head_without_a_dimension_wants_both_sides_alike():
    assert DotHead().matrix(USER, ITEM).shape == (5, 7)
    with pytest.raises(ValueError, match=r"DotHead.pairs: users must be \(u, 16\) and items \(u, 16\) .* got \(5, 16\) and \(5, 8\)"):
        DotHead().pairs(torch.ones(5, 16), torch.ones(5, 8))


def test_the_prior_wants_the_items_it_has_seen():
    head = made("cosine-prior")
    head.observe(sp.csr_matrix(np.ones((2, 7))))
    assert head.ranking_vectors(USER, ITEM)[1].shape == (7, 9)
    with pytest.raises(ValueError, match="items must be all 7 observed, got 6 rows"):
        head.ranking_vectors(USER, ITEM[:6])
