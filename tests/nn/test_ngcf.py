from __future__ import annotations

import pytest
import torch
from torch.nn.functional import leaky_relu, normalize

from graphrec.nn.ngcf import NGCFEncoder, NGCFLayer, NGCFSettings
from graphrec.ops import Relation


def test_layer_is_the_sum_of_the_papers_messages(sample, draw):
    """Equations 3 to 5, message by message."""
    layer = NGCFLayer(5, 6, generator=torch.Generator().manual_seed(0)).double()
    src_x, dst_x = draw(sample.num_src, 5), draw(sample.num_dst, 5)
    w1, w2, b = layer.sum_weight.weight, layer.product_weight.weight, layer.sum_weight.bias
    relation = sample.relation
    for row, got in enumerate(layer(relation, src_x, dst_x)):
        total = w1 @ dst_x[row] + b
        for column in relation.indices[relation.indptr[row] : relation.indptr[row + 1]].tolist():
            decay = (relation.degree_dst[row] * relation.degree_src[column]).double().rsqrt()
            total = total + decay * (w1 @ src_x[column] + w2 @ (src_x[column] * dst_x[row]))
        torch.testing.assert_close(got, leaky_relu(total, 0.2))


@pytest.mark.parametrize("normalized", [False, True])
def test_encoder_puts_all_layers_side_by_side(normalized):
    """Equations 7 and 9 in their matrix form."""
    relation = Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 2], 3, 3)
    settings = NGCFSettings(num_layers=2, hidden_dim=5, normalize=normalized)
    encoder = NGCFEncoder(settings, 4, torch.Generator().manual_seed(1)).double().eval()
    user, item = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    a = torch.zeros(6, 6, dtype=torch.float64)
    for u, i in ((0, 0), (0, 1), (1, 1), (2, 2)):
        a[u, 3 + i] = a[3 + i, u] = 1
    laplacian = a.sum(1).rsqrt()[:, None] * a * a.sum(1).rsqrt()
    e, parts = torch.cat([user, item]), [torch.cat([user, item])]
    for layer in encoder.stack.layers:
        left = (laplacian + torch.eye(6)) @ e @ layer.sum_weight.weight.T + layer.sum_weight.bias
        e = leaky_relu(left + (laplacian @ e * e) @ layer.product_weight.weight.T, 0.2)
        parts.append(normalize(e, dim=1) if normalized else e)
    torch.testing.assert_close(torch.cat(encoder(relation, user, item)), torch.cat(parts, dim=1))
    assert encoder.out_dim == 4 + 5 + 5


@pytest.mark.parametrize("which", ["dropout", "edge_dropout"])
def test_dropout_draws_from_torch_only_in_training(which, homogeneous, draw):
    layer = NGCFLayer(5, 6, **{which: 0.5}, generator=torch.Generator().manual_seed(0)).double()
    x = draw(11, 5)

    def result(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return layer(homogeneous.relation, x)

    assert torch.equal(result(1), result(1)) and not torch.equal(result(1), result(2))
    zeros = (result(1) == 0).double().mean()
    assert 0.3 < zeros < 0.7 if which == "dropout" else zeros == 0
    layer.eval()
    assert torch.equal(result(1), result(2))
    with pytest.raises(ValueError, match=rf"NGCFLayer: {which} must be in \[0, 1\), got 1.0"):
        NGCFLayer(5, 6, **{which: 1.0})
