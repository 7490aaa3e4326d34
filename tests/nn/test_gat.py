from __future__ import annotations

import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn.gat import GATEncoder, GATLayer, GATSettings, GATv2Encoder, GATv2Layer
from graphrec.ops import NeighbourhoodSampler, Relation

D, F, H = 5, 4, 3


def ours_and_theirs(kind, separate: bool):
    """The layer and DGL's with the same weights, and their parameters in the same order."""
    dgl = import_dgl()
    dst_dim = D if separate else None
    ours = kind(D, F, H, dst_dim=dst_dim, generator=torch.Generator().manual_seed(0)).double()
    feats = (D, D) if separate else D
    theirs = {GATLayer: dgl.nn.GATConv, GATv2Layer: dgl.nn.GATv2Conv}[kind](feats, F, H, allow_zero_in_degree=True)
    theirs = theirs.double()
    if kind is GATLayer:
        shared = theirs.fc_src.weight if separate else theirs.fc.weight
        pairs = [
            (ours.src_weight.weight, shared),
            (ours.src_attention, theirs.attn_l),
            (ours.dst_attention, theirs.attn_r),
            (ours.bias, theirs.bias),
        ]
        pairs += [(ours.dst_weight.weight, theirs.fc_dst.weight)] if separate else []
    else:
        pairs = [
            (ours.src_weight.weight, theirs.fc_src.weight),
            (ours.src_weight.bias, theirs.fc_src.bias),
            (ours.dst_weight.weight, theirs.fc_dst.weight),
            (ours.dst_weight.bias, theirs.fc_dst.bias),
            (ours.attention, theirs.attn),
        ]
    with torch.no_grad():
        for left, right in pairs:
            left.normal_(generator=torch.Generator().manual_seed(left.numel()))
            right.copy_(left.view_as(right))
    return ours, theirs, [list(side) for side in zip(*pairs, strict=True)]


@pytest.mark.parametrize("kind", [GATLayer, GATv2Layer])
@pytest.mark.parametrize("separate", [False, True])
def test_layer_equals_dgl(kind, separate, sample, draw, same):
    ours, theirs, (left, right) = ours_and_theirs(kind, separate)
    src_x, dst_x = draw(sample.num_src, D), draw(sample.num_dst, D)
    if not separate and sample.num_src == sample.num_dst:
        got, expected, features = ours(sample.graph, src_x), theirs(sample.graph, src_x), [src_x]
    else:
        got, expected, features = ours(sample.graph, src_x, dst_x), theirs(sample.graph, (src_x, dst_x)), [src_x, dst_x]
    same(got, expected.flatten(1), [features + left, features + right])


@pytest.mark.parametrize("kind", [GATLayer, GATv2Layer])
def test_heads_are_averaged(kind, homogeneous, draw):
    side_by_side = kind(D, F, H, generator=torch.Generator().manual_seed(0)).double()
    averaged = kind(D, F, H, heads="mean", generator=torch.Generator().manual_seed(0)).double()
    x = draw(11, D)
    expected = side_by_side(homogeneous.relation, x).view(-1, H, F).mean(1)
    torch.testing.assert_close(averaged(homogeneous.relation, x), expected)
    assert (side_by_side.out_dim, averaged.out_dim) == (H * F, F)


@pytest.mark.parametrize("kind", [GATLayer, GATv2Layer])
def test_attention_dropout_draws_from_torch_and_only_in_training(kind, homogeneous, draw):
    layer = kind(D, F, H, dropout=0.5, generator=torch.Generator().manual_seed(0)).double()
    x = draw(11, D)

    def result(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return layer(homogeneous.relation, x)

    assert torch.equal(result(1), result(1)) and not torch.equal(result(1), result(2))
    layer.eval()
    plain = result(1)
    assert torch.equal(plain, result(2))
    layer.train()
    mean = torch.stack([result(seed) for seed in range(600)]).mean(0)
    assert (mean - plain).abs().max() < 0.25 * plain.abs().max(), "dropout keeps the expected value"


def test_a_neighbour_is_averaged_with_the_weight_of_its_score():
    """One feature, W = 1, a_src = 1, a_dst = 0: neighbours 0 and ln 3 have the weights 1/4 and 3/4."""
    layer = GATLayer(1, 1, bias=False)
    for parameter in (layer.src_weight.weight, layer.src_attention):
        torch.nn.init.ones_(parameter)
    torch.nn.init.zeros_(layer.dst_attention)
    log3 = torch.tensor(3.0).log()
    got = layer(Relation.from_coo([0, 0], [0, 1], 1, 2), torch.stack([0 * log3, log3])[:, None], torch.zeros(1, 1))
    torch.testing.assert_close(got, (0.75 * log3).view(1, 1))


@pytest.mark.parametrize("kind", [GATLayer, GATv2Layer])
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("rows", [None, [7, 0, 10]])
@pytest.mark.parametrize("one_kind", [False, True])
def test_a_node_beside_its_neighbours_is_one_with_an_edge_to_itself(kind, slope, rows, one_kind, draw, same):
    dst, src = torch.randint(10, (2, 30), generator=torch.Generator().manual_seed(2))
    relation = Relation.from_coo(dst[dst != src], src[dst != src], 11, 11)  # node 10 has no edges
    rows = None if rows is None else torch.tensor(rows)
    plain, looped = (kind(D, F, H, negative_slope=slope, self_loops=loops).double() for loops in (False, True))
    looped.load_state_dict(plain.state_dict())
    x = draw(11, D)
    expected = plain(relation.with_self_loops(), x, rows=rows)
    got = looped(relation, x, None if one_kind else x.clone(), rows)
    same(expected, got, [[x, *plain.parameters()], [x, *looped.parameters()]])


@pytest.mark.parametrize("kind", [GATLayer, GATv2Layer])
def test_a_node_keeps_its_own_share_where_some_of_its_edges_are_drawn(kind, draw):
    """Neighbours that are alike: three of them must stand for all nine."""
    layer, user = kind(D, F, H, self_loops=True).double(), draw(2, D)
    item = draw(1, D).expand(9, D)
    relation = Relation.from_coo([0] * 9 + [1] * 2, [*range(9), 0, 1], 2, 9)
    hood = NeighbourhoodSampler(relation, [3]).draw(torch.tensor([1, 0]), torch.tensor([], dtype=torch.int64), seed=4)
    assert hood.relation.degree_dst.tolist() == [2, 3]
    for rows in (None, torch.tensor([1])):
        got = layer.propagate(hood.relation, item[hood.items], user[hood.users], rows)
        expected = layer.propagate(relation, item, user)[hood.users]
        torch.testing.assert_close(got, expected if rows is None else expected[rows])


@pytest.mark.parametrize("encoder", [GATEncoder, GATv2Encoder])
def test_encoder_checks_and_sizes(encoder):
    with pytest.raises(ConfigError, match="num_heads must divide the inputs' dimension, got 3 and 8; set head_dim"):
        encoder(GATSettings(num_heads=3), 8)
    assert encoder(GATSettings(num_heads=3, head_dim=5), 8).out_dim == 15
    assert encoder(GATSettings(num_heads=3, head_dim=5, last_heads="mean"), 8).out_dim == 5


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"dropout": 1.0}, "dropout must be in"),
        ({"heads": "sum"}, "heads must be"),
        ({"num_heads": 0}, "least 1"),
        ({"self_loops": True, "dst_dim": 3}, "self_loops need targets of the sources' kind, got dst_dim = 3"),
    ],
)
def test_wrong_arguments_are_refused(wrong, rule):
    for kind in (GATLayer, GATv2Layer):
        with pytest.raises(ValueError, match=f"{kind.__name__}: .*{rule}"):
            kind(4, 2, **wrong)
