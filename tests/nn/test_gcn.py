from __future__ import annotations

import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.nn.gcn import GCNEncoder, GCNLayer, GCNSettings
from graphrec.ops import Relation


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
