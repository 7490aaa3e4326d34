from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError, UnsupportedError
from graphrec.models import create, load_model
from graphrec.models.neighbours import Comparison, nearest_rows
from tests.models.conftest import NUM_USERS, make_store


def test_item_knn_sums_the_neighbours_of_the_history(board):
    model = create("item-knn", neighbours=7, shrinkage=2.0, measure="cosine", asymmetry=0.3).fit(board)
    train = board.train_matrix()
    similarity = nearest_rows(train.T.tocsr(), "cosine", 7, shrinkage=2.0, asymmetry=0.3)
    expected = train.toarray().astype(np.float64) @ similarity.toarray()
    np.testing.assert_allclose(model.score(np.arange(NUM_USERS)), expected, rtol=1e-5)


def test_user_knn_sums_the_histories_of_the_neighbours(board):
    model = create("user-knn", neighbours=5, measure="jaccard").fit(board)
    train = board.train_matrix()
    expected = nearest_rows(train, "jaccard", 5).toarray() @ train.toarray().astype(np.float64)
    np.testing.assert_allclose(model.score(np.arange(NUM_USERS)), expected, rtol=1e-5)


@pytest.mark.parametrize("measure", ["cosine", "jaccard", "bm25"])
def test_a_new_user_is_placed_by_her_nearest_training_users(board, measure, tmp_path):
    settings = {"neighbours": 4, "measure": measure, "shrinkage": 1.0} | (
        {"asymmetry": 0.7} if measure == "cosine" else {}
    )
    model = create("user-knn", settings).fit(board)
    train = board.train_matrix()
    history = train[3].copy()
    # The same history as a row of the matrix, but weighed by what the collection of the others says.
    similar = Comparison(train, measure, shrinkage=1.0, asymmetry=settings.get("asymmetry", 0.5))(history).toarray()[0]
    np.testing.assert_allclose(np.delete(similar, 3), np.delete(full(train, settings)[3], 3), rtol=1e-5)
    kept = np.argsort(-similar, kind="stable")[:4]
    expected = similar[kept].astype(np.float64) @ train[kept].toarray()
    ids = model.catalogue.items.ids_of(history.indices)
    np.testing.assert_allclose(model.fold_in([ids])[0], expected, rtol=1e-5)
    model.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_model(tmp_path / "saved").fold_in([ids]), model.fold_in([ids]))


def full(train, settings):
    """All similarities of training users to one another."""
    return nearest_rows(train, settings["measure"], NUM_USERS, shrinkage=1.0,
                        asymmetry=settings.get("asymmetry", 0.5)).toarray()  # fmt: skip


def test_weights_count(tmp_path):
    train = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"), ("c", "z"), ("d", "y")]
    store = make_store(tmp_path / "store", train, [("d", "x")], weights=[1, 9, 1, 9, 9, 1, 1])
    listed = create("item-knn", measure="cosine", asymmetry=0.5, shrinkage=0.0).fit(store).similar(["x"], 2)
    # x . y = 1*9 + 1*9, |x|^2 = 1 + 1 + 81, |y|^2 = 81 + 81 + 1; x . z = 9, |z| = 1
    assert listed["similar_item_id"].to_list() == ["z", "y"]
    np.testing.assert_allclose(listed["score"], [9 / 83**0.5, 18 / (83 * 163) ** 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["item-knn", "user-knn"])
@pytest.mark.parametrize("measure", ["cosine", "jaccard", "bm25"])
def test_interactions_of_weight_zero_count_nothing(name, measure, tmp_path):
    train, test = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "y"), ("c", "z"), ("d", "z")], [("d", "x")]
    store = make_store(tmp_path / "store", train, test, weights=[1, 2, 1, 2, 0, 0, 0])
    model = create(name, measure=measure, shrinkage=2.0).fit(store)
    scores = model.score(np.arange(4))
    assert torch.isfinite(scores).all() and not scores[2:].any() and scores[0].any()


def test_similar_lists_only_real_neighbours(tmp_path):
    train = [("a", "x"), ("a", "y"), ("b", "z"), ("b", "w"), ("c", "x"), ("c", "y")]
    store = make_store(tmp_path / "store", train, [("a", "z")])
    assert create("item-knn").fit(store).similar("x", 3)["similar_item_id"].to_list() == ["y"]


def test_user_knn_knows_no_similar_items(board, fitted):
    with pytest.raises(UnsupportedError, match="user-knn knows no similarity between items; use item-knn"):
        fitted("user-knn", board).similar([1000], 2)


@pytest.mark.parametrize("name", ["item-knn", "user-knn"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "euclid"}, "measure: .*'cosine', 'jaccard' or 'bm25', got 'euclid'"),
        ({"neighbours": 0}, "neighbours: .*greater than or equal to 1, got 0"),
        ({"shrinkage": -1}, "shrinkage"),
        ({"asymmetry": 1.5}, "asymmetry"),
        ({"measure": "bm25", "asymmetry": 0.2}, "asymmetry applies to the cosine only"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        create(name, settings)


@pytest.mark.parametrize("name", ["item-knn", "user-knn", "graph-filter"])
def test_negative_weights_are_refused(name, tmp_path):
    store = make_store(tmp_path / "store", [("a", "x"), ("b", "x"), ("b", "y")], [("a", "y")], weights=[1, -2, 1])
    with pytest.raises(ConfigError, match=f"{name}: .* 1 training weight is negative, .*min_weight"):
        create(name).fit(store)
