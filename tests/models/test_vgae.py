"""VGAE as a recommender: which edges a step sees, and that its KL term and its noise are in training only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch
from graphrec.models import create

PAIRS = torch.tensor([0, 3, 3]), torch.tensor([2, 5, 9])


def batch() -> Batch:
    return Batch.from_indices(*PAIRS, torch.tensor([[1], [4], [8]]))


def prepared(board, **settings):
    model = create("vgae", embedding_dim=8, **settings)
    model.prepare(board, seed=1)
    return model


def relation_of_a_step(model) -> torch.Tensor:
    """The dense adjacency that the encoder was handed in one step."""
    seen = []
    encoder = model.network.encoder
    encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model.batch_loss(batch())
    dense = torch.zeros(seen[0].num_dst, seen[0].num_src)
    dense[seen[0].rows, seen[0].indices.long()] = 1
    return dense


def test_a_masked_step_never_sees_the_edges_that_it_decodes(board):
    everything = torch.from_numpy((board.train_matrix().toarray() != 0).astype(np.float32))
    assert torch.equal(relation_of_a_step(prepared(board)), everything)
    masked = relation_of_a_step(prepared(board, mask_batch_edges=True))
    assert not masked[PAIRS].any()
    expected = everything.clone()
    expected[PAIRS] = 0
    assert torch.equal(masked, expected) and everything[PAIRS].any()


def test_its_loss_has_a_kl_part_that_rises(board):
    model = prepared(board, auxiliary=[{"name": "kl", "weight": 0.5, "anneal_steps": 4}])
    values = []
    for number in (0, 2, 4, 8):
        torch.manual_seed(0)
        values.append(float(model.batch_loss(batch(), step=number)[1]["kl"]))
    assert values[0] == 0 and values[3] == values[2] == pytest.approx(2 * values[1]) and values[1] > 0


def test_the_finished_vectors_are_the_means(board):
    model = prepared(board)
    model.batch_loss(batch())
    model.finish()
    first = model._vectors[0]
    model.finish()
    assert torch.equal(first, model._vectors[0])


def test_a_kl_term_without_a_distribution_is_refused(board):
    model = create("composed", encoder="gae", auxiliary=[{"name": "kl", "weight": 0.1}])
    with pytest.raises(ConfigError, match='needs an encoder whose vectors are drawn .* GAEEncoder; set encoder = "vgae"'):
        model.prepare(board)


def test_gae_composes_and_learns_the_board(board, tmp_path):
    from graphrec.training.train import train
    from tests.models.conftest import TRAINING

    parts = {"encoder": {"name": "gae", "num_layers": 1}, "auxiliary": [{"name": "edge-reconstruction", "weight": 0.5}]}
    model = train(board, create("composed", **parts), tmp_path / "run", TRAINING).model
    listed = model.recommend(model.catalogue.users.ids_of(np.arange(20)), 4)
    users = model.catalogue.users.index_of(listed["user_id"])
    items = model.catalogue.items.index_of(listed["item_id"])
    assert (users % 2 == items % 2).mean() > 0.95
