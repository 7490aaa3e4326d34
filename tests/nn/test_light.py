from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.nn.light import LightGCNEncoder, LightGCNLayer, LightGCNSettings
from graphrec.nn.stack import Stack
from graphrec.ops import Relation

NUM_USERS, NUM_ITEMS = 33, 22


def dense_layers(relation: Relation, user: torch.Tensor, item: torch.Tensor, num_layers: int) -> list[torch.Tensor]:
    """Equation 8 of the paper, layer by layer, on the dense normalised matrix."""
    matrix = torch.zeros(NUM_USERS, NUM_ITEMS, dtype=torch.float64)
    matrix[torch.repeat_interleave(torch.arange(NUM_USERS), relation.degree_dst), relation.indices.long()] = 1
    scale = relation.scale_dst(-0.5, torch.float64)[:, None] * relation.scale_src(-0.5, torch.float64)
    layers = [(user, item)]
    for _ in range(num_layers):
        user, item = (scale * matrix) @ item, (scale * matrix).T @ user
        layers.append((user, item))
    return [torch.stack(side).mean(dim=0) for side in zip(*layers, strict=True)]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("restricted", [False, True])
def test_output_and_gradient_equal_dense_layers(num_layers, restricted):
    rng = np.random.default_rng(num_layers)
    relation = Relation.from_coo(rng.integers(0, 30, 200), rng.integers(0, 20, 200), NUM_USERS, NUM_ITEMS)
    user = torch.randn(NUM_USERS, 7, dtype=torch.float64, requires_grad=True)
    item = torch.randn(NUM_ITEMS, 7, dtype=torch.float64, requires_grad=True)
    rows = (torch.tensor([4, 32, 0, 9]), torch.tensor([21, 3, 5])) if restricted else (None, None)
    encoder = LightGCNEncoder(LightGCNSettings(num_layers=num_layers))
    got = encoder(relation, user, item, *rows)
    expected = dense_layers(relation, user, item, num_layers)
    if restricted:
        expected = [side[index] for side, index in zip(expected, rows, strict=True)]
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left, right)
    weights = [torch.randn_like(side) for side in got]
    losses = [sum((side * w).sum() for side, w in zip(sides, weights, strict=True)) for sides in (got, expected)]
    for left, right in zip(*(torch.autograd.grad(loss, (user, item)) for loss in losses), strict=True):
        torch.testing.assert_close(left, right)


def test_the_second_derivative_is_an_error():
    relation = Relation.from_coo([0, 1], [0, 1], 2, 2)
    user, item = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    users, _ = LightGCNEncoder(LightGCNSettings(num_layers=1))(relation, user, item)
    (slope,) = torch.autograd.grad(users.square().sum(), user, create_graph=True)
    with pytest.raises(RuntimeError, match="LightGCNEncoder is differentiable once"):
        slope.sum().backward()


def test_rows_of_one_side_alone_are_refused():
    relation = Relation.from_coo([0], [0], 1, 1)
    with pytest.raises(ValueError, match="both users and items, or neither"):
        LightGCNEncoder()(relation, torch.ones(1, 2), torch.ones(1, 2), users=torch.tensor([0]))


def test_bfloat16_inputs_propagate_like_float32_ones():
    rng = np.random.default_rng(0)
    relation = Relation.from_coo(rng.integers(0, 30, 200), rng.integers(0, 20, 200), NUM_USERS, NUM_ITEMS)
    user, item = torch.randn(NUM_USERS, 32), torch.randn(NUM_ITEMS, 32)
    rounded = [side.bfloat16().requires_grad_() for side in (user, item)]
    encoder = LightGCNEncoder(LightGCNSettings(num_layers=2))
    got, expected = encoder(relation, *rounded), encoder(relation, *(side.detach().float() for side in rounded))
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left.float(), right, rtol=0.02, atol=0.02)
    sum(side.float().sum() for side in got).backward()
    assert all(torch.isfinite(side.grad).all() for side in rounded)


def test_layer_equals_dgl(sample, draw, same):
    x = draw(sample.num_src, 5)
    theirs = import_dgl().nn.GraphConv(5, 5, norm="both", weight=False, bias=False, allow_zero_in_degree=True)
    expected = theirs(sample.graph, (x, draw(sample.num_dst, 5)) if sample.num_dst != sample.num_src else x)
    same(LightGCNLayer(5)(sample.graph, x), expected, [[x], [x]])


def test_the_encoder_is_the_mean_of_layers(draw):
    rng = np.random.default_rng(1)
    relation = Relation.from_coo(rng.integers(0, 30, 200), rng.integers(0, 20, 200), NUM_USERS, NUM_ITEMS)
    x = draw(NUM_USERS + NUM_ITEMS, 5)
    hops = [x, *(Stack([LightGCNLayer(5)] * n, activation="none")(relation.as_homogeneous(), x) for n in (1, 2))]
    got = torch.cat(LightGCNEncoder(LightGCNSettings(num_layers=2), 5)(relation, *x.split([NUM_USERS, NUM_ITEMS])))
    torch.testing.assert_close(got, torch.stack(hops).mean(0))


def test_rows_out_of_range_are_refused():
    relation, x = Relation.from_coo([0, 1], [0, 1], 2, 2), torch.ones(2, 3)
    for users in (torch.tensor([-1]), torch.tensor([0], dtype=torch.int32)):
        with pytest.raises(ValueError, match="LightGCNEncoder: users must be"):
            LightGCNEncoder()(relation, x, x, users, torch.tensor([0]))
