"""Encoders over several relations, on a graph small enough to write down densely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.nn.hetero import JointLightGCN, JointSettings
from graphrec.nn.relations import Relations, is_symmetric
from graphrec.nn.social import DiffNetEncoder, DiffNetSettings
from graphrec.ops import Relation

NODES = {"user": 9, "item": 7, "entity": 4}
BUY, VIEW, FOLLOWS, MADE_BY = (
    ("user", "buy", "item"),
    ("user", "view", "item"),
    ("user", "follows", "user"),
    ("item", "made_by", "entity"),
)


@pytest.fixture
def relations() -> Relations:
    return Relations(
        {etype: random_relation(number, NODES[etype[0]], NODES[etype[2]]) for number, etype in enumerate(
            (BUY, VIEW, FOLLOWS, MADE_BY)
        )},
        NODES,
        BUY,
    )  # fmt: skip


def random_relation(seed: int, num_rows: int, num_columns: int) -> Relation:
    rng = np.random.default_rng(seed)
    edges = 3 * num_rows  # with the last row isolated
    return Relation.from_coo(
        rng.integers(0, num_rows - 1, edges), rng.integers(0, num_columns, edges), num_rows, num_columns
    )


def dense(relation: Relation) -> torch.Tensor:
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    matrix[relation.rows, relation.indices.long()] = 1
    return matrix


def inputs(dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    user, item = (torch.randn(NODES[n], dim, dtype=torch.float64, generator=generator) for n in ("user", "item"))
    return user.requires_grad_(), item.requires_grad_()


def same_values_and_gradients(got, expected, variables) -> None:
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left, right)
    weights = [torch.randn_like(side) for side in got]
    losses = [sum((side * w).sum() for side, w in zip(sides, weights, strict=True)) for sides in (got, expected)]
    for left, right in zip(*(torch.autograd.grad(loss, variables) for loss in losses), strict=True):
        torch.testing.assert_close(left, right)


def test_joint_lightgcn_equals_the_dense_joined_graph_with_entities_and_weights(relations):
    settings = JointSettings(num_layers=2, weights={"follows": 0.5, "view": 2.0})
    encoder = JointLightGCN(settings, 5, torch.Generator())
    encoder.prepare(relations, torch.Generator().manual_seed(0))
    assert list(encoder.nodes) == ["entity"] and encoder.nodes["entity"].shape == (4, 5)
    start, size = {"user": 0, "item": 9, "entity": 16}, 20
    joined = torch.zeros(size, size, dtype=torch.float64)
    for (left, name, right), relation in relations.edges.items():
        matrix = dense(relation) * settings.weights.get(name, 1.0)
        rows = slice(start[left], start[left] + NODES[left])
        columns = slice(start[right], start[right] + NODES[right])
        joined[rows, columns] += matrix
        joined[columns, rows] += matrix.T
    degree = joined.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-12) ** -0.5, 0.0)
    user, item = inputs()
    x = torch.cat([user, item, encoder.nodes["entity"].double()])
    hop = scale[:, None] * joined * scale
    y = (x + hop @ x + hop @ (hop @ x)) / 3
    users, items = torch.tensor([3, 8, 0]), torch.tensor([6, 1])
    got = encoder(relations.edges[BUY], user, item, users, items)
    same_values_and_gradients(got, (y[users], y[9 + items]), (user, item, encoder.nodes["entity"]))


@pytest.mark.parametrize("transform", [False, True])
def test_diffnet_equals_its_formula(transform, relations):
    encoder = DiffNetEncoder(DiffNetSettings(num_layers=2, transform=transform), 5)
    encoder.prepare(relations, torch.Generator())
    assert len(encoder.mix) == 2 * transform
    with torch.no_grad():
        for mix in encoder.mix:
            mix += torch.randn(mix.shape, generator=torch.Generator().manual_seed(1))
    social, buy = (dense(relations.edges[etype]) for etype in (FOLLOWS, BUY))
    social, buy = (matrix / matrix.sum(1, keepdim=True).clamp(min=1) for matrix in (social, buy))
    user, item = inputs()
    h = user
    for step in range(2):
        h = torch.cat([social @ h, h], dim=1) @ encoder.mix[step].double() if transform else (social @ h + h) / 2
    users, items = torch.tensor([3, 8, 0]), torch.tensor([6, 1])
    got = encoder(relations.edges[BUY], user, item, users, items)
    same_values_and_gradients(got, ((h + buy @ item)[users], item[items]), (user, item))


def test_an_augmented_target_relation_reaches_the_encoder(relations):
    encoder = JointLightGCN(JointSettings(relations=["target", "follows"]), 5)
    encoder.prepare(relations, torch.Generator())
    user, item = inputs()
    thinned = Relation.from_coo([0], [0], NODES["user"], NODES["item"])
    assert not torch.equal(encoder(thinned, user, item)[0], encoder(relations.edges[BUY], user, item)[0])
    alone = encoder(thinned, user, item)[1]
    torch.testing.assert_close(alone[1:], item[1:] / 4)  # all other items are isolated now


def test_relation_weights_are_shares_by_node_type(relations):
    encoder = JointLightGCN(JointSettings(), 5)
    encoder.prepare(relations, torch.Generator())
    weights = encoder.relation_weights(relations.edges[BUY], *inputs())
    assert set(weights) == {
        "buy to user", "buy to item", "view to user", "view to item", "follows to user", "made_by to item", "made_by to entity"
    }  # fmt: skip
    for ntype in NODES:
        assert sum(value for name, value in weights.items() if name.endswith(ntype)) == pytest.approx(1)
    assert weights["made_by to entity"] == 1


def test_a_relation_that_is_missing_empty_or_of_other_types_is_named(relations):
    def prepare(**settings):
        JointLightGCN(JointSettings(**settings), 5).prepare(relations, torch.Generator())

    with pytest.raises(ConfigError, match=r"needs the relation 'folows'.*buy \(user to item, \d+ edges\).*did you mean 'follows'"):
        prepare(relations=["folows"])
    with pytest.raises(ConfigError, match="'made_by' joins item to entity, and links between users"):
        DiffNetEncoder(DiffNetSettings(social="made_by"), 5).prepare(relations, torch.Generator())
    with pytest.raises(ConfigError, match=r"'made_by' joins item to entity.*behaviours are view, buy"):
        relations.of_behavior("made_by", "here")
    empty = Relations({**relations.edges, FOLLOWS: Relation.from_coo([], [], 9, 9)}, NODES, BUY)
    with pytest.raises(ConfigError, match=r"'follows' \(user to user\) has no edges in training.*rejected.parquet"):
        DiffNetEncoder(DiffNetSettings(), 5).prepare(empty, torch.Generator())
    assert FOLLOWS not in empty.select(None, "here")


def test_symmetric_links_are_walked_once(relations):
    assert not is_symmetric(relations.edges[FOLLOWS])
    both = Relation.from_coo([0, 1, 2, 1], [1, 0, 1, 2], 9, 9)
    assert is_symmetric(both)
    twice = Relations({**relations.edges, FOLLOWS: both}, NODES, BUY)
    assert len(relations.messages(["follows"], "here")) == 2 and len(twice.messages(["follows"], "here")) == 1


def test_links_and_behaviours_are_found_by_their_ends_where_triples_have_their_names(relations):
    clash = {("entity", name, "entity"): random_relation(9, 4, 4) for name in ("follows", "view")}
    both = replace(relations, edges={**clash, **relations.edges})
    assert both.social("follows", "test") is relations.edges[FOLLOWS]
    assert both.of_behavior("view", "test") is relations.edges[VIEW]
    assert both.of_behavior("target", "test") is relations.edges[BUY]
    alone = replace(relations, edges={BUY: relations.edges[BUY], **clash})
    with pytest.raises(ConfigError, match="'follows' joins entity to entity, and links between users are needed"):
        alone.social("follows", "test")
    with pytest.raises(ConfigError, match="'view' joins entity to entity, and a behaviour joins users to items"):
        alone.of_behavior("view", "test")
