"""Sampled neighbourhoods: all edges give the whole graph's numbers, few edges give them on average, and no more is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.losses.views import drop_edges
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.masking import keep_drawn
from graphrec.ops import NeighbourhoodSampler, Relation, spmm
from graphrec.ops.neighbourhood import RowBlock

USERS, ITEMS = torch.tensor([7, 2, 11]), torch.tensor([5, 0])


@pytest.fixture(scope="module")
def relation() -> Relation:
    """Thirteen users (the last without an edge), nine items, degrees from 1 to 9."""
    rng = np.random.default_rng(5)
    pairs = [(user, item) for user in range(12) for item in rng.permutation(9)[: 1 + user % 9]]
    return Relation.from_coo(*zip(*pairs, strict=True), 13, 9)


@pytest.fixture(scope="module")
def weighted(relation) -> Relation:
    """The same edges; some weigh nothing, and one row, user 7, has all of its weight on one edge."""
    weight = torch.rand(relation.num_edges, generator=torch.Generator().manual_seed(4)) + 0.05
    weight[::5] = 0.0
    weight[relation.indptr[7] + 1 : relation.indptr[8]] = 0.0
    return relation.with_weight(weight)


def drawn_edges(relation: Relation, rows: torch.Tensor, columns: torch.Tensor) -> set[tuple[int, int]]:
    """The edges of a local relation as (row, column) indices of the graph."""
    return set(zip(rows[relation.rows].tolist(), columns[relation.indices.long()].tolist(), strict=True))


def test_the_rows_of_the_batch_come_first_and_every_drawn_edge_is_one_of_the_graph(relation):
    hood = NeighbourhoodSampler(relation, [3, 2]).draw(USERS, ITEMS, seed=1)
    assert torch.equal(hood.users[:3], USERS) and torch.equal(hood.items[:2], ITEMS)
    assert len(set(hood.users.tolist())) == len(hood.users) and len(set(hood.items.tolist())) == len(hood.items)
    edges = set(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True))
    for layer in (0, 1):
        local = hood.relation.at_layer(layer)
        assert drawn_edges(local, hood.users, hood.items) <= edges
        assert drawn_edges(local.transpose(), hood.items, hood.users) <= {(item, user) for user, item in edges}
    torch.testing.assert_close(hood.relation.full_degree_dst, relation.degree_dst[hood.users])
    torch.testing.assert_close(hood.relation.full_degree_src, relation.degree_src[hood.items])


def test_a_row_draws_as_many_edges_as_the_fanout_of_its_hop_or_all_it_has(relation):
    hood = NeighbourhoodSampler(relation, [3, 2]).draw(USERS, ITEMS, seed=1)
    outer, inner = hood.relation.at_layer(1), hood.relation.at_layer(0)
    assert outer.degree_dst[:3].tolist() == relation.degree_dst[USERS].clamp_max(3).tolist()
    assert not outer.degree_dst[3:].any()
    reached = len(set(outer.indices.tolist()) | {0, 1})  # items that the second hop starts from
    assert inner.transpose().degree_dst[:reached].tolist() == relation.degree_src[hood.items[:reached]].clamp_max(2).tolist()


def test_equal_seeds_draw_equal_and_a_draw_leaves_nothing_behind(relation):
    sampler = NeighbourhoodSampler(relation, [2, 2])
    first = sampler.draw(USERS, ITEMS, seed=9)
    other = sampler.draw(torch.tensor([0, 1, 2]), torch.tensor([8]), seed=10)
    again = sampler.draw(USERS, ITEMS, seed=9)
    assert torch.equal(first.users, again.users) and torch.equal(first.relation.indices, again.relation.indices)
    assert not torch.equal(first.users, other.users)


@pytest.mark.parametrize("rows", [[], [12], [3, 12, 0]])
@pytest.mark.parametrize("loops", [0, 1])
def test_a_block_of_rows_has_their_edges_and_the_scales_of_the_whole_relation(relation, rows, loops):
    rows = torch.tensor(rows, dtype=torch.int64)
    block = RowBlock.of(relation, rows)
    assert torch.equal(block.columns, relation.take_rows(rows).indices.long().unique())
    assert torch.equal(block.rows[block.t_edges].int(), block.t_indices)
    assert torch.equal(block.indices[block.t_edges], torch.repeat_interleave(torch.arange(block.num_src), block.degree_src).int())
    x, ones = torch.randn(9, 4, dtype=torch.float64), torch.float64
    expected = spmm(relation, x, *(scale(-0.5, ones, loops) for scale in (relation.scale_dst, relation.scale_src)))
    scales = (scale(-0.5, ones, loops) for scale in (block.scale_dst, block.scale_src))
    torch.testing.assert_close(spmm(block, x[block.columns], *scales), expected[rows])


@pytest.mark.parametrize("graph", ["relation", "weighted"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_all_edges_give_the_outputs_and_gradients_of_the_whole_graph(request, graph, num_layers):
    relation = request.getfixturevalue(graph)
    tables = [torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (13, 9)]
    encoder = LightGCNEncoder(LightGCNSettings(num_layers=num_layers))
    hood = NeighbourhoodSampler(relation, [13] * num_layers).draw(USERS, ITEMS, seed=0)
    local = encoder(hood.relation, tables[0][hood.users], tables[1][hood.items], torch.arange(3), torch.arange(2))
    whole = encoder(relation, *tables, USERS, ITEMS)
    weights = [torch.randn_like(side) for side in whole]
    for left, right in zip(local, whole, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    losses = [sum((side.tanh() * w).sum() for side, w in zip(sides, weights, strict=True)) for sides in (local, whole)]
    for left, right in zip(*(torch.autograd.grad(loss, tables) for loss in losses), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("graph", ["relation", "weighted"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_few_edges_give_the_propagation_of_the_whole_graph_on_average(request, graph, num_layers):
    """Copies of the graph side by side: one draw of their rows is as many draws as there are copies."""
    relation = request.getfixturevalue(graph)
    copies, rows = 200, len(USERS) + len(ITEMS)
    offset = torch.arange(copies)[:, None]
    edges = ((part + size * offset).flatten() for part, size in ((relation.rows, 13), (relation.indices, 9)))
    users, items = (USERS + 13 * offset).flatten(), (ITEMS + 9 * offset).flatten()
    tables = [torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) for n in (13, 9)]
    encoder = LightGCNEncoder(LightGCNSettings(num_layers=num_layers))
    weight = None if relation.weight is None else relation.weight.repeat(copies)
    sampler = NeighbourhoodSampler(Relation.from_coo(*edges, 13 * copies, 9 * copies, weight), [2] * num_layers)
    draws = []
    for seed in range(20):
        hood = sampler.draw(users, items, seed=100 * seed)
        inputs = tables[0][hood.users % 13], tables[1][hood.items % 9]
        user, item = encoder(hood.relation, *inputs, torch.arange(len(users)), torch.arange(len(items)))
        draws.append(torch.cat([user.view(copies, -1, 2), item.view(copies, -1, 2)], 1))
    draws = torch.cat(draws)
    assert draws.shape == (4000, rows, 2)
    error = draws.std(0) / len(draws) ** 0.5
    gap = (draws.mean(0) - torch.cat(encoder(relation, *tables, USERS, ITEMS))).abs()
    assert bool((gap < 4 * error + 1e-12).all()), (gap / error).max()
    assert bool((draws.std(0) > 0.01 * draws.mean(0)).any())  # something was left out at all


def test_means_need_no_correction_beside_the_scale(relation):
    x = torch.rand(9, 3)
    hood = NeighbourhoodSampler(relation, [4]).draw(USERS, ITEMS, seed=2)
    got = spmm(hood.relation, x[hood.items], reduce="mean")[:3]
    for row in range(3):
        columns = hood.items[hood.relation.indices[hood.relation.rows == row].long()]
        torch.testing.assert_close(got[row], x[columns].mean(0))


def test_drawn_weights_add_up_to_those_of_all_edges(weighted):
    """A row of no more edges than the fanout has its own ones; of the others an edge counts by how often it was drawn."""
    hood = NeighbourhoodSampler(weighted, [4]).draw(torch.arange(13), torch.arange(9), seed=6)
    for local, whole in ((hood.relation, weighted), (hood.relation.transpose(), weighted.transpose())):
        totals = torch.zeros(whole.num_dst, dtype=torch.float64).index_add_(0, local.rows, local.weight.double())
        torch.testing.assert_close(totals, whole.strength_dst, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(local.strength_dst, whole.strength_dst)
        torch.testing.assert_close(local.strength_src, whole.strength_src)
        weight = dict(zip(zip(whole.rows.tolist(), whole.indices.tolist(), strict=True), whole.weight.tolist(), strict=True))
        assert bool((local.indices.diff() > 0)[local.rows.diff() == 0].all())  # no edge twice
        for row, column, got in zip(local.rows.tolist(), local.indices.tolist(), local.weight.tolist(), strict=True):
            own = weight[row, column]
            share = got / float(whole.strength_dst[row]) * 4
            assert own > 0 and (got == own if whole.degree_dst[row] <= 4 else abs(share - round(share)) < 1e-5)
    x = torch.rand(9, 3)
    means = spmm(hood.relation, x, reduce="mean")
    assert bool((means <= x.max(0).values + 1e-6).all())
    row = weighted.indptr[7]
    torch.testing.assert_close(means[7], x[weighted.indices[row].long()])
    assert torch.equal(hood.to("cpu").relation.at_layer(0).weight, hood.relation.weight)


def test_parts_of_a_weighted_draw_keep_their_weights(weighted):
    drawn = NeighbourhoodSampler(weighted, [4]).draw(torch.arange(13), torch.arange(9), seed=6).relation
    keep = torch.arange(drawn.num_edges) % 3 > 0
    assert torch.equal(keep_drawn(drawn, keep).weight, drawn.weight[keep])
    with pytest.raises(ValueError, match="drop_edges and drop_nodes of a sample: the relation must have no weights"):
        drop_edges(drawn, 0.1, torch.Generator())


def test_no_hops_give_the_rows_and_nothing_else(relation):
    hood = NeighbourhoodSampler(relation, []).draw(USERS, ITEMS, seed=0)
    assert torch.equal(hood.users, USERS) and torch.equal(hood.items, ITEMS) and hood.relation.num_edges == 0


def test_fanouts_below_one_are_refused(relation):
    with pytest.raises(ValueError, match=r"at least 1, got \[3, 0\]"):
        NeighbourhoodSampler(relation, [3, 0])
