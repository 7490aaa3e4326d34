from __future__ import annotations

import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn.sage import SAGEEncoder, SAGELayer, SAGESettings
from graphrec.ops import Relation
from graphrec.settings import parse


@pytest.mark.parametrize("aggregate", ["mean", "pool"])
@pytest.mark.parametrize("out_dim", [3, 8])
def test_layer_equals_dgl(aggregate, out_dim, sample, draw, same):
    ours = SAGELayer(5, out_dim, dst_dim=7, aggregate=aggregate, generator=torch.Generator().manual_seed(0)).double()
    theirs = import_dgl().nn.SAGEConv((5, 7), out_dim, aggregate).double()
    names = {"self_weight": "fc_self", "neighbor_weight": "fc_neigh", "pool_weight": "fc_pool"}
    with torch.no_grad():
        ours.self_weight.bias.normal_()
        theirs.load_state_dict(
            {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in ours.state_dict().items()}
        )
    src_x, dst_x = draw(sample.num_src, 5), draw(sample.num_dst, 7)
    parameters = dict(theirs.named_parameters())
    order = [f"{names[key.split('.')[0]]}.{key.split('.')[1]}" for key, _ in ours.named_parameters()]
    same(
        ours(sample.graph, src_x, dst_x),
        theirs(sample.graph, (src_x, dst_x)),
        [[src_x, dst_x, *ours.parameters()], [src_x, dst_x, *(parameters[name] for name in order)]],
    )


def test_mean_and_maximum_of_two_neighbours():
    relation = Relation.from_coo([0, 0], [0, 1], 1, 2)
    src_x, dst_x = torch.tensor([[1.0, 8.0], [5.0, 2.0]]), torch.zeros(1, 2)
    for aggregate, expected in (("mean", [[3.0, 5.0]]), ("pool", [[5.0, 8.0]])):
        layer = SAGELayer(2, 2, aggregate=aggregate)
        for module in (layer.neighbor_weight, layer.pool_weight):
            if module is not None:
                torch.nn.init.eye_(module.weight)
        torch.testing.assert_close(layer(relation, src_x, dst_x), torch.tensor(expected))


def test_settings_choose_aggregate_and_width():
    encoder = SAGEEncoder(SAGESettings(num_layers=3, hidden_dim=6, aggregate="pool"), 4, torch.Generator())
    assert [layer.aggregate for layer in encoder.stack.layers] == ["pool"] * 3 and encoder.out_dim == 6
    with pytest.raises(ValueError, match='aggregate must be "mean" or "pool" .*, got \'sum\''):
        SAGELayer(2, 2, aggregate="sum")


def test_max_is_another_name_for_pool():
    assert SAGESettings(aggregate="max") == SAGESettings(aggregate="pool")
    named = [SAGELayer(5, 3, aggregate=name, generator=torch.Generator().manual_seed(0)) for name in ("max", "pool")]
    relation, x = Relation.from_coo([0, 0, 1], [0, 1, 1], 2, 2), torch.randn(2, 5)
    assert torch.equal(*(layer(relation, x) for layer in named))
    with pytest.raises(ConfigError, match="aggregate: input should be 'mean' or 'pool', got 'sum'"):
        parse(SAGESettings, {"aggregate": "sum"}, "encoder")
