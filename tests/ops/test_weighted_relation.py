"""A relation that carries weights is the matrix of these weights, whatever is made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.masking import keep_edges
from graphrec.ops import Relation, gat, gatv2, hetero_spmm, push, sample_negatives, sample_neighbors, sddmm, spmm
from graphrec.ops.importance import visited_items
from graphrec.ops.neighbourhood import RowBlock
from graphrec.ops.spmm import spmm_compact


def dense(relation: Relation) -> torch.Tensor:
    """The matrix of weights."""
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    matrix[relation.rows, relation.indices.long()] = relation.weight.double()
    return matrix


@pytest.fixture
def relation() -> Relation:
    rng = np.random.default_rng(3)
    plain = Relation.from_coo(rng.integers(0, 6, 20), rng.integers(0, 4, 20), 7, 5)  # a row and a column without edges
    return plain.with_weight(torch.from_numpy(rng.random(plain.num_edges)))


def test_what_is_made_of_it_keeps_the_weights(relation):
    a = dense(relation)
    assert torch.equal(dense(relation.transpose()), a.T)
    assert torch.equal(dense(relation.to("cpu")), a)
    zeros = [torch.zeros(n, n, dtype=torch.float64) for n in (7, 5)]
    assert torch.equal(dense(relation.as_homogeneous()), torch.cat([torch.cat([zeros[0], a], 1), torch.cat([a.T, zeros[1]], 1)]))
    rows = torch.tensor([6, 0, 5, 2])
    assert torch.equal(dense(relation.take_rows(rows)), a[rows])
    assert torch.equal(dense(relation.with_targets()), torch.cat([a, torch.eye(7, dtype=torch.float64)], 1))
    keep = torch.arange(relation.num_edges) % 2 == 0
    kept = keep_edges(relation, keep)
    assert torch.equal(kept.weight, relation.weight[keep])
    loops = relation.as_homogeneous().with_self_loops()
    assert torch.equal(dense(loops), dense(relation.as_homogeneous()) + torch.eye(12, dtype=torch.float64))


def test_scales_are_of_the_sums_of_weights(relation):
    strength = dense(relation).sum(1)
    expected = torch.where(strength > 0, strength.pow(-0.5), 0.0)
    torch.testing.assert_close(relation.scale_dst(-0.5, torch.float64), expected)
    torch.testing.assert_close(relation.transpose().scale_src(-0.5, torch.float64), expected)
    torch.testing.assert_close(relation.scale_dst(-1.0, torch.float64, loops=1), 1 / (strength + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_multiply_by_the_weights(relation, dtype):
    a, x = dense(relation).to(dtype), torch.randn(5, 3, dtype=dtype, requires_grad=True)
    torch.testing.assert_close(spmm(relation, x), a @ x)
    twice = torch.full((relation.num_edges,), 2.0, dtype=dtype)
    torch.testing.assert_close(spmm(relation, x, edge_weight=twice), 2 * a @ x)
    rows = torch.tensor([3, 0])
    torch.testing.assert_close(spmm(relation, x, rows=rows), a[rows] @ x)
    mean = a / a.sum(1, keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(spmm(relation, x, reduce="mean"), mean @ x)
    torch.testing.assert_close(torch.autograd.grad(spmm(relation, x).sum(), x)[0], a.sum(0)[:, None].expand(5, 3))
    columns = torch.tensor([1, 3])
    torch.testing.assert_close(spmm_compact(relation, x.detach()[columns], columns), a[:, columns] @ x.detach()[columns])


@pytest.mark.parametrize("rows", [None, ([4, 0, 2], [3, 1])])
def test_lightgcn_propagates_by_them_forward_and_backward(relation, rows):
    user, item = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (7, 5))
    strength = [dense(relation).sum(side) for side in (1, 0)]
    left, right = (torch.where(one > 0, one.clamp(min=1e-12).rsqrt(), 0.0) for one in strength)
    a, layers = left[:, None] * dense(relation) * right, [(user, item)]
    for _ in range(3):
        layers.append((a @ layers[-1][1], a.T @ layers[-1][0]))
    expected = [torch.stack(side).mean(0) for side in zip(*layers, strict=True)]
    asked = (None, None) if rows is None else [torch.tensor(one) for one in rows]
    expected = expected if rows is None else [side[one] for side, one in zip(expected, asked, strict=True)]
    got = LightGCNEncoder(LightGCNSettings(num_layers=3))(relation, user, item, *asked)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)
    gradients = [torch.autograd.grad(sum(side.square().sum() for side in sides), (user, item)) for sides in (got, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_are_one_an_edge(relation):
    with pytest.raises(ValueError, match=r"with_weight: weight must be \(\d+,\), one an edge, got \(3,\)"):
        relation.with_weight(torch.ones(3))


@pytest.mark.parametrize("value", [-1.0, torch.nan, torch.inf])
def test_weights_are_finite_and_not_negative(relation, value):
    weight = relation.weight.clone()
    weight[3] = value
    with pytest.raises(ValueError, match="with_weight: weight must be finite and at least 0"):
        relation.with_weight(weight)


def test_weights_are_constants(relation):
    """Whatever happens to the tensor afterwards; what was made of the relation has them too."""
    weight = torch.rand(relation.num_edges, requires_grad=True)
    made, before = relation.with_weight(weight), weight.detach().clone()
    for _ in range(2):  # a weight with a gradient would ask for the transpose's graph twice
        x = torch.ones(7, 2, requires_grad=True)
        spmm(made.transpose(), x).sum().backward()
    assert weight.grad is None
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(made.weight, before)
    assert torch.equal(dense(made.transpose()), dense(made).T)


def test_operators_that_would_not_read_the_weights_refuse_them(relation):
    x, head = torch.ones(5, 2), torch.ones(5, 1, 2)
    for name, run in {
        "gat": lambda: gat(relation, torch.ones(7, 1), torch.ones(5, 1), head),
        "gatv2": lambda: gatv2(relation, torch.ones(7, 1, 2), head, torch.ones(1, 2)),
        "push": lambda: push(relation, torch.ones(1, 7)),
        "hetero_spmm": lambda: hetero_spmm([(relation, "item", "user")], {"item": x}),
    }.items():
        with pytest.raises(ValueError, match=f"{name}.*: the relation must have no weights"):
            run()


@pytest.mark.parametrize("replace", [False, True])
def test_neighbours_are_drawn_in_proportion_to_the_weights(relation, replace):
    """The same draws as with the weights given beside the relation, in place of its own or of none; uniform on request."""
    plain, other = relation.with_weight(None), torch.rand(relation.num_edges)
    options = {"fanout": 2, "replace": replace, "seed": 1, "rows": torch.arange(7).repeat(30)}
    for given, weights in ((None, relation.weight), (other, other)):
        drawn = [sample_neighbors(relation, weights=given, **options), sample_neighbors(plain, weights=weights, **options)]
        assert all(torch.equal(*sides) for sides in zip(*drawn, strict=True))
    assert not torch.equal(sample_neighbors(relation, **options)[1], sample_neighbors(plain, **options)[1])
    nothing = relation.with_weight(torch.zeros(relation.num_edges))
    assert bool((sample_neighbors(nothing, **options)[0] == -1).all())


def test_walks_take_edges_in_proportion_to_the_weights():
    """User 0 likes items 0 and 1, item 1 with weight 0: no walk meets it."""
    edges = Relation.from_coo([0, 0, 1], [0, 1, 1], 2, 3)
    walks = {"from_items": False, "first": 0, "last": 2, "num_walks": 40, "num_steps": 2, "seed": 0}
    assert visited_items(edges, **walks)[0][0].tolist() != [0, -1]
    assert visited_items(edges.with_weight(torch.tensor([1.0, 0.0, 1.0])), **walks)[0][0].tolist() == [0, -1]


def test_what_reads_the_pairs_alone_takes_a_relation_with_weights(relation):
    plain, x, y = relation.with_weight(None), torch.randn(7, 3), torch.randn(5, 3)
    assert torch.equal(sddmm(relation, x, y), sddmm(plain, x, y))
    users = torch.arange(7).repeat(20)
    assert torch.equal(*(sample_negatives(edges, users, 9, seed=2) for edges in (relation, plain)))


def test_a_block_of_rows_keeps_weights_and_the_strengths_of_the_whole(relation):
    rows = torch.tensor([3, 0, 2])
    block = RowBlock.of(relation, rows)
    assert torch.equal(dense(block), dense(relation)[rows][:, block.columns])
    torch.testing.assert_close(block.scale_dst(-0.5), relation.scale_dst(-0.5)[rows])
    torch.testing.assert_close(block.scale_src(-0.5), relation.scale_src(-0.5)[block.columns])
