"""The inverse in place against NumPy's own, over the size of its blocks."""

from __future__ import annotations

import numpy as np
import pytest

from graphrec.models import dense


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_inverse_is_whole_and_takes_no_memory_of_its_own(order, monkeypatch):
    monkeypatch.setattr(dense, "_MIRRORED_AT_ONCE", 16)
    rows = np.random.default_rng(0).normal(size=(50, 80))
    matrix = np.array(rows @ rows.T + np.eye(50), dtype=np.float32, order=order)
    expected = np.linalg.inv(matrix.astype(np.float64))
    found = dense.inverse(matrix)
    assert np.shares_memory(found, matrix)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_what_is_not_positive_definite_is_refused():
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        dense.inverse(-np.eye(3, dtype=np.float32))
