"""Composition: parts named by settings, penalties, and batches that give what the whole graph gives."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError, RunError
from graphrec.losses.batch import Batch
from graphrec.models import create

BATCH = Batch.from_indices(torch.tensor([0, 3, 0]), torch.tensor([2, 3, 2]), torch.tensor([[1], [4], [5]]))


def test_names_tables_and_tables_without_a_name():
    model = create("lightgcn", {"loss": {"num_negatives": 3}, "head": "cosine", "inputs": {"init": "xavier"}})
    assert model.settings.loss == {"name": "bpr", "num_negatives": 3}
    assert model.settings.head == {"name": "cosine", "temperature": 1.0, "ranking": "cosine"}
    assert {"name": "id", "init": "xavier", "scale": 0.1}.items() <= model.settings.inputs.items()
    assert create("lightgcn", model.settings).settings == model.settings


def test_lightgcn_is_a_composition(board):
    same = {"embedding_dim": 8}
    thin = create("lightgcn", {**same, "num_layers": 2})
    free = create("composed", {**same, "encoder": {"name": "lightgcn", "num_layers": 2}})
    losses = []
    for model in (thin, free):
        model.prepare(board, seed=4)
        losses.append(float(model.batch_loss(BATCH, 0.1)[0].detach()))
    assert losses[0] == losses[1]
    with pytest.raises(ConfigError, match="encoder: unknown key"):
        create("lightgcn", {"encoder": "none"})
    with pytest.raises(
        ConfigError, match="model composed encoder: unknown encoder 'lightgnc'; .*did you mean 'lightgcn'"
    ):
        create("composed", {"encoder": "lightgnc"})


def test_the_penalty_is_half_the_squared_length_per_pair(board):
    model = create("bpr-mf", {"embedding_dim": 4})
    model.prepare(board, seed=0)
    user, item = model.network.inputs()
    _, parts = model.batch_loss(BATCH, 0.6)
    rows = [*user[[0, 3, 0]], *item[[2, 3, 2]], *item[[1, 4, 5]]]
    expected = 0.6 * 0.5 * sum(float(row.detach().square().sum()) for row in rows) / 3
    assert float(parts["penalty"]) == pytest.approx(expected, rel=1e-5)
    assert "penalty" not in model.batch_loss(BATCH)[1]


@pytest.mark.parametrize("name", ["bpr-mf", "lightgcn"])
def test_a_batch_scores_as_the_whole_catalogue(name, board):
    model = create(name)
    model.prepare(board, seed=0)
    model.finish()
    scores = model.score([0, 3])
    gap = torch.stack([scores[0, 1] - scores[0, 2], scores[1, 4] - scores[1, 3], scores[0, 5] - scores[0, 2]])
    expected = torch.nn.functional.softplus(gap).mean()
    torch.testing.assert_close(model.batch_loss(BATCH)[0].detach(), expected, rtol=1e-5, atol=1e-6)


def test_a_spectral_start_already_ranks(board):
    model = create("bpr-mf", {"embedding_dim": 2, "inputs": {"init": "spectral"}})
    model.prepare(board, seed=0)
    model.finish()
    scores = model.score([0, 1])
    assert scores[0, 0::2].mean() > scores[0, 1::2].mean()
    assert scores[1, 1::2].mean() > scores[1, 0::2].mean()


def test_a_model_whose_training_has_not_come_to_an_end_says_so(board, tmp_path):
    model = create("lightgcn", embedding_dim=4)
    model.prepare(board)
    for use in (
        lambda: model.recommend(["u000"], 1),
        lambda: model.score([0]),
        lambda: model.similar([1000], 1),
        lambda: model.recommend_to_new([[1000]], 1),
        model.embeddings,
        lambda: model.save(tmp_path / "model"),
    ):
        with pytest.raises(RunError, match="this lightgcn model has not learned anything yet"):
            use()
    model.finish()
    assert model.recommend(["u000"], 1).height == 1
    model.prepare(board)  # what it was before must not answer for it
    with pytest.raises(RunError, match="has not learned anything yet"):
        model.score([0])
