"""The pruned similarity against its formulas, written densely in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from graphrec.models import neighbours
from graphrec.models.neighbours import bm25_weights, nearest_rows


def random_matrix(weighted: bool = False) -> sp.csr_matrix:
    """(12, 20) with an empty row, an empty column and two equal rows."""
    rng = np.random.default_rng(5)
    dense = (rng.random((12, 20)) < 0.35) * (rng.integers(1, 6, (12, 20)) if weighted else 1.0)
    dense[4], dense[:, 3], dense[9] = 0, 0, dense[2]
    return sp.csr_matrix(dense.astype(np.float32))


def dense_similarity(matrix: sp.csr_matrix, measure: str, shrinkage: float, asymmetry: float) -> np.ndarray:
    x = matrix.toarray().astype(np.float64)
    b = (x > 0).astype(np.float64)
    common, size = b @ b.T, b.sum(1)
    if measure == "cosine":
        norm = np.linalg.norm(x, axis=1)
        below = np.outer(norm ** (2 * asymmetry), norm ** (2 - 2 * asymmetry))
        similarity = np.divide(x @ x.T, below, out=np.zeros_like(common), where=below > 0)
    elif measure == "jaccard":
        union = size[:, None] + size[None, :] - common
        similarity = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    else:
        y = bm25_weights(matrix).toarray().astype(np.float64)
        similarity = y @ y.T
    if shrinkage:
        similarity *= common / (common + shrinkage)
    np.fill_diagonal(similarity, 0)
    return similarity


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
@pytest.mark.parametrize(
    ("measure", "asymmetry"), [("cosine", 0.5), ("cosine", 0.0), ("cosine", 0.8), ("jaccard", 0.5), ("bm25", 0.5)]
)
def test_all_neighbours_follow_the_formula(measure, asymmetry, shrinkage, weighted):
    matrix = random_matrix(weighted)
    found = nearest_rows(matrix, measure, 12, shrinkage=shrinkage, asymmetry=asymmetry)
    np.testing.assert_allclose(
        found.toarray(), dense_similarity(matrix, measure, shrinkage, asymmetry), rtol=2e-6, atol=1e-7
    )


def test_equal_rows_have_similarity_one():
    matrix = random_matrix()
    for measure in ("cosine", "jaccard"):
        assert nearest_rows(matrix, measure, 12)[2, 9] == pytest.approx(1.0)


def test_each_row_keeps_its_largest_and_ties_keep_the_lower_index():
    matrix = sp.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32))
    kept = nearest_rows(matrix, "cosine", 2)
    assert [kept[row].indices.tolist() for row in range(5)] == [[1, 2], [0, 2], [0, 1], [0, 1], []]
    assert kept.has_sorted_indices


def test_small_blocks_give_the_same_result(monkeypatch):
    matrix = random_matrix(weighted=True)
    whole = nearest_rows(matrix, "cosine", 4, shrinkage=1.0)
    monkeypatch.setattr(neighbours, "_BLOCK_NONZEROS", 15)
    assert len(list(neighbours._row_blocks(matrix))) > 3
    np.testing.assert_array_equal(nearest_rows(matrix, "cosine", 4, shrinkage=1.0).toarray(), whole.toarray())


def test_blocks_cover_all_rows_and_bound_the_products(monkeypatch):
    matrix = random_matrix()
    monkeypatch.setattr(neighbours, "_BLOCK_NONZEROS", 30)
    edges = list(neighbours._row_blocks(matrix))
    assert edges[0][0] == 0 and edges[-1][1] == 12
    assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))
    sizes = [(stop - start, (matrix[start:stop] @ matrix.T).nnz) for start, stop in edges]
    assert all(products <= 30 or rows == 1 for rows, products in sizes)


def test_empty_matrices_have_no_neighbours():
    assert nearest_rows(sp.csr_matrix((3, 5), dtype=np.float32), "bm25", 2).nnz == 0
    assert nearest_rows(sp.csr_matrix((0, 5), dtype=np.float32), "cosine", 2).shape == (0, 0)


def test_bm25_by_hand():
    matrix = sp.csr_matrix(np.array([[2, 0], [1, 3], [0, 0], [0, 0]], np.float32))
    length_norm = 0.25 + 0.75 * np.array([2, 4]) / 1.5  # the mean length of the four rows is 1.5
    idf = np.log([1 + 2.5 / 2.5, 1 + 3.5 / 1.5])
    first = idf[0] * 2 * 2.2 / (2 + 1.2 * length_norm[0])
    last = idf[1] * 3 * 2.2 / (3 + 1.2 * length_norm[1])
    weighted = bm25_weights(matrix)
    assert weighted[0, 0] == pytest.approx(first, rel=1e-6)
    assert weighted[1, 1] == pytest.approx(last, rel=1e-6)


def test_bm25_gives_a_column_in_every_row_little_weight():
    everywhere, once = bm25_weights(sp.csr_matrix(np.array([[1, 1], [1, 0], [1, 0]], np.float32))).toarray()[0]
    assert 0 < everywhere < once / 5


@pytest.mark.parametrize("columns", [[3, 0, 2, 1], [0, 3, 1, 2], [2, 1, 3, 0]])
def test_ties_do_not_depend_on_the_order_of_storage(columns):
    row = sp.csr_matrix((np.ones(4, np.float32), columns, [0, 4]), shape=(1, 4))
    assert neighbours.keep_largest(row, 2).indices.tolist() == [0, 1]
