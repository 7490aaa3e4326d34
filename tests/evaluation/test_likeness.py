"""Sums of cosines between the items of lists: values by hand, and all pairs as the oracle."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity

from graphrec.evaluation import likeness
from graphrec.evaluation.likeness import sums_of_cosines
from graphrec.progress import Reporter

TOPK = np.array([[0, 1, 2], [0, 1, -1], [3, 0, -1], [-1, -1, -1]])
VECTORS = np.array([[1.0, 0], [2, 0], [1, 1], [0, 0], [5, 5]], dtype=np.float32)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_by_hand(kind):
    # Items 0 and 1 point one way, 2 at 45 degrees to it, 3 nowhere; a short list ends early.
    expected = [[0, 1, 2**0.5], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(sums_of_cosines(TOPK, kind(VECTORS)), expected, atol=1e-6)
    assert not sums_of_cosines(np.full((2, 3), -1), kind(VECTORS)).any()


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_against_all_pairs(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 5)).astype(np.float32)
    vectors[rng.random(vectors.shape) < 0.5] = 0
    topk = np.stack([rng.choice(12, 6, replace=False) for _ in range(9)])
    topk[np.arange(6) >= rng.integers(0, 7, size=9)[:, None]] = -1
    cosines = cosine_similarity(vectors)  # 0 for a zero vector
    expected = [[sum(cosines[item, other] for other in row[:place] if item >= 0) for place, item in enumerate(row)] for row in topk]
    np.testing.assert_allclose(sums_of_cosines(topk, vectors), expected, atol=1e-5)
    np.testing.assert_allclose(sums_of_cosines(topk, sparse.csr_matrix(vectors)), expected, atol=1e-5)


def test_many_listed_items_take_bounded_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = sparse.random(200, 40, 0.2, format="csr", dtype=np.float32, rng=rng)
    topk = np.stack([rng.choice(200, 8, replace=False) for _ in range(60)])
    whole = sums_of_cosines(topk, vectors)
    made, dense = [], sparse.csr_matrix.toarray

    def toarray(self, *arguments, **options):
        made.append(self.shape[0] * self.shape[1])
        return dense(self, *arguments, **options)

    monkeypatch.setattr(likeness, "_CELLS", 1000)
    monkeypatch.setattr(sparse.csr_matrix, "toarray", toarray)
    np.testing.assert_array_equal(sums_of_cosines(topk, vectors), whole)
    assert len(made) > 30 and max(made) <= 1000


@pytest.mark.parametrize(("kind", "total"), [(np.asarray, 4), (sparse.csr_matrix, 4)])  # lists, and items that are listed
def test_it_tells_how_far_it_is(kind, total):
    class Counting(Reporter):
        totals, done = [], 0

        @contextmanager
        def task(self, description, total=None, unit="it"):
            self.totals.append(total)
            yield self

        def advance(self, amount=1):
            self.done += amount

    reporter = Counting()
    sums_of_cosines(TOPK, kind(VECTORS), reporter)
    assert reporter.totals[-1] == reporter.done == total
