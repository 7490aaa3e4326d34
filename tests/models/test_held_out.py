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
