"""The knowledge-aware LightGCN against dense matrices, and which entities it keeps."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.nn.knowledge_light import KnowledgeLightEncoder, KnowledgeLightSettings
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.relations import Relations
from graphrec.ops import Relation

BUY, MADE_BY, SEEN_WITH = ("user", "buy", "item"), ("item", "made_by", "entity"), ("item", "seen_with", "entity")
NODES = {"user": 4, "item": 4, "entity": 3}


def graph() -> Relations:
    edges = {
        BUY: Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 2], 4, 4),
        MADE_BY: Relation.from_coo([0, 1, 2, 2], [0, 0, 0, 2], 4, 3),  # entity 2 is tied to item 2 alone, entity 1 to two
        SEEN_WITH: Relation.from_coo([0, 0, 1], [0, 1, 1], 4, 3),  # item 0 and entity 0 are joined twice; item 3 by nothing
    }
    return Relations(edges, NODES, BUY)


def prepared(**settings) -> KnowledgeLightEncoder:
    generator = torch.Generator().manual_seed(3)
    encoder = KnowledgeLightEncoder(KnowledgeLightSettings(**settings), 5, generator)
    encoder.prepare(graph(), generator)
    return encoder.double()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return tuple(torch.randn(NODES[n], 5, dtype=torch.float64, generator=generator) for n in ("user", "item"))


def dense() -> torch.Tensor:
    """B over the four items and the two entities that are kept."""
    ties = torch.zeros(6, 6, dtype=torch.float64)
    for item, entity in ((0, 0), (1, 0), (2, 0), (0, 0), (0, 1), (1, 1)):
        ties[item, 4 + entity] += 1
    ties = ties + ties.T
    scale = torch.where(ties.sum(1) > 0, ties.sum(1).rsqrt(), 0.0)
    return scale[:, None] * ties * scale


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_vectors_equal_lightgcn_on_items_that_gathered_their_triples(hops):
    encoder, (user_x, item_x) = prepared(num_knowledge_layers=hops, knowledge_weight=0.5), inputs()
    h, item = torch.cat([item_x, encoder.entity.detach()]), item_x
    for _ in range(hops):
        h = 0.5 * dense() @ h
        item = item + h[:4]
    expected = LightGCNEncoder(LightGCNSettings(num_layers=2), 5)(graph().edges[BUY], user_x, item)
    for ours, theirs in zip(encoder(graph().edges[BUY], user_x, item_x), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    rows = encoder(graph().edges[BUY], user_x, item_x, torch.tensor([2]), torch.tensor([3, 0]))
    torch.testing.assert_close(rows[1], expected[1][[3, 0]])


def test_entities_with_one_link_have_no_vector_and_tie_no_new_item():
    encoder, (user_x, item_x) = prepared(), inputs()
    assert encoder.entity.shape == (2, 5)
    links = [(0, torch.tensor([0, 1]), torch.tensor([2, 1]))]  # new item 0 to entity 2, new item 1 to entity 1
    made = encoder.by_entities(graph().edges[BUY], user_x, item_x, links, 3)
    assert not made[0].any() and not made[2].any()
    torch.testing.assert_close(made[1], encoder.entity[1].detach() / 2**0.5)
    _, items, entities = encoder.entity_links()["seen_with", True]
    assert (items.tolist(), entities.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_shares_of_own_vectors_and_triples_sum_to_one_and_grow_with_the_weight():
    found = [prepared(knowledge_weight=w).relation_weights(graph().edges[BUY], *inputs()) for w in (0.5, 2.0)]
    for one in found:
        assert sum(one.values()) == pytest.approx(1.0)
    assert found[1]["triples to item"] > found[0]["triples to item"]


def test_a_store_without_triples_is_refused():
    without = Relations({BUY: graph().edges[BUY]}, NODES, BUY)
    with pytest.raises(ConfigError, match="knowledge-lightgcn needs triples"):
        KnowledgeLightEncoder(KnowledgeLightSettings(), 5).prepare(without, torch.Generator())
