"""Noisy LightGCN: clean without layer 0, noise of the stated length and sign, and only while training."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings, hop
from graphrec.nn.noise import NoisyLightGCNEncoder, NoisyLightGCNSettings
from graphrec.ops import NeighbourhoodSampler, Relation

GRAPH = Relation.from_coo([0, 0, 1, 2, 2, 3], [1, 3, 0, 1, 2, 3], 4, 4)
USER, ITEM = (torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


def test_the_clean_pass_is_lightgcn_without_its_inputs():
    got = NoisyLightGCNEncoder(NoisyLightGCNSettings(num_layers=2)).train()(GRAPH, USER, ITEM)
    light = LightGCNEncoder(LightGCNSettings(num_layers=2))(GRAPH, USER, ITEM)
    for mean, with_inputs, x in zip(got, light, (USER, ITEM), strict=True):
        torch.testing.assert_close(mean, (3 * with_inputs - x) / 2)


def test_noise_has_the_stated_length_and_the_sign_of_what_it_disturbs():
    encoder = NoisyLightGCNEncoder(NoisyLightGCNSettings(num_layers=1, noise=0.25))
    clean, (noisy, _) = encoder(GRAPH, USER, ITEM), encoder.noisy(GRAPH, USER, ITEM, None, None)
    for before, after in zip(clean, noisy, strict=True):
        torch.testing.assert_close((after - before).norm(dim=1), torch.full((4,), 0.25, dtype=torch.float64))
        assert ((after - before).sign() == before.sign()).all()


def test_the_main_pass_is_noisy_only_in_training_and_with_a_contrast_layer():
    encoder = NoisyLightGCNEncoder(NoisyLightGCNSettings(num_layers=2, contrast_layer=1))
    clean = encoder.eval()(GRAPH, USER, ITEM)
    assert encoder.crossed is None
    assert not torch.equal(encoder.train()(GRAPH, USER, ITEM)[0], clean[0]) and encoder.crossed is not None
    torch.testing.assert_close(encoder.eval()(GRAPH, USER, ITEM)[0], clean[0])


@pytest.mark.parametrize("contrast_layer", [1, 2])
def test_in_a_sample_without_noise_the_noisy_pass_has_the_draws_and_the_gradient_of_the_clean_one(contrast_layer):
    settings = NoisyLightGCNSettings(num_layers=2, noise=0.0, contrast_layer=contrast_layer)
    encoder = NoisyLightGCNEncoder(settings)
    every_pair = Relation.from_coo(torch.arange(16) // 4, torch.arange(16) % 4, 4, 4)
    hood = NeighbourhoodSampler(every_pair, [1, 2]).draw(torch.tensor([2, 0]), torch.tensor([1]), seed=3)
    assert not set(hood.relation.at_layer(1).indices[:2].tolist()) <= set(hood.relation.at_layer(0).indices[:2].tolist())
    inputs = [x[rows].requires_grad_() for x, rows in ((USER, hood.users), (ITEM, hood.items))]
    rows = torch.arange(2), torch.arange(1)
    first = hop(hood.relation.at_layer(0), inputs[1]), hop(hood.relation.at_layer(0).transpose(), inputs[0])
    second = hop(hood.relation.at_layer(1), first[1]), hop(hood.relation.at_layer(1).transpose(), first[0])
    layers = [[side[own] for side, own in zip(layer, rows, strict=True)] for layer in (first, second)]
    expected = [*((a + b) / 2 for a, b in zip(*layers, strict=True)), *layers[contrast_layer - 1]]
    got = [*encoder.train()(hood.relation, *inputs, *rows), *encoder.crossed]
    gradients = [torch.autograd.grad(sum(side.square().sum() for side in sides), inputs) for sides in (got, expected)]
    for left, right in (*zip(got, expected, strict=True), *zip(*gradients, strict=True)):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("model", [("xsimgcl", {}), ("composed", {"encoder": {"name": "lightgcn-noise"}})])
def test_a_layer_that_is_not_there_is_refused(model):
    name, settings = model
    wrong = {"contrast_layer": 3, "num_layers": 2}
    settings = wrong if name == "xsimgcl" else {"encoder": {**settings["encoder"], **wrong}}
    with pytest.raises(ConfigError, match="contrast_layer must be at most num_layers = 2, got 3"):
        create(name, settings)
