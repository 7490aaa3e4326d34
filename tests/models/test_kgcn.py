"""KGCN as a recommender: what it refuses for want of item vectors, and what its scores follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError, UnsupportedError
from graphrec.models import create
from graphrec.training.train import train
from tests.models.conftest import NUM_ITEMS, TRAINING, checkerboard, make_store, named


def test_it_has_no_vectors_and_places_nobody_new(board, fitted):
    model = fitted("kgcn", board)
    assert model.embeddings() is None and not model.scores_are_dot_products
    with pytest.raises(UnsupportedError, match="kgcn cannot place a new user"):
        model.fold_in([[1000, 1014]])
    with pytest.raises(UnsupportedError, match="kgcn knows no similarity"):
        model.similar([1000], 3)


@pytest.mark.parametrize("loss", ["sampled-softmax", "directau", "ccl"])
def test_losses_that_need_tables_of_vectors_are_refused(loss):
    with pytest.raises(ConfigError, match=f'model kgcn: loss "{loss}" does not fit'):
        create("kgcn", loss=loss)


@pytest.mark.parametrize("settings", [{"num_hops": 1}, {"num_hops": 2, "num_neighbours": 4}])
def test_triples_alone_tell_the_colours(settings, tmp_path):
    """With "neighbour" an item's own vector is not read in the last hop: items of one colour then differ in nothing with one hop."""
    pairs = [named(side) for side in checkerboard()]
    colours = [(1000 + 7 * item, "colour", ("white", "black")[item % 2]) for item in range(NUM_ITEMS)]
    store = make_store(tmp_path / "store", *pairs, triples=colours)
    model = train(store, create("kgcn", settings, aggregator="neighbour"), tmp_path / "run", TRAINING).model
    scores = model.score(np.arange(40))
    own = torch.tensor([[float(scores[user, user % 2 :: 2].mean() > scores[user, 1 - user % 2 :: 2].mean())] for user in range(40)])
    assert float(own.mean()) > 0.95
    if settings["num_hops"] == 1:
        torch.testing.assert_close(scores[:, 0::2], scores[:, :1].expand(-1, NUM_ITEMS // 2))


def test_a_relation_that_is_left_out_changes_the_scores(board, tmp_path):
    few = {**TRAINING, "epochs": 2}
    found = [train(board, create("kgcn", without=gone), tmp_path / str(len(gone)), few).model for gone in ([], ["shape"])]
    assert found[1]._field.relation_vectors.shape[0] == 1 and found[0]._field.relation_vectors.shape[0] == 2
    with pytest.raises(ConfigError, match="needs triples"):
        train(board, create("kgcn", without=["shape", "colour"]), tmp_path / "none", few)
