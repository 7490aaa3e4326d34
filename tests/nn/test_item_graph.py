"""The learned item graph against dense matrices, when it looks for neighbours, and what a resumed run has of them."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from graphrec.models import create
from graphrec.nn.item_graph import LearnedItemGraph
from graphrec.training.train import train
from tests.models.conftest import TRAINING, checkerboard, colour_media, make_store, named

EAST_AND_NORTH = torch.tensor([[1, 0.1], [1, 0.2], [0.1, 1], [0.2, 1], [0, 0]], dtype=torch.float64)
KNOWN = EAST_AND_NORTH.any(1)


def by_hand(values: torch.Tensor, count: int, x: torch.Tensor) -> torch.Tensor:
    unit = normalize(values, dim=1)
    cosine = (unit @ unit.T)[KNOWN][:, KNOWN]
    kept = torch.zeros_like(cosine).scatter(1, cosine.topk(count).indices, 1.0) * cosine.clamp(min=0)
    scale = kept.sum(1).rsqrt()
    y = torch.zeros_like(x)
    y[KNOWN] = (scale[:, None] * kept * scale) @ x[KNOWN]
    return y


def test_hop_and_gradients_equal_dense_matrices():
    graph = LearnedItemGraph([KNOWN, KNOWN], 2, 10).double()
    with torch.no_grad():
        graph.logits.copy_(torch.tensor([0.3, -0.2]))
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = [EAST_AND_NORTH.clone().requires_grad_(), (EAST_AND_NORTH * torch.tensor([1.0, 3.0])).requires_grad_()]
    found = graph(x, values)
    share = torch.softmax(graph.logits, 0)
    expected = sum(share[m] * by_hand(values[m], 2, x) for m in range(2))
    torch.testing.assert_close(found, expected)
    wanted = [graph.logits, *values]
    for left, right in zip(
        torch.autograd.grad(found.square().sum(), wanted), torch.autograd.grad(expected.square().sum(), wanted), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_neighbours_change_only_every_so_many_training_passes():
    graph = LearnedItemGraph([KNOWN], 2, 3)
    x, moved = torch.eye(5), EAST_AND_NORTH.float()[[0, 2, 1, 3, 4]]
    graph.train()
    graph(x, [EAST_AND_NORTH.float()])
    first = graph.near[0].clone()
    for _ in range(2):
        graph(x, [moved])
        assert torch.equal(graph.near[0], first)
    graph.eval()
    graph(x, [moved])
    assert torch.equal(graph.near[0], first)
    graph.train()
    graph(x, [moved])
    assert not torch.equal(graph.near[0], first)
    assert {tuple(sorted(row)) for row in graph.near[0].int().tolist()} == {(0, 2), (1, 3)}


def test_a_resumed_run_goes_on_with_the_neighbours_it_had(tmp_path):
    pairs = [named(side) for side in checkerboard()]
    store = make_store(tmp_path / "store", *pairs, media=colour_media())
    settings = {"graph": "learned", "refresh_steps": 7, "frozen_share": 0.2}
    whole = train(store, create("freedom", settings), tmp_path / "whole", {**TRAINING, "epochs": 6}).model
    train(store, create("freedom", settings), tmp_path / "parts", {**TRAINING, "epochs": 3})
    resumed = train(store, None, tmp_path / "parts", {**TRAINING, "epochs": 6}, resume=True).model
    assert torch.equal(resumed._vectors[1], whole._vectors[1])
    frozen = train(store, create("freedom"), tmp_path / "frozen", {**TRAINING, "epochs": 6}).model
    assert not torch.equal(frozen._vectors[1], whole._vectors[1])
