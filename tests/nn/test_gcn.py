from __future__ import annotations

import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.nn.gcn import GCNEncoder, GCNLayer, GCNSettings
from graphrec.ops import NeighbourhoodSampler, Relation


@pytest.mark.parametrize("out_dim", [3, 8])  # DGL multiplies by W before or after the sum, as this layer does
def test_layer_equals_dgl(sample, draw, same, out_dim):
    x = draw(sample.num_src, 5)
    ours = GCNLayer(5, out_dim, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        ours.bias.normal_()
    theirs = import_dgl().nn.GraphConv(5, out_dim, norm="both", allow_zero_in_degree=True).double()
    theirs.load_state_dict({"weight": ours.weight.weight.T, "bias": ours.bias})
    got = ours(sample.graph, x)
    expected = theirs(sample.graph, (x, draw(sample.num_dst, 5)) if sample.num_dst != sample.num_src else x)
    weights = ours.weight.weight, theirs.weight
    same(got, expected, [[x, weights[0], ours.bias], [x, weights[1], theirs.bias]], transposed=(1,))


@pytest.mark.parametrize("rows", [None, [4, 0]])
def test_own_features_beside_the_edges_are_self_loops_in_the_graph(rows):
    relation = Relation.from_coo([0, 1, 1, 2, 3, 0], [1, 0, 2, 1, 0, 3], 5, 5)  # the last node is isolated
    rows = rows if rows is None else torch.tensor(rows)
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    for out_dim in (3, 8):
        plain, looped = (GCNLayer(4, out_dim, self_loops=loops).double() for loops in (False, True))
        looped.load_state_dict(plain.state_dict())
        expected, got = plain(relation.with_self_loops(), x, rows=rows), looped(relation, x, rows=rows)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad(y.tanh().sum(), [x, layer.weight.weight])
            for y, layer in ((got, looped), (expected, plain))
        ]
        for left, right in zip(*gradients, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    theirs = import_dgl().add_self_loop(import_dgl().graph(([1, 0, 2, 1, 0, 3], [0, 1, 1, 2, 3, 0]), num_nodes=5))
    conv = import_dgl().nn.GraphConv(4, 8, norm="both").double()
    conv.load_state_dict({"weight": looped.weight.weight.T, "bias": looped.bias})
    torch.testing.assert_close(looped(relation, x), conv(theirs, x))


def test_a_sample_scales_the_drawn_neighbours_and_not_the_node_itself():
    relation = Relation.from_coo([0, 0, 0, 0], [0, 1, 2, 3], 1, 4)
    layer = GCNLayer(2, 2, self_loops=True, bias=False).double()
    with torch.no_grad():
        layer.weight.weight.copy_(torch.eye(2))
    hood = NeighbourhoodSampler(relation, [2]).draw(torch.tensor([0]), torch.tensor([0]), seed=0)
    items = torch.ones(len(hood.items), 2, dtype=torch.float64)
    user = torch.full((1, 2), 7.0, dtype=torch.float64)
    got = layer(hood.relation, items, user)[0]
    torch.testing.assert_close(
        got, torch.full((2,), 4 * 10**-0.5 + 7 / 5, dtype=torch.float64)
    )  # degrees 4 + 1 and 1 + 1


def test_encoder_is_the_paper_on_the_dense_matrix():
    """Equation 9: Ã = A + I, normalised by its own degrees, ReLU between the two layers, none after them."""
    relation = Relation.from_coo([0, 0, 1], [0, 1, 1], 2, 2)  # a path: item 0 - user 0 - item 1 - user 1
    encoder = GCNEncoder(GCNSettings(num_layers=2), 3, torch.Generator().manual_seed(1)).double().eval()
    user, item = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    a = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 1]], dtype=torch.float64)
    scale = a.sum(1).rsqrt()
    a = scale[:, None] * a * scale
    first, second = encoder.stack.layers
    hidden = torch.relu(a @ torch.cat([user, item]) @ first.weight.weight.T + first.bias)
    expected = a @ hidden @ second.weight.weight.T + second.bias
    torch.testing.assert_close(torch.cat(encoder(relation, user, item)), expected)


def test_without_self_loops_a_node_does_not_hear_itself():
    relation = Relation.from_coo([0], [0], 1, 1)
    user, item = torch.ones(1, 3), torch.zeros(1, 3)
    for loops in (True, False):
        encoder = GCNEncoder(GCNSettings(num_layers=1, self_loops=loops), 3, torch.Generator().manual_seed(1))
        assert bool(encoder(relation, user, item)[0].any()) == loops


def test_self_loops_beside_edges_that_go_one_way_or_loop_are_refused():
    layer, x = GCNLayer(3, 2, self_loops=True).double(), torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="edges that go one way only; make it so .of a DGL graph: dgl.to_bidirected"):
        layer(Relation.from_coo([0, 1], [1, 2], 3, 3), x)
    looped = Relation.from_coo([0, 1, 1], [1, 0, 1], 3, 3)
    with pytest.raises(ValueError, match="edges from a node to itself"):
        layer(looped, x)
    uneven = Relation.from_coo([0, 1], [1, 0], 3, 3, weight=[2.0, 1.0])
    with pytest.raises(ValueError, match="whose weights differ between the two ways"):
        layer(uneven, x)
    plain = GCNLayer(3, 2).double()
    plain.load_state_dict(layer.state_dict())
    both_ways = Relation.from_coo([0, 1], [1, 0], 3, 3, weight=[2.0, 2.0])
    torch.testing.assert_close(layer(both_ways, x), plain(both_ways.with_self_loops(), x))
