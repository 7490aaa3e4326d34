from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from graphrec.errors import ConfigError
from graphrec.models import create
from tests.models.conftest import NUM_ITEMS, NUM_USERS, make_store
from tests.models.test_spectral import dense_normalised

ALL_USERS = np.arange(NUM_USERS)


def dense_filter(matrix: sp.csr_matrix, a: float, b: float, rank: int, weight: float) -> np.ndarray:
    """R~^T R~ + w D_i^-b Q Q^T D_i^b in float64."""
    normalised = dense_normalised(matrix, a, b)
    _, _, right = np.linalg.svd(normalised, full_matrices=False)
    degree = np.asarray(matrix.sum(axis=0)).ravel().astype(np.float64)
    return normalised.T @ normalised + weight * (right[:rank].T @ right[:rank]) / degree[:, None] ** b * degree**b


@pytest.mark.parametrize(("a", "b", "rank", "weight"), [(0.5, 0.5, 4, 0.3), (0.7, 0.2, 2, 1.5), (0.0, 0.0, 8, 0.0)])
def test_scores_follow_the_formula(a, b, rank, weight, board):
    settings = {"user_exponent": a, "item_exponent": b, "rank": rank, "ideal_weight": weight}
    model = create("graph-filter", settings).fit(board)
    train = board.train_matrix()
    expected = train.toarray() @ dense_filter(train, a, b, rank, weight)
    np.testing.assert_allclose(model.score(ALL_USERS), expected, rtol=1e-3, atol=1e-4)


def test_weights_count(tmp_path):
    rng = np.random.default_rng(1)
    pairs = [(user, item) for user in range(12) for item in range(9) if rng.random() < 0.5]
    weights = rng.integers(1, 6, len(pairs)).astype(float).tolist()
    store = make_store(tmp_path / "store", pairs[1:], pairs[:1], weights=weights[1:])
    model = create("graph-filter", rank=3).fit(store)
    train = store.train_matrix()
    expected = train.toarray() @ dense_filter(train, 0.5, 0.5, 3, model.settings.ideal_weight)
    np.testing.assert_allclose(model.score(np.arange(12)), expected, rtol=1e-3, atol=1e-4)


def test_embeddings_multiply_to_the_ideal_part(board):
    model = create("graph-filter", rank=5).fit(board)
    vectors = model.embeddings()
    linear = create("graph-filter", rank=5, ideal_weight=0.0).fit(board)
    assert vectors["user"].shape == (NUM_USERS, 5)
    np.testing.assert_allclose(
        vectors["user"] @ vectors["item"].T, model.score(ALL_USERS) - linear.score(ALL_USERS), atol=1e-4
    )


def test_similar_items_answer_a_history_of_one_item(board, fitted):
    model = fitted("graph-filter", board)
    filter_matrix = dense_filter(board.train_matrix(), 0.5, 0.5, model.settings.rank, model.settings.ideal_weight)
    np.fill_diagonal(filter_matrix, -np.inf)
    items = model.catalogue.items.ids_of(np.arange(NUM_ITEMS))
    listed = model.similar(items, 1)
    np.testing.assert_allclose(listed["score"], filter_matrix.max(axis=1), rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"rank": 0}, "rank"), ({"ideal_weight": -0.1}, "ideal_weight"), ({"item_exponent": 2}, "item_exponent")],
)
def test_bad_settings_are_refused(settings, key):
    with pytest.raises(ConfigError, match=f"model graph-filter {key}: "):
        create("graph-filter", settings)
