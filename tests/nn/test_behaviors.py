"""Encoders over behaviours against dense algebra, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.nn.behaviors import BehaviorSettings, CascadeEncoder, CascadeSettings, MBGCNEncoder, MBGCNSettings
from graphrec.nn.relations import Relations
from tests.nn.test_relation_encoders import BUY, NODES, VIEW, dense, inputs, relations, same_values_and_gradients  # noqa: F401

USERS, ITEMS = torch.tensor([3, 8, 0]), torch.tensor([6, 1])


def light(relation, user, item, num_layers):
    r = relation.scale_dst(-0.5, torch.float64)[:, None] * dense(relation) * relation.scale_src(-0.5, torch.float64)
    total_user, total_item = user, item
    for _ in range(num_layers):
        user, item = r @ item, r.T @ user
        total_user, total_item = total_user + user, total_item + item
    return total_user / (num_layers + 1), total_item / (num_layers + 1)


def test_cascade_equals_one_light_convolution_after_the_other(relations):  # noqa: F811
    encoder = CascadeEncoder(CascadeSettings(num_layers=2), 5)
    encoder.prepare(relations, torch.Generator())
    assert encoder.names == ["view", "buy"]
    with torch.no_grad():
        encoder.logits += torch.tensor([0.5, -0.5])
        encoder.transforms[0] += torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    user, item = inputs()
    unit = torch.nn.functional.normalize
    first = [unit(side) for side in light(relations.edges[VIEW], user, item, 2)]
    moved = [side @ encoder.transforms[0].double() for side in first]
    second = [unit(side) for side in light(relations.edges[BUY], *moved, 2)]
    weights = 2 * torch.softmax(encoder.logits, 0).double()
    expected = [weights[0] * a + weights[1] * b for a, b in zip(first, second, strict=True)]
    got = encoder(relations.edges[BUY], user, item, USERS, ITEMS)
    variables = (user, item, encoder.logits, encoder.transforms[0])
    same_values_and_gradients(got, (expected[0][USERS], expected[1][ITEMS]), variables)
    assert encoder.relation_weights(relations.edges[BUY], user, item)["view"] == pytest.approx(0.7311, abs=1e-4)


def test_mbgcn_scores_equal_the_formula(relations):  # noqa: F811
    encoder = MBGCNEncoder(MBGCNSettings(num_layers=1, item_share=0.25), 5)
    encoder.prepare(relations, torch.Generator())
    with torch.no_grad():
        encoder.raw += torch.tensor([0.3, -0.2])
        encoder.maps[0] += torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    user, item = inputs()
    view, buy = dense(relations.edges[VIEW]), dense(relations.edges[BUY])
    w = torch.exp(encoder.raw).double()
    joined = w[0] * view + w[1] * buy
    p = (user + joined @ item / joined.sum(1, keepdim=True).clamp(min=1e-12)) / 2
    both = view + buy
    q = (item + both.T @ user / both.sum(0)[:, None].clamp(min=1)) / 2
    expected = 0.75 * p @ q.T
    for matrix, m in zip((view, buy), encoder.maps, strict=True):
        to_users, to_items = matrix / matrix.sum(1, keepdim=True).clamp(min=1), matrix.T / matrix.sum(0)[:, None].clamp(min=1)
        s = (item + to_items @ (to_users @ item)) / 2
        expected = expected + 0.125 * (to_users @ (s @ m.double())) @ s.T
    left, right = encoder(relations.edges[BUY], user, item, USERS, ITEMS)
    assert left.shape == (3, encoder.out_dim) and encoder.out_dim == 15
    variables = (user, item, encoder.raw, *encoder.maps)
    same_values_and_gradients([left @ right.T], [expected[USERS][:, ITEMS]], variables)
    assert sum(encoder.relation_weights(relations.edges[BUY], user, item).values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", [CascadeEncoder, MBGCNEncoder])
def test_wrong_behaviours_are_refused(kind, relations):  # noqa: F811
    def prepare(graph: Relations, behaviors=None):
        kind(kind.Settings(behaviors=behaviors), 5).prepare(graph, torch.Generator())

    with pytest.raises(ConfigError, match=r"needs the relation 'vieww'.*did you mean 'view'"):
        prepare(relations, ["vieww", "buy"])
    with pytest.raises(ConfigError, match=r"must end with the target 'buy', got buy, view"):
        prepare(relations, ["buy", "view"])
    with pytest.raises(ConfigError, match=r"'follows' joins user to user, and a behaviour joins users to items"):
        prepare(relations, ["follows", "buy"])
    alone = Relations({BUY: relations.edges[BUY]}, NODES, BUY)
    with pytest.raises(ConfigError, match=r"needs another behaviour beside the target 'buy'"):
        prepare(alone)
    assert issubclass(kind.Settings, BehaviorSettings)
