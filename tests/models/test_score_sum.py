"""A sum is a recommender as every other: saved with its members, read back, with embeddings where its members have them."""

from __future__ import annotations

import numpy as np
import pytest

import graphrec
from graphrec.errors import ConfigError, UnsupportedError
from graphrec.models import create, load_model
from graphrec.models.score_sum import ScoreSum
from tests.training.conftest import checkerboard, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "board", checkerboard())


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        graphrec.train(store, "lightgcn", folder / f"{seed}", {"epochs": 2, "seed": seed}, model_settings={"embedding_dim": 8}).model
        for seed in (0, 1)
    ]


def test_what_was_saved_scores_the_same(store, trained, tmp_path):
    members = [*trained, create("graph-filter").fit(store), create("popularity").fit(store)]
    made = ScoreSum.of(members, (0.2, 0.2, 0.5, 0.1), chosen_on="valid")
    made.save(tmp_path / "sum")
    again = load_model(tmp_path / "sum")
    users = np.arange(store.num_users)
    assert again.name == "sum" and [member.name for member in again.members] == ["lightgcn", "lightgcn", "graph-filter", "popularity"]
    assert np.array_equal(again.score(users), made.score(users))
    assert again.settings == made.settings and again.learned_splits == ("valid",)
    user = store.ids("user").ids_of(range(1))
    assert again.recommend(user, 3).equals(made.recommend(user, 3))


def test_embeddings_stand_side_by_side_and_rank_as_the_sum(store, trained):
    made = ScoreSum.of(trained, (0.7, 0.3))
    vectors, users = made.embeddings(), np.arange(store.num_users)
    assert vectors["user"].shape == (store.num_users, 16) and vectors["item"].shape == (store.num_items, 16)
    np.testing.assert_allclose(vectors["user"] @ vectors["item"].T, made.score(users).numpy(), rtol=1e-4, atol=1e-5)
    assert made.scores_are_dot_products
    assert ScoreSum.of([*trained, create("item-knn").fit(store)], (1, 1, 1)).embeddings() is None
    with_filter = ScoreSum.of([*trained, create("graph-filter").fit(store)], (1, 1, 1))
    assert len(with_filter.embeddings()["user"]) == store.num_users and not with_filter.scores_are_dot_products
    assert "side by side; those of graph-filter" in with_filter.vectors_note


def test_new_users_are_placed_by_every_member(store, trained):
    members = [trained[0], create("graph-filter").fit(store)]
    made, history = ScoreSum.of(members, (0.4, 0.6)), [store.ids("item").ids_of(range(3))]
    parts = [member.fold_in(history) / unit for member, unit in zip(members, made._spreads, strict=True)]
    np.testing.assert_allclose(made.fold_in(history), 0.4 * parts[0] + 0.6 * parts[1], rtol=1e-5, atol=1e-6)


def test_it_is_made_of_models_and_not_fitted(store):
    with pytest.raises(ConfigError, match="'sum' is not trained by its name but made from finished runs: graphrec fuse"):
        create("sum")
    with pytest.raises(UnsupportedError, match=r"graphrec\.fuse"):
        ScoreSum().fit(store)
