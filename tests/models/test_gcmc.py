"""GC-MC on ratings; what every model must do is in test_contract.py, on data of one level."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.evaluation.evaluate import evaluate
from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog
from graphrec.models import create, load_model
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler, train
from tests.models.conftest import make_store

NUM_USERS, NUM_ITEMS, RATING = 24, 20, (1.0, 3.0, 5.0)
SETTINGS = {"hidden_dim": 32, "out_dim": 16, "embedding_dim": 16}
TRAINING = {"epochs": 60, "batch_size": 128, "learning_rate": 0.02, "sampler": "uniform-edge"}


def rating_of(user: int, item: int) -> float:
    """5 for the same remainder by three, 1 for the next, 3 for the one after it."""
    return {0: 5.0, 1: 1.0, 2: 3.0}[(user - item) % 3]


def rated(folder) -> GraphStore:
    """Every user rates three quarters of the items; the others, of all three ratings, are held out."""
    rng = np.random.default_rng(3)
    pairs = [(user, int(item)) for user in range(NUM_USERS) for item in rng.permutation(NUM_ITEMS)]
    train_pairs = [pair for place, pair in enumerate(pairs) if place % NUM_ITEMS < 15]
    test_pairs = [pair for place, pair in enumerate(pairs) if place % NUM_ITEMS >= 15]
    rows = train_pairs + test_pairs
    events = pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_id": [item for _, item in rows],
            "behavior": "interaction",
            "timestamp": pl.Series([None] * len(rows), dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series([rating_of(*pair) for pair in rows], dtype=pl.Float32),
            "split": ["train"] * len(train_pairs) + ["test"] * len(test_pairs),
        }
    )
    return build(InteractionLog(events.lazy()), folder, split="given")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> GraphStore:
    return rated(tmp_path_factory.mktemp("stores") / "rated")


@pytest.fixture(scope="module")
def model(store, tmp_path_factory):
    return train(store, create("gc-mc", **SETTINGS), tmp_path_factory.mktemp("runs") / "run", TRAINING).model


def test_held_out_ratings_are_predicted(model, store):
    metrics = evaluate(model, store, k=5, metrics=["rmse", "mae", "recall"]).metrics
    spread = np.std([rating_of(user, item) for user in range(NUM_USERS) for item in range(NUM_ITEMS)])
    assert spread > 1.6
    assert metrics["rmse"] < 0.25 and metrics["mae"] < 0.15


def test_scores_are_expected_ratings_and_rank(model):
    scores = model.score(np.arange(NUM_USERS))
    assert bool(((scores >= 1.0) & (scores <= 5.0)).all())
    best = model.recommend(range(NUM_USERS), 1)
    truth = [rating_of(user, item) for user, item in best.select("user_id", "item_id").rows()]
    assert len(truth) == NUM_USERS and np.mean(truth) > 4.5


def test_levels_survive_saving(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded._kept_head.settings.levels == RATING
    assert torch.equal(loaded.score(np.arange(NUM_USERS)), model.score(np.arange(NUM_USERS)))


def test_loss_is_the_cross_entropy_of_the_levels_of_the_pairs(store):
    made = create("gc-mc", **SETTINGS, dropout=0.0, node_dropout=0.0)
    made.prepare(store, seed=1)
    batch = next(make_sampler(made, TrainSettings(batch_size=50)).batches(0))
    users, items = batch.user_rows[batch.users], batch.item_rows[batch.positives]
    expected = [RATING.index(rating_of(int(u), int(i))) for u, i in zip(users, items, strict=True)]
    assert made.loss.levels_of(batch).tolist() == expected
    loss, parts = made.batch_loss(batch)
    user, item = made.network.encoder(made._relation, *made.network.inputs())
    q = torch.einsum("rs,sde->rde", made.network.head.mix, made.network.head.bases)
    logits = torch.einsum("bd,rde,be->br", user[users], q, item[items])
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.tensor(expected)))
    assert parts["rank_loss"] == loss


def test_of_a_pair_rated_twice_the_last_rating_counts(tmp_path):
    pairs = [(0, 0), (0, 1), (0, 0), (1, 1), (1, 0)]
    made = create("gc-mc", **SETTINGS)
    made.prepare(make_store(tmp_path / "store", pairs, [], weights=[1.0, 2.0, 4.0, 2.0, 0.0]))
    np.testing.assert_array_equal(made._ratings.toarray(), [[4, 2], [0, 2]])
    assert made._ratings.nnz == 4, "a rating of zero is a rating"
    assert made._parts["head"].settings.levels == (0.0, 2.0, 4.0)


def test_data_of_one_level_are_learned_as_chosen_or_not(tmp_path):
    pairs = [(user, item) for user in range(4) for item in range(6) if (user - item) % 2 == 0]
    made = create("gc-mc", **SETTINGS, num_negatives=3)
    made.prepare(make_store(tmp_path / "store", pairs, [], weights=[3.0] * len(pairs)))
    assert made._parts["head"].settings.levels == (0.0, 3.0)
    assert (made.loss.negatives.kind, made.loss.negatives.count) == ("rows", 3)


def test_weights_that_are_no_levels_are_refused(tmp_path):
    pairs = [(user, item) for user in range(3) for item in range(2)]
    many = make_store(tmp_path / "many", pairs, [], weights=[1.0, 2.0, 3.0, 4.0, 5.0, 6.5])
    with pytest.raises(ConfigError, match=r"at most max_levels = 5 distinct values.*got 6 \(1 to 6.5\); round them"):
        create("gc-mc", max_levels=5).prepare(many)
    zero = make_store(tmp_path / "zero", pairs, [], weights=[0.0] * 6)
    with pytest.raises(ConfigError, match="all equal must be above 0, got 0"):
        create("gc-mc").prepare(zero)
    with pytest.raises(ConfigError, match="loss: unknown key"):
        create("gc-mc", loss="bpr")
