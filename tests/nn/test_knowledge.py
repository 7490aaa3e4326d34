"""KGAT's attention and layers against the paper's formulas, edge by edge, on a graph small enough for that."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import leaky_relu, normalize

from graphrec.errors import ConfigError
from graphrec.losses.views import drop_edges
from graphrec.nn.knowledge import KGATEncoder, KGATSettings
from graphrec.nn.relations import Relations
from graphrec.ops import Relation

BUY, MADE_BY, SEEN_WITH, FOLLOWS = (
    ("user", "buy", "item"), ("item", "made_by", "entity"), ("item", "seen_with", "entity"), ("user", "follows", "user"),
)  # fmt: skip
NODES = {"user": 4, "item": 3, "entity": 2}


@pytest.fixture
def relations() -> Relations:
    edges = {
        BUY: Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 2], 4, 3),  # user 3 has nothing
        MADE_BY: Relation.from_coo([0, 1, 2], [0, 0, 1], 3, 2),
        SEEN_WITH: Relation.from_coo([0, 2], [0, 0], 3, 2),  # item 0 and entity 0 are joined twice
        FOLLOWS: Relation.from_coo([0], [1], 4, 4),
    }
    return Relations(edges, NODES, BUY)


def prepared(graph: Relations, **settings) -> KGATEncoder:
    generator = torch.Generator().manual_seed(3)
    encoder = KGATEncoder(KGATSettings(layer_sizes=[4, 2], relation_dim=3, **settings), 5, generator)
    encoder.prepare(graph, generator)
    return encoder.double().eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return tuple(torch.randn(NODES[n], 5, dtype=torch.float64, generator=generator) for n in ("user", "item"))


def by_hand(encoder: KGATEncoder, buys: Relation, user_x: torch.Tensor, item_x: torch.Tensor) -> torch.Tensor:
    """All nodes, users first, by loops over edges."""
    x, starts = torch.cat([user_x, item_x, encoder.nodes["entity"]]), {"user": 0, "item": 4, "entity": 7}
    weights = torch.zeros(9, 9, dtype=torch.float64)
    for number, message in enumerate(encoder.messages):
        relation = message.relation
        if message.etype == BUY:
            relation = buys if message.target == "user" else buys.transpose()
        for h, t in zip(relation.rows.tolist(), relation.indices.tolist(), strict=True):
            h, t = h + starts[message.target], t + starts[message.source]
            head, tail = (x[n] @ encoder.projections[number] for n in (h, t))
            weights[h, t] += torch.exp(tail @ torch.tanh(head + encoder.relation_vectors[number]))
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-300)
    layers = [x]
    for by_sum, by_product in zip(encoder.sums, encoder.products, strict=True):
        n = weights.detach() @ x
        x = leaky_relu((x + n) @ by_sum) + leaky_relu((x * n) @ by_product)
        layers.append(normalize(x, dim=1))
    return torch.cat(layers, 1)


def test_vectors_and_gradients_equal_loops_over_edges(relations):
    encoder, (user_x, item_x) = prepared(relations), inputs()
    variables = [user_x.requires_grad_(), item_x.requires_grad_(), encoder.nodes["entity"], *encoder.sums, *encoder.products]
    user, item = encoder(relations.edges[BUY], user_x, item_x)
    expected = by_hand(encoder, relations.edges[BUY], user_x, item_x)
    torch.testing.assert_close(torch.cat([user, item]), expected[:7])
    assert user.shape[1] == encoder.out_dim == 11
    weight = torch.randn(7, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sums = (torch.cat([user, item]) * weight).sum(), (expected[:7] * weight).sum()
    for got, wanted in zip(*(torch.autograd.grad(one, variables) for one in sums), strict=True):
        torch.testing.assert_close(got, wanted)


def test_rows_asked_for_are_those_of_all(relations):
    encoder, (user_x, item_x) = prepared(relations), inputs()
    everything = encoder(relations.edges[BUY], user_x, item_x)
    users, items = torch.tensor([2, 0]), torch.tensor([1])
    some = encoder(relations.edges[BUY], user_x, item_x, users, items)
    assert torch.equal(some[0], everything[0][users]) and torch.equal(some[1], everything[1][items])


def test_edges_that_a_loss_left_out_carry_nothing(relations):
    encoder, (user_x, item_x) = prepared(relations), inputs()
    fewer = drop_edges(relations.edges[BUY], 0.5, torch.Generator().manual_seed(2))
    assert 0 < fewer.num_edges < 4
    user, item = encoder(fewer, user_x, item_x)
    torch.testing.assert_close(torch.cat([user, item]), by_hand(encoder, fewer, user_x, item_x)[:7])


def test_attention_of_a_node_sums_to_one_and_reports_by_relation(relations):
    encoder, (user_x, item_x) = prepared(relations), inputs()
    weight = encoder.attention(torch.cat([user_x, item_x, encoder.nodes["entity"]]), relations.edges[BUY])
    sums = torch.zeros(9, dtype=torch.float64).index_add_(0, encoder._edges["head"], weight)
    torch.testing.assert_close(sums, torch.tensor([1.0, 1, 1, 0, 1, 1, 1, 1, 1], dtype=torch.float64))
    found = encoder.relation_weights(relations.edges[BUY], user_x, item_x)
    assert set(found) == {"buy to user", "buy to item", "made_by to item", "made_by to entity", "seen_with to item",
                          "seen_with to entity"}  # fmt: skip
    assert found["buy to user"] == 1 and sum(v for name, v in found.items() if name.endswith("item")) == pytest.approx(1)


def test_distances_of_triples_are_those_of_the_paper(relations):
    encoder, (user_x, item_x) = prepared(relations, relations=["made_by"]), inputs()
    torch.manual_seed(0)
    near, far = encoder.triples(user_x, item_x, 200)
    x, edges = torch.cat([user_x, item_x, encoder.nodes["entity"]]), encoder._edges
    distance = [
        ((x[h] @ encoder.projections[r] + encoder.relation_vectors[r] - x[t] @ encoder.projections[r]) ** 2).sum()
        for h, r, t in zip(*(edges[name].tolist() for name in ("head", "kind", "tail")), strict=True)
    ]
    known = torch.stack(distance)
    assert (torch.cdist(near[:, None], known[:, None]).min(1).values < 1e-9).all() and len(near.unique()) == len(known)
    assert not torch.equal(near, far)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["made_by", "made_bye"], r"needs the relation 'made_bye', which the store lacks; it has buy.*made_by"),
        (["follows"], "'follows' joins user to user"),
    ],
)
def test_relations_that_do_not_fit_are_refused_with_what_there_is(relations, names, message):
    with pytest.raises(ConfigError, match=message):
        prepared(relations, relations=names)


def test_a_store_without_triples_is_told_how_to_get_them(relations):
    bare = Relations({BUY: relations.edges[BUY]}, NODES, BUY)
    with pytest.raises(ConfigError, match=r"needs triples.*buy \(user to item, 4 edges\).*attribute_triples"):
        prepared(bare)
