"""Views of a graph really leave out what they say, on both sides alike, and depend on the generator alone."""

from __future__ import annotations

import pytest
import torch

from graphrec.losses.views import drop_edges, drop_nodes
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.masking import keep_edges
from graphrec.ops import NeighbourhoodSampler, Relation

WHOLE = Relation.from_coo(*(torch.arange(3000) // 60, torch.arange(3000) % 60), 50, 60)  # every pair


def edges(relation: Relation) -> set[tuple[int, int]]:
    return set(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kept_edges_are_the_same_from_both_sides():
    small = Relation.from_coo([0, 0, 1, 2, 2], [1, 3, 0, 1, 2], 3, 4)
    kept = keep_edges(small, torch.tensor([True, False, True, False, True]))
    assert edges(kept) == {(0, 1), (1, 0), (2, 2)}
    assert edges(kept.transpose()) == {(1, 0), (0, 1), (2, 2)}
    assert kept.degree_dst.tolist() == [1, 1, 1] and kept.degree_src.tolist() == [1, 1, 1, 0]
    assert (kept.num_dst, kept.num_src) == (3, 4)


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_a_view_follows_its_generator(drop):
    first, again, other = drop(WHOLE, 0.3, seeded(1)), drop(WHOLE, 0.3, seeded(1)), drop(WHOLE, 0.3, seeded(2))
    assert edges(first) == edges(again) != edges(other)
    assert edges(first.transpose()) == {(item, user) for user, item in edges(first)}
    assert edges(drop(WHOLE, 0.0, seeded(1))) == edges(WHOLE)


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_a_view_of_a_sample_with_every_edge_is_that_of_the_graph(drop):
    graph = Relation.from_coo([0, 0, 1, 2, 2, 3, 4, 4], [1, 3, 0, 1, 2, 3, 0, 2], 5, 4)
    inputs = [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 4)]
    hood = NeighbourhoodSampler(graph, [5, 5]).draw(torch.arange(5), torch.arange(4), seed=1)
    encoder, gone = LightGCNEncoder(LightGCNSettings(num_layers=2)), 0
    for seed in range(5):
        views = [drop(relation, 0.4, seeded(seed)) for relation in (hood.relation, graph)]
        gone += graph.num_edges - views[1].num_edges
        sides = [torch.cat(encoder(view, *inputs, torch.arange(5), torch.arange(4))) for view in views]
        gradients = [torch.autograd.grad(side.square().sum(), inputs) for side in sides]
        for left, right in (sides, *zip(*gradients, strict=True)):
            torch.testing.assert_close(left, right)
    assert gone > 8


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_in_a_sample_an_edge_goes_from_all_draws_and_degrees_are_estimates(drop):
    hood = NeighbourhoodSampler(WHOLE, [9, 9]).draw(torch.arange(50), torch.arange(60), seed=1)
    view = drop(hood.relation, 0.3, seeded(2))
    drawn, left = set(), set()
    for relation, found in ((hood.relation, drawn), (view, left)):
        for layer in (0, 1):
            found |= edges(relation.at_layer(layer))
            found |= {(user, item) for item, user in edges(relation.at_layer(layer).transpose())}
    for layer in (0, 1):  # as are those of the other side
        assert edges(view.at_layer(layer)) == edges(hood.relation.at_layer(layer)) & left
        assert torch.equal(view.at_layer(layer).draw.correction, hood.relation.at_layer(layer).draw.correction)
    user = next(iter(left))[0]  # not a node that is left out
    seen, stay = (sum(edge[0] == user for edge in found) for found in (drawn, left))
    assert 9 < seen < 60 and stay < seen
    assert float(view.full_degree_dst[user]) == pytest.approx(stay + 0.7 * (60 - seen))
    assert float(view.full_degree_dst.double().mean()) == pytest.approx(60 * (0.7 if drop is drop_edges else 0.49), rel=0.15)


def test_edges_go_at_the_stated_rate():
    assert drop_edges(WHOLE, 0.3, seeded(0)).num_edges / WHOLE.num_edges == pytest.approx(0.7, abs=0.03)


def test_nodes_go_with_all_of_their_edges():
    view = drop_nodes(WHOLE, 0.3, seeded(0))
    users, items = (view.degree_dst > 0).sum(), (view.degree_src > 0).sum()
    assert 20 <= int(users) < 50 and 25 <= int(items) < 60
    assert view.num_edges == users * items  # whoever is left keeps every edge to whoever is left
