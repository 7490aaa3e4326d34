"""The paired permutation test, of differences and of columns."""

from __future__ import annotations

import numpy as np

from graphrec.evaluation.significance import sign_flip_p, sign_flip_p_of_pairs


def test_pairs_of_columns_are_tested_as_their_differences():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(60, 5)) + np.array([0, 0, 0.1, 0.3, 0.8])
    pairs = np.array([(0, 1), (0, 2), (1, 3), (4, 0), (2, 2)])
    differences = np.stack([values[:, b] - values[:, a] for a, b in pairs], axis=1)
    np.testing.assert_array_equal(sign_flip_p_of_pairs(values, pairs, 3000, 7), sign_flip_p(differences, 3000, 7))
    values[3, 0] = np.nan  # a pair's users are those that both have values for
    differences = np.stack([values[:, b] - values[:, a] for a, b in pairs], axis=1)
    np.testing.assert_array_equal(sign_flip_p_of_pairs(values, pairs, 3000, 7), sign_flip_p(differences, 3000, 7))
