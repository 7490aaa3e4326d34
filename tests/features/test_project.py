"""Projections, and starts made of them: zeros are missing rows and stay out of every sum."""

from __future__ import annotations

import numpy as np
import pytest

from graphrec.errors import ConfigError
from graphrec.features.nodes import load_features
from graphrec.features.project import fit_projection, given
from graphrec.features.start import average_history, feature_start
from graphrec.graph.arrays import write_feature


def rows(n=200, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, 6)) * [5, 3, 1, 0.5, 0.1, 0] + [10, 0, 0, 0, 0, 0]).astype(
        np.float32
    )


@pytest.mark.parametrize("kind", ["none", "pca", "whiten", "random"])
def test_unit_mean_square_and_missing_rows_stay_zero(kind):
    array = rows()
    array[7] = 0
    projection = fit_projection(array, kind, 3)
    made = projection.apply(array)
    have = given(array)
    assert not made[7].any() and made.shape[1] == (6 if kind == "none" else 3)
    assert np.mean(made[have] ** 2) == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(made[have].mean(axis=0), 0, atol=1e-4)  # the mean is that of given rows alone


def test_pca_keeps_the_largest_and_whitening_evens_them_out():
    kept = fit_projection(rows(), "pca", 6).apply(rows())
    assert kept.shape[1] == 5  # one direction never varies
    assert list(np.argsort(-kept.var(axis=0))) == [0, 1, 2, 3, 4]
    even = fit_projection(rows(), "whiten", 5).apply(rows())
    np.testing.assert_allclose(np.cov(even.T, bias=True), np.eye(5), atol=1e-3)


def test_random_projection_keeps_distances_roughly():
    array = np.random.default_rng(1).normal(size=(50, 400)).astype(np.float32)
    made = fit_projection(array, "random", 200, seed=3).apply(array)
    ratio = np.linalg.norm(made[:1] - made[1:], axis=1) / np.linalg.norm(array[:1] - array[1:], axis=1)
    assert ratio.std() / ratio.mean() < 0.1


def test_a_mean_over_known_items_only():
    import scipy.sparse as sp

    train = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 2], [0, 0, 0]], dtype=np.float32))
    items = np.array([[2.0], [4.0], [9.0]], dtype=np.float32)
    assert average_history(train, items).ravel().tolist() == [3, 9, 0]
    assert average_history(train, items, np.array([True, False, False])).ravel().tolist() == [2, 0, 0]


def test_a_start_follows_the_features_and_is_random_without(store):
    (user, item), origins = feature_start(store, ["image"], "history", 4)
    have = store.feature("item", "image")[0].any(axis=1)
    assert "item.image (6 columns, 18 of 24 rows)" in origins["item"]
    cats = (np.arange(24) % 2 == 0) & have
    unit = item / np.linalg.norm(item, axis=1, keepdims=True)
    near = unit @ unit.T
    assert near[np.ix_(cats, cats)].mean() > near[np.ix_(cats, have & ~cats)].mean() + 0.3
    assert np.all(item[~have].std(axis=1) > 0.1)  # random, not zero
    assert np.mean(user**2) == pytest.approx(1, rel=1e-3)
    again, _ = feature_start(store, ["image"], "history", 4)
    assert np.array_equal(again[0], user) and np.array_equal(again[1], item)


@pytest.mark.parametrize(("array", "said"), [
    (np.ones((5, 3), np.float32), "a row for each of 24 nodes, got 5"),
    (np.full((24, 3), np.nan, np.float32), "must be finite, got NaN or infinity in 24 of 24 rows"),
    (np.zeros((24, 3), np.float32), "is zero, that is not given, in all 24 rows"),
    (np.ones(24, np.float32), r"numbers of shape \(24, F\), got float32 \(24,\)"),
])  # fmt: skip
def test_unsound_features_are_named_with_the_mend(store, array, said):
    write_feature(store.folder, "item", "bad", array, {})
    with pytest.raises(ConfigError, match=f"the feature item.bad .*{said}.*graphrec features"):
        load_features(store, "item", ["bad"])


def test_unknown_features_are_named(store):
    with pytest.raises(
        ConfigError, match=r"has no feature item.imagee; it has image; did you mean 'image'\?; make it with"
    ):
        load_features(store, "item", ["imagee"])
    with pytest.raises(ConfigError, match="may be named once"):
        load_features(store, "item", ["image", "image"])
