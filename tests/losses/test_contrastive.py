"""InfoNCE against the dense formula, and the contrastive losses against passes made by hand."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch, Negatives
from graphrec.losses.contrastive import SGL, NoiseContrastSettings, SGLSettings, SimGCL, XSimGCL, info_nce
from graphrec.losses.step import Step
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.noise import NoisyLightGCNEncoder, NoisyLightGCNSettings
from graphrec.ops import Relation

GRAPH = Relation.from_coo([0, 0, 1, 2, 2, 3, 4, 4], [1, 3, 0, 1, 2, 3, 0, 2], 5, 4)
BATCH = Batch.from_indices(torch.tensor([0, 2, 4]), torch.tensor([1, 2, 1]), torch.tensor([[0], [3], [3]]))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def dense(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    first, second = (side / side.norm(dim=1, keepdim=True) for side in (first, second))
    scores = first @ second.T / temperature
    return (scores.exp().sum(1).log() - scores.diagonal()).mean()


def step_of(encoder: torch.nn.Module, number: int = 0) -> Step:
    user_x, item_x = random(5, 6), random(4, 6, seed=1)
    rows = encoder(GRAPH, user_x, item_x, BATCH.user_rows, BATCH.item_rows)
    return Step(encoder, GRAPH, user_x, item_x, BATCH, *rows, number)


def same(got: torch.Tensor, expected: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> None:
    torch.testing.assert_close(got, expected)
    gradients = (torch.autograd.grad(value, inputs, retain_graph=True) for value in (got, expected))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


def test_info_nce_and_its_gradient_equal_the_dense_formula():
    first, second = random(7, 5), random(7, 5, seed=1)
    same(info_nce(first, second, 0.3), dense(first, second, 0.3), (first, second))


def test_sgl_compares_the_encoder_over_two_views():
    loss = SGL(SGLSettings(share=0.4, renew_every=10, seed=3))
    step = step_of(LightGCNEncoder(LightGCNSettings(num_layers=2)))
    users, items = torch.tensor([0, 2, 4]), torch.tensor([1, 2])
    one, two = (step.encoder(view, step.user_x, step.item_x, users, items) for view in loss.views(GRAPH, 0))
    assert not torch.equal(one[0], two[0])
    same(loss(step), dense(one[0], two[0], 0.2) + dense(one[1], two[1], 0.2), (step.user_x, step.item_x))


def test_views_of_every_step_follow_torchs_stream_and_kept_ones_the_step():
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append([view.indices.tolist() for view in SGL(SGLSettings(share=0.5)).views(GRAPH, 0)])
    assert drawn[0] == drawn[1] != drawn[2]
    kept = SGLSettings(share=0.5, renew_every=4)
    running = SGL(kept)
    walked = [[view.indices.tolist() for view in running.views(GRAPH, number)] for number in range(8)]
    assert walked[0] == walked[3] != walked[4] == walked[7]
    assert [view.indices.tolist() for view in SGL(kept).views(GRAPH, 6)] == walked[6]  # as after a resume


def test_simgcl_has_the_gradient_of_two_whole_noisy_passes():
    step = step_of(NoisyLightGCNEncoder(NoisyLightGCNSettings(num_layers=2, noise=0.3)).train())
    torch.manual_seed(0)
    got = SimGCL(NoiseContrastSettings(temperature=0.4))(step)
    torch.manual_seed(0)
    views = [by_layer(step.user_x, step.item_x, 0.3)[-1] for _ in range(2)]
    users, items = torch.tensor([0, 2, 4]), torch.tensor([1, 2])
    expected = dense(views[0][0][users], views[1][0][users], 0.4) + dense(views[0][1][items], views[1][1][items], 0.4)
    same(got, expected, (step.user_x, step.item_x))


def test_xsimgcl_holds_the_noisy_mean_against_its_own_layer():
    encoder = NoisyLightGCNEncoder(NoisyLightGCNSettings(num_layers=2, noise=0.3, contrast_layer=1)).train()
    torch.manual_seed(0)
    step = step_of(encoder)
    got = XSimGCL(NoiseContrastSettings(temperature=0.4))(step)
    torch.manual_seed(0)
    (first, _, mean), users, items = by_layer(step.user_x, step.item_x, 0.3), torch.tensor([0, 2, 4]), torch.tensor([1, 2])
    expected = dense(mean[0][users], first[0][users], 0.4) + dense(mean[1][items], first[1][items], 0.4)
    same(got, expected, (step.user_x, step.item_x))


def by_layer(user: torch.Tensor, item: torch.Tensor, noise: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Layers 1 and 2 with noise and their mean, on the dense matrix; draws rows as the encoder does when all are asked for.

    The batch's rows are 3 of 5 users and all 4 items, so the last layer draws noise for those rows only.
    """
    matrix = torch.zeros(5, 4, dtype=torch.float64)
    matrix[GRAPH.rows, GRAPH.indices.long()] = 1
    matrix = matrix / (matrix.sum(1, keepdim=True) * matrix.sum(0)).sqrt()
    users = [torch.arange(5), BATCH.user_rows]
    layers = []
    for rows in users:
        next_user, next_item = matrix @ item, matrix.T @ user
        user, item = next_user.clone(), next_item.clone()
        for side, index in ((user, rows), (item, torch.arange(4))):
            drawn = torch.rand(len(index), 6, dtype=torch.float64)
            with torch.no_grad():
                shift = side[index].sign() * drawn / drawn.norm(dim=1, keepdim=True) * noise
            side[index] = side[index] + shift
        layers.append((user, item))
    return [*layers, tuple(torch.stack(side).mean(0) for side in zip(*layers, strict=True))]


@pytest.mark.parametrize("loss", [SimGCL(), XSimGCL()])
def test_an_encoder_without_noise_is_refused(loss):
    with pytest.raises(ConfigError, match=r"contrasts noisy passes, got a LightGCNEncoder; set encoder"):
        loss.check_encoder(LightGCNEncoder(), Negatives("rows"))


def test_xsimgcl_without_a_layer_to_contrast_is_refused():
    with pytest.raises(ConfigError, match=r"contrast_layer of the encoder is not set; set encoder = .*contrast_layer = 1"):
        XSimGCL().check_encoder(NoisyLightGCNEncoder(), Negatives("rows"))
    XSimGCL().check_encoder(NoisyLightGCNEncoder(NoisyLightGCNSettings(contrast_layer=2)), Negatives("rows"))
