"""Towers and fusions: what a node lacks has no say, and every weight learns."""

from __future__ import annotations

import pytest
import torch

from graphrec.nn.feature_map import FeatureMap, FeatureMapSettings

FUSIONS = ["sum", "concat", "gate", "attention"]


def make(fusion, widths=(5, 3), tower="mlp", seed=0):
    settings = FeatureMapSettings(fusion=fusion, tower=tower)
    return FeatureMap(widths, 4, settings, torch.Generator().manual_seed(seed))


def inputs(n=6):
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(n, width, generator=generator) for width in (5, 3)]
    masks = [torch.ones(n, dtype=torch.bool), torch.ones(n, dtype=torch.bool)]
    masks[1][0], masks[0][1], masks[1][1] = False, False, False  # row 0 lacks the second, row 1 both
    return values, masks


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_missing_feature_has_no_say(fusion):
    layer, (values, masks) = make(fusion), inputs()
    before = layer(values, masks)
    values[1][0], values[0][1] = 1e3, -1e3
    torch.testing.assert_close(layer(values, masks), before)
    values[1][2] += 1
    assert not torch.allclose(layer(values, masks)[2], before[2])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_that_is_used_learns(fusion):
    layer, (values, masks) = make(fusion), inputs()
    layer(values, masks).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_sum_is_the_sum_of_the_towers_a_node_has():
    layer, (values, masks) = make("sum"), inputs()
    made = layer(values, masks)
    torch.testing.assert_close(made[2], layer.towers[0](values[0][2]) + layer.towers[1](values[1][2]))
    torch.testing.assert_close(made[0], layer.towers[0](values[0][0]))
    torch.testing.assert_close(made[1], layer.missing.mean(0))


def test_attention_weights_sum_to_one():
    layer, (values, masks) = make("attention"), inputs()
    same = layer.towers[0](values[0])
    layer.towers = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    torch.testing.assert_close(layer([same, same], [masks[0], masks[0]])[2], same[2])


@pytest.mark.parametrize("tower", ["linear", "mlp"])
def test_the_start_has_the_size_of_id_embeddings(tower):
    layer = make("sum", widths=(300,), tower=tower)
    made = layer([torch.randn(500, 300)], [None])
    assert float(made.detach().square().mean().sqrt()) == pytest.approx(0.1, rel=0.35)


def test_same_generator_same_weights():
    first, same, other = (make("attention", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
