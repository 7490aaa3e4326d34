"""Edges that count less the older they are."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.graph.build import build
from graphrec.models import create
from graphrec.nn.hetero import JointLightGCN, JointSettings
from graphrec.nn.knowledge import KGATEncoder, KGATSettings
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.relations import Relations
from graphrec.nn.rgcn import RGCNEncoder, RGCNSettings
from graphrec.ops import Relation
from tests.graph.small import make_log, ring

TARGET = ("user", "interaction", "item")


@pytest.fixture(scope="module")
def relations(tmp_path_factory) -> Relations:
    """Users take an item a day; the test takes the last day."""
    store = build(make_log(ring()), tmp_path_factory.mktemp("stores") / "ring", split={"method": "leave_last_out", "valid": 0})
    return Relations.from_store(store)


def dense(relation: Relation, values: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    matrix[relation.rows, relation.indices.long()] = values.double()
    return matrix


def test_weights_halve_with_age_in_both_directions(relations):
    forward, backward = relations.messages(None, "here", half_life_days=1.0)
    weights = dense(forward.relation, forward.weight)
    for user in range(12):  # item user + day on the days 0..3, the latest of which counts one
        assert [float(weights[user, (user + day) % 12]) for day in range(4)] == [0.125, 0.25, 0.5, 1.0]
    torch.testing.assert_close(dense(backward.relation, backward.weight), weights.T)
    torch.testing.assert_close(forward.degree(torch.float64), torch.full((12,), 1.875, dtype=torch.float64))


def test_joint_lightgcn_propagates_the_weights(relations):
    encoder = JointLightGCN(JointSettings(num_layers=1, half_life_days=1.0), 3)
    encoder.prepare(relations, torch.Generator())
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(12, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    forward = encoder.messages[0]
    hop = dense(forward.relation, forward.weight) / 1.875
    expected = (user + hop @ item) / 2, (item + hop.T @ user) / 2
    got = encoder(relations.edges[TARGET], user, item)
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left, right)
    grads = [torch.autograd.grad(sum(side.square().sum() for side in sides), (user, item)) for sides in (got, expected)]
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right)


def test_lightgcn_propagates_the_weights_as_its_joint_form_does(relations):
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(12, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    joint = JointLightGCN(JointSettings(num_layers=2, half_life_days=1.0), 3)
    joint.prepare(relations, torch.Generator())
    weighted = relations.weighted(1.0, "here").edges[TARGET]
    plain = LightGCNEncoder(LightGCNSettings(num_layers=2, half_life_days=1.0), 3)(weighted, user, item)
    for left, right in zip(plain, joint(relations.edges[TARGET], user, item), strict=True):
        torch.testing.assert_close(left, right)


def test_edges_that_a_loss_drops_take_their_weights_along(relations):
    encoder = JointLightGCN(JointSettings(num_layers=1, half_life_days=1.0), 3)
    encoder.prepare(relations, torch.Generator())
    whole = relations.edges[TARGET]
    thinned = Relation.from_coo(whole.rows[1::2], whole.indices[1::2], 12, 12)
    forward, backward = encoder.messages_with(thinned)
    full = dense(whole, encoder.messages[0].weight)
    torch.testing.assert_close(dense(forward.relation, forward.weight), full * dense(thinned, torch.ones(24)))
    torch.testing.assert_close(dense(backward.relation, backward.weight).T, dense(forward.relation, forward.weight))


def test_rgcn_takes_weighted_means(relations):
    encoder = RGCNEncoder(RGCNSettings(num_layers=1, half_life_days=1.0), 3)
    encoder.prepare(relations, torch.Generator().manual_seed(0))
    x = {"user": torch.ones(12, 3), "item": torch.ones(12, 3)}
    for _, z in encoder.layers[0].means(encoder.messages, x).values():
        torch.testing.assert_close(z, torch.ones_like(z))  # the weights of a mean sum to one


def test_attention_over_a_knowledge_graph_counts_old_interactions_less(relations):
    made_by = Relation.from_coo(range(12), [0] * 12, 12, 1)
    edges = {**relations.edges, ("item", "made_by", "entity"): made_by}
    graph = Relations(edges, {**relations.num_nodes, "entity": 1}, TARGET, relations.times)
    found = []
    for days in (None, 1.0):
        encoder = KGATEncoder(KGATSettings(half_life_days=days), 3)
        encoder.prepare(graph, torch.Generator().manual_seed(0))
        x = torch.randn(25, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found.append(encoder.double().attention(x, graph.edges[TARGET]))
    head = encoder._edges["head"]
    age = torch.ones(len(head), dtype=torch.float64)
    weights = dense(encoder.messages[0].relation, encoder.messages[0].weight)
    for edge, (h, t) in enumerate(zip(head.tolist(), encoder._edges["tail"].tolist(), strict=True)):
        if min(h, t) < 12 <= max(h, t) < 24:  # a user and an item
            age[edge] = weights[min(h, t), max(h, t) - 12]
    expected = found[0] * age
    expected = expected / torch.zeros(25, dtype=torch.float64).index_add_(0, head, expected)[head]
    torch.testing.assert_close(found[1], expected, rtol=1e-6, atol=1e-9)


def test_models_hand_the_half_life_to_their_encoders():
    for name in ("lightgcn", "sgl", "social-lightgcn", "kgat"):
        encoder = create(name, half_life_days=30.0).parts["encoder"]
        assert encoder.settings.half_life_days == 30.0, name
    assert create("lightgcn", half_life_days=30.0).parts["encoder"].name == "lightgcn"


def test_a_half_life_without_times_is_refused(relations):
    timeless = Relations(relations.edges, relations.num_nodes, relations.target)
    with pytest.raises(ConfigError, match="half_life_days needs timestamps, and no edge of the store has one"):
        JointLightGCN(JointSettings(half_life_days=1.0), 3).prepare(timeless, torch.Generator())


@pytest.mark.parametrize(("encoder", "setting"), [("fused", "half_life_days"), ("fused", "num_layers"), ("kgat", "num_layers")])
def test_a_setting_that_an_encoder_would_ignore_is_refused(encoder, setting):
    with pytest.raises(ConfigError, match=f"encoder {setting}: unknown key"):
        create("composed", encoder={"name": encoder, setting: 3})
