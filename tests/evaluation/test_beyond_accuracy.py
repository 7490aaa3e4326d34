"""Coverage, Gini, novelty, diversity, popularity: values by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrec.evaluation import beyond_accuracy as beyond

TOPK = np.array([[0, 1, 2], [0, 1, -1], [0, -1, -1], [-1, -1, -1]])
COUNTS = np.array([8, 4, 1, 0])


def test_coverage():
    assert beyond.coverage(TOPK, COUNTS, 3) == 3 / 4
    assert beyond.coverage(TOPK, COUNTS, 1) == 1 / 4


def test_gini():
    assert beyond.gini(np.array([[0, 1], [2, 3]]), COUNTS, 2) == 0.0
    assert beyond.gini(np.array([[0], [0]]), COUNTS, 1) == pytest.approx(3 / 4)  # one of four takes all: (I - 1) / I
    # Exposure 0, 1, 2, 3: (-3 * 0 - 1 * 1 + 1 * 2 + 3 * 3) / (4 * 6)
    assert beyond.gini(TOPK, COUNTS, 3) == pytest.approx(10 / 24)
    assert np.isnan(beyond.gini(np.full((2, 2), -1), COUNTS, 2))


def test_novelty_and_popularity():
    np.testing.assert_allclose(beyond.novelty(TOPK, COUNTS, 8, 3), [(0 + 1 + 3) / 3, 0.5, 0, np.nan])
    np.testing.assert_allclose(beyond.popularity(TOPK, COUNTS, 2), [6, 6, 8, np.nan])
    assert beyond.novelty(np.array([[3]]), COUNTS, 8, 1) == 3.0  # never seen counts as seen once


def test_diversity_by_hand():
    # Cosines of 0 with 1 and 2: 1 and 0; of 1 with 2: 0. One item or none: no pair.
    cosines = np.array([[0.0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(beyond.diversity(TOPK, cosines, 3), [2 / 3, 0, np.nan, np.nan])
    np.testing.assert_allclose(beyond.diversity(TOPK, cosines, 2), [0, 0, np.nan, np.nan])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_bounds_and_order_of_users(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 20, 15)
    topk = np.stack([rng.choice(15, 5, replace=False) for _ in range(7)])
    order = rng.permutation(7)
    for metric in (beyond.coverage, beyond.gini):
        assert 0 <= metric(topk, counts, 5) <= 1
        assert metric(topk, counts, 5) == metric(topk[order], counts, 5)
    assert beyond.coverage(topk, counts, 5) >= beyond.coverage(topk, counts, 3)
    novelty = beyond.novelty(topk, counts, 20, 5)
    assert np.all((novelty >= 0) & (novelty <= np.log2(20)))
    np.testing.assert_allclose(beyond.novelty(topk[order], counts, 20, 5), novelty[order])
