"""PinSAGE as a model: sampled training learns the board, hard negatives come epoch by epoch, clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.losses.margin import MaxMargin, MaxMarginSettings
from graphrec.models import create
from graphrec.settings import parse
from graphrec.training import negatives
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler, train
from tests.models.conftest import NUM_ITEMS, NUM_USERS

SETTINGS = {"batch_size": 64, "learning_rate": 0.01, "device": "cpu", "batching": "sampled"}


def test_the_margin_is_what_is_missing_on_average():
    loss = MaxMargin(MaxMarginSettings(margin=0.5))
    value = loss(torch.tensor([1.0, 0.0]), torch.tensor([[0.75, 0.0], [0.25, -2.0]]), None)
    assert float(value) == pytest.approx((0.25 + 0.0 + 0.75 + 0.0) / 4)


def test_sampled_training_in_blocks_learns_the_board(board, tmp_path):
    model = train(board, "pinsage", tmp_path / "run", {**SETTINGS, "epochs": 20, "inference_block": 7}).model
    scores = model.score(np.arange(NUM_USERS))
    own = torch.arange(NUM_USERS)[:, None] % 2 == torch.arange(NUM_ITEMS) % 2
    assert scores[own].mean() > scores[~own].mean() + 0.3


def test_hard_negatives_come_one_by_one_and_are_met_by_walks_but_not_chosen(board, monkeypatch):
    monkeypatch.setattr(negatives, "_HARD_RANKS", (0, NUM_ITEMS))
    model = create("pinsage", {"embedding_dim": 4})
    model.prepare(board, seed=0)
    sampler = make_sampler(model, parse(TrainSettings, {"batch_size": 64}, "train"))
    chosen = board.train_matrix().toarray() > 0
    for epoch, hard in ((0, 0), (1, 1), (2, 2), (5, 2)):
        same = []
        for batch in sampler.batches(epoch):
            users, drawn = batch.user_rows[batch.users], batch.item_rows[batch.negatives]
            assert not chosen[users[:, None], drawn].any()
            same.append(users[:, None] % 2 == drawn % 2)  # walks stay on the user's colour; others are mostly not of it
        share = torch.cat(same).double().mean(0)
        assert bool((share[:hard] == 1).all()) and bool((share[hard:] < 0.6).all()), (epoch, share)


def test_users_without_hard_negatives_keep_the_others(board):
    model = create("pinsage", {"embedding_dim": 4})  # ranks from 50 on do not exist among 30 items
    model.prepare(board, seed=0)
    sampler = make_sampler(model, parse(TrainSettings, {"batch_size": 64}, "train"))
    chosen = board.train_matrix().toarray() > 0
    batch = next(iter(sampler.batches(3)))
    assert not chosen[batch.user_rows[batch.users][:, None], batch.item_rows[batch.negatives]].any()


def test_more_hard_negatives_than_negatives_and_fanouts_are_refused(board, tmp_path):
    with pytest.raises(ConfigError, match="hard_negatives must be at most num_negatives = 2, got 3"):
        create("pinsage", loss={"num_negatives": 2, "hard_negatives": 3})
    with pytest.raises(ConfigError, match="pinsage finds its own neighbours.* set num_neighbors of its encoder"):
        train(board, "pinsage", tmp_path / "run", {**SETTINGS, "fanouts": [3, 3]})
