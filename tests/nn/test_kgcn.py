"""KGCN's receptive field against the paper's formulas, node by node, and what it samples."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.nn import kgcn
from graphrec.nn.kgcn import KGCNEncoder, KGCNSettings, ReceptiveField
from graphrec.nn.relations import Relations
from graphrec.ops import Relation

BUY, MADE_BY, KIND_OF = ("user", "buy", "item"), ("item", "made_by", "entity"), ("entity", "kind_of", "entity")
NODES = {"user": 4, "item": 3, "entity": 3}


def graph() -> Relations:
    edges = {
        BUY: Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 2], 4, 3),
        MADE_BY: Relation.from_coo([0, 0, 1], [0, 1, 0], 3, 3),  # item 2 has no triple
        KIND_OF: Relation.from_coo([0, 1], [2, 2], 3, 3),
    }
    return Relations(edges, NODES, BUY)


def prepared(**settings) -> tuple[KGCNEncoder, torch.Tensor, torch.Tensor]:
    """An encoder after a pass over random tables, and these."""
    generator = torch.Generator().manual_seed(3)
    encoder = KGCNEncoder(KGCNSettings(num_neighbours=3, **settings), 5, generator)
    encoder.prepare(graph(), generator)
    tables = (torch.randn(NODES[ntype], 5, dtype=torch.float64, generator=generator) for ntype in ("user", "item"))
    user_x, item_x = (table.requires_grad_() for table in tables)
    encoder = encoder.double()
    encoder(graph().edges[BUY], user_x, item_x)
    return encoder, user_x, item_x


def by_hand(field: ReceptiveField, user: torch.Tensor, node: int, x: torch.Tensor, depth: int) -> torch.Tensor:
    """The vector of a node for a user after `depth` hops, by recursion."""
    if depth == 0:
        return x[node]
    own = by_hand(field, user, node, x, depth - 1)
    scores = torch.stack([user @ field.relation_vectors[kind] for kind in field.kind[node]])
    around = [by_hand(field, user, int(near), x, depth - 1) for near in field.near[node]]
    mean = sum(share * h for share, h in zip(torch.softmax(scores, 0), around, strict=True))
    mixed = {"sum": own + mean, "neighbour": mean, "concat": torch.cat([own, mean])}[field.aggregator]
    y = field.layers[depth - 1](mixed)
    return torch.tanh(y) if depth == len(field.layers) else torch.relu(y)


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("aggregator", ["sum", "concat", "neighbour"])
def test_pairs_and_matrix_equal_the_formula_node_by_node(hops, aggregator, monkeypatch):
    encoder, user_x, _ = prepared(num_hops=hops, aggregator=aggregator)
    field, x = encoder.field, encoder.nodes()
    expected = torch.stack([torch.stack([u @ by_hand(field, u, item, x, hops) for item in range(3)]) for u in user_x])
    items = torch.tensor([[2, 0, 1]]).expand(4, 3)
    torch.testing.assert_close(field.pairs(user_x, items, x), expected[:, [2, 0, 1]])
    torch.testing.assert_close(field.matrix(user_x, x, 3), expected)
    monkeypatch.setattr(kgcn, "_CELLS", 1)  # one user at a time
    torch.testing.assert_close(field.matrix(user_x, x, 3), expected)


def test_gradients_reach_users_items_entities_and_relations():
    encoder, user_x, item_x = prepared(num_hops=2)
    encoder.field.pairs(user_x, torch.tensor([[0], [0], [1], [1]]), encoder.nodes()).sum().backward()
    for parameter in (user_x, item_x, encoder.entity, encoder.field.relation_vectors):
        assert bool(parameter.grad.abs().sum() > 0)


def test_samples_are_neighbours_and_hold_as_many_different_ones_as_there_are():
    encoder, _, _ = prepared()
    edges = {0: {(3, 0), (4, 0)}, 1: {(3, 0)}, 2: {(2, 0)}, 3: {(0, 0), (1, 0), (5, 1)}, 4: {(0, 0), (5, 1)}, 5: {(3, 1), (4, 1)}}
    drawn = zip(encoder.field.near.tolist(), encoder.field.kind.tolist(), strict=True)
    for node, (near, kind) in enumerate(drawn):
        assert set(zip(near, kind, strict=True)) == edges[node], node


def test_a_user_who_loves_a_relation_sees_the_item_through_it():
    near, kind = torch.tensor([[1, 2], [1, 1], [2, 2]]), torch.tensor([[0, 1], [0, 0], [0, 0]])
    field = ReceptiveField(near, kind, 2, 2, 1, "neighbour")
    with torch.no_grad():
        field.relation_vectors.copy_(torch.tensor([[100.0, 0.0], [0.0, 100.0]]))
        field.layers[0].weight.copy_(torch.eye(2))
    x = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.2]])  # the item, and what its two relations lead to
    scores = field.matrix(torch.eye(2), x, 1)
    torch.testing.assert_close(scores[:, 0], torch.tanh(torch.tensor([0.5, 0.2])))


def test_a_store_without_triples_is_refused():
    encoder = KGCNEncoder(KGCNSettings(), 5, torch.Generator())
    without = Relations({BUY: graph().edges[BUY]}, NODES, BUY)
    with pytest.raises(ConfigError, match="model kgcn needs triples"):
        encoder.prepare(without, torch.Generator())
