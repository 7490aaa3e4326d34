from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from graphrec.models.held_out import hide


def test_hiding_parts_each_history():
    matrix = sp.csr_matrix(np.triu(np.ones((12, 12), np.float32)))  # rows of 12, 11, ..., 1 entries
    kept, hidden = hide(matrix, 0.1, np.random.default_rng(0))
    assert (kept + hidden != matrix).nnz == 0
    assert kept.multiply(hidden).nnz == 0
    np.testing.assert_array_equal(np.diff(hidden.indptr), [1] * 10 + [0, 0])


def test_only_the_leading_64_directions_are_sharpened(tmp_path):
    rng = np.random.default_rng(2)
    pairs = [(user, item) for user in range(90) for item in range(80) if rng.random() < 0.3]
    model = create("graph-filter", SHAPED, rank=80).fit(make_store(tmp_path / "store", pairs, [(0, 0)]))
    train = model._train
    expected = train.toarray() @ dense_filter(train, 0.3, 0.5, 80, 0.05, 0.4, 0.2, 0.6)
    np.testing.assert_allclose(model.score(np.arange(90)), expected, rtol=1e-3, atol=1e-3)
    unlimited = train.toarray() @ dense_filter(train, 0.3, 0.5, 80, 0.05, 0.4, 0.2, 0.0)
    assert np.abs(expected - unlimited).max() > 0.01
