from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn.gcn import GCNLayer
from graphrec.nn.ngcf import NGCFLayer
from graphrec.nn.sage import SAGELayer
from graphrec.nn.stack import Stack


def two(kind=GCNLayer, **options) -> Stack:
    generator = torch.Generator().manual_seed(0)
    return Stack([kind(5, 4, generator=generator), kind(4, 3, generator=generator)], **options).double()


@pytest.mark.parametrize("kind", [GCNLayer, SAGELayer, NGCFLayer])
def test_layers_follow_each_other_with_the_activation_between(kind, homogeneous, draw):
    stack, x = two(kind, activation="relu"), draw(11, 5)
    first, second = stack.layers
    expected = second(homogeneous.relation, torch.relu(first(homogeneous.relation, x)))
    torch.testing.assert_close(stack(homogeneous.relation, x), expected)
    torch.testing.assert_close(stack(homogeneous.graph, x), expected)
    rows = torch.tensor([10, 2, 5])
    torch.testing.assert_close(stack(homogeneous.graph, x, rows), expected[rows])


def test_concat_keeps_the_input_and_every_layer(homogeneous, draw):
    x, rows = draw(11, 5), torch.tensor([10, 2, 5])
    stack = two(combine="concat", normalize=True)
    h1 = stack.layers[0](homogeneous.relation, x)
    h2 = stack.layers[1](homogeneous.relation, torch.relu(h1))
    expected = torch.cat([x, normalize(torch.relu(h1), dim=1), normalize(h2, dim=1)], dim=1)
    assert stack.out_dim == expected.shape[1] == 12
    torch.testing.assert_close(stack(homogeneous.relation, x), expected)
    torch.testing.assert_close(stack(homogeneous.relation, x, rows), expected[rows])


def test_self_loops_are_those_of_dgl(homogeneous, draw):
    x, dgl = draw(11, 5), import_dgl()
    looped = dgl.add_self_loop(dgl.remove_self_loop(homogeneous.graph))
    torch.testing.assert_close(two(self_loops=True)(homogeneous.graph, x), two()(looped, x))
    torch.testing.assert_close(two(self_loops=True)(looped, x), two()(looped, x))


def test_dropout_only_in_training(homogeneous, draw):
    stack, x = two(dropout=0.5), draw(11, 5)
    assert not torch.equal(stack(homogeneous.relation, x), stack(homogeneous.relation, x))
    stack.eval()
    torch.testing.assert_close(stack(homogeneous.relation, x), two()(homogeneous.relation, x))


def test_graphs_of_two_node_types_are_refused(bipartite, homogeneous, draw):
    with pytest.raises(ValueError, match=r"same nodes, got 12 destinations and 9 sources; .*as_homogeneous"):
        two()(bipartite.graph, draw(9, 5))
    square = import_dgl().heterograph({("user", "buys", "item"): ([0], [1])}, num_nodes_dict={"user": 3, "item": 3})
    with pytest.raises(ValueError, match="same nodes, got 3 destinations and 3 sources"):
        two()(square, draw(3, 5))
    hetero = import_dgl().heterograph({("user", "buys", "item"): ([0], [1]), ("item", "bought by", "user"): ([1], [0])})
    with pytest.raises(ConfigError, match="Stack: a DGL graph must have one edge type, got 2"):
        two()(hetero, draw(2, 5))
    with pytest.raises(ValueError, match=r"Stack: x must be floating point \(11, 5\)"):
        two()(homogeneous.relation, draw(10, 5))
    with pytest.raises(ValueError, match="Stack: x must be finite, got NaN or infinity in 11 of 11 rows"):
        two()(homogeneous.relation, draw(11, 5) * torch.nan)


def test_stacks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        Stack([])
    with pytest.raises(ValueError, match="src_dim 5 follows one of out_dim 4"):
        Stack([GCNLayer(5, 4), GCNLayer(5, 4)])
    with pytest.raises(ValueError, match="activation must be one of none, relu, elu, leaky-relu, got 'tanh'"):
        two(activation="tanh")
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        two(dropout=1.0)
    with pytest.raises(ValueError, match='combine must be "last" or "concat", got \'mean\''):
        two(combine="mean")
