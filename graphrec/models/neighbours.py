"""Nearest neighbours among the rows of a sparse matrix: the similarity measures and the pruned similarity matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from graphrec.progress import SILENT, Reporter

_BLOCK_NONZEROS = 16_000_000  # 128 MB of products (float32 value, int32 column) at a time
BM25_K1 = 1.2  # saturation of repeated interactions, Robertson and Zaragoza (2009), section 3.4.2
BM25_B = 0.75  # how far long rows are discounted, same place


def nearest_rows(
    matrix: sp.csr_matrix,
    measure: str,
    neighbours: int,
    *,
    shrinkage: float = 0.0,
    asymmetry: float = 0.5,
    progress: Reporter = SILENT,
    description: str = "neighbours",
) -> sp.csr_matrix:
    """Compare every row with every other one and keep each row's nearest.

    With rows x_i of `matrix`, b_i = (x_i > 0), and n_ij = b_i . b_j columns in common,

        cosine    s_ij = x_i . x_j / (|x_i|^(2a) |x_j|^(2 - 2a)),   a = asymmetry
        jaccard   s_ij = n_ij / (n_ii + n_jj - n_ij)
        bm25      s_ij = y_i . y_j,   y = bm25_weights(x)

    each multiplied by n_ij / (n_ij + shrinkage), which distrusts pairs with few columns in common. The products are
    made in blocks of rows, so that memory stays bounded and the N x N matrix is never formed.

    Args:
        matrix: float32 (N, F), non-negative.
        measure: "cosine", "jaccard" or "bm25".
        neighbours: how many entries to keep per row, at least 1; ties keep the lower index.
        shrinkage: at least 0, in columns in common.
        asymmetry: 0..1, for the cosine only; 0.5 is the plain cosine, 1 divides by the row's own norm alone.
        progress: receives the rows done.
        description: what the progress line says.

    Returns:
        float32 (N, N) with sorted indices, an empty diagonal and at most `neighbours` positive entries per row.

    Source: cosine and pruning by Deshpande and Karypis (2004), "Item-based top-N recommendation algorithms";
        asymmetric cosine by Aiolli (2013), equation 1; shrinkage by Bell and Koren (2007), section 3.2.
    """
    compare = Comparison(matrix, measure, shrinkage=shrinkage, asymmetry=asymmetry)
    parts = []
    with progress.task(description, total=matrix.shape[0], unit="rows") as task:
        for start, stop in _row_blocks(matrix):
            similar = compare(matrix[start:stop])
            itself = np.repeat(np.arange(start, stop), np.diff(similar.indptr)) == similar.indices
            similar.data[itself] = 0.0
            parts.append(keep_largest(similar, neighbours))
            task.advance(stop - start)
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix(matrix.shape[:1] * 2, dtype=np.float32)


class Comparison:
    """Compares any rows with all rows of a matrix, by the measures of `nearest_rows`.

    Args:
        matrix: float32 (N, F), non-negative; document frequencies and mean length of "bm25" are its own.
        measure, shrinkage, asymmetry: as in `nearest_rows`.
    """

    def __init__(self, matrix: sp.csr_matrix, measure: str, *, shrinkage: float = 0.0, asymmetry: float = 0.5) -> None:
        matrix = _without_zeros(matrix)
        self._matrix, self._measure, self._shrinkage, self._asymmetry = matrix, measure, shrinkage, asymmetry
        rows = self._weighted(matrix)
        self._columns = rows.T.tocsr()
        self._binary_columns = _binary(matrix).T.tocsr() if shrinkage > 0 and measure != "jaccard" else None
        self._squared_norms = _squared_norms(rows)

    def __call__(self, rows: sp.csr_matrix) -> sp.csr_matrix:
        """Return the similarities (B, N) of rows (B, F) that are not zero; the row's own norm is the first of the cosine's."""
        rows = _without_zeros(rows)
        weighted = self._weighted(rows)
        products = weighted @ self._columns
        own, row = _squared_norms(weighted), np.repeat(np.arange(rows.shape[0]), np.diff(products.indptr))
        overlap = None
        if self._shrinkage > 0:  # the same sparsity pattern in the same order, since both come from the same algorithm
            overlap = products if self._measure == "jaccard" else _binary(rows) @ self._binary_columns
            overlap = overlap.data / (overlap.data + np.float32(self._shrinkage))
        if self._measure == "cosine":
            other = _safe_power(self._squared_norms, 1.0 - self._asymmetry)
            products.data /= _safe_power(own, self._asymmetry)[row] * other[products.indices]
        elif self._measure == "jaccard":
            products.data /= own[row] + self._squared_norms[products.indices] - products.data
        if overlap is not None:
            products.data *= overlap
        return products

    def _weighted(self, rows: sp.csr_matrix) -> sp.csr_matrix:
        if self._measure == "bm25":
            return bm25_weights(rows, self._matrix)
        return rows if self._measure == "cosine" else _binary(rows)


def bm25_weights(matrix: sp.csr_matrix, collection: sp.csr_matrix | None = None) -> sp.csr_matrix:
    """Weight a matrix of counts by Okapi BM25, with rows as documents and columns as terms.

    y_if = idf_f * x_if (K1 + 1) / (x_if + K1 (1 - B + B len_i / mean len)),   idf_f = log(1 + (N - n_f + 1/2) / (n_f + 1/2))

    where n_f of the N rows of the collection hold column f, and len_i is the sum of row i.

    Args:
        matrix: float32 (B, F), non-negative.
        collection: float32 (N, F), where N, n_f and the mean length come from; None for `matrix` itself.

    Returns:
        float32 (B, F) with the sparsity of `matrix`.

    Source: Robertson and Zaragoza (2009), "The probabilistic relevance framework", equation 3.15, with the idf of Lucene,
        which stays positive where a column is in nearly every row.
    """
    collection = matrix if collection is None else collection
    lengths = np.asarray(matrix.sum(axis=1)).ravel()
    mean = collection.sum() / max(collection.shape[0], 1)
    norm = 1.0 - BM25_B + BM25_B * lengths / max(mean, 1e-12)
    found_in = np.bincount(collection.indices, minlength=collection.shape[1])
    idf = np.log1p((collection.shape[0] - found_in + 0.5) / (found_in + 0.5))
    row_norm = np.repeat(norm, np.diff(matrix.indptr))
    data = matrix.data * (BM25_K1 + 1.0) / (BM25_K1 * row_norm + matrix.data) * idf[matrix.indices]
    return sp.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def _row_blocks(matrix: sp.csr_matrix) -> Iterator[tuple[int, int]]:
    """Cut the rows so that the product of a block with the transpose has a bounded number of non-zeros."""
    num_rows = matrix.shape[0]
    column_counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    reached = np.concatenate([[0], np.cumsum(column_counts[matrix.indices])])[matrix.indptr]  # (N + 1,)
    bound = np.concatenate([[0], np.cumsum(np.minimum(np.diff(reached), num_rows))])
    start = 0
    while start < num_rows:
        stop = int(np.searchsorted(bound, bound[start] + _BLOCK_NONZEROS, side="right")) - 1
        stop = min(num_rows, max(stop, start + 1))
        yield start, stop
        start = stop


def keep_largest(matrix: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Keep the `count` largest positive entries of each row, ties to the lower column."""
    kept = []
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        values = matrix.data[start:stop]
        positive = np.flatnonzero(values > 0)
        if len(positive) > count:
            least = np.partition(values, len(values) - count)[len(values) - count]
            above, tied = np.flatnonzero(values > least), np.flatnonzero(values == least)
            tied = tied[np.argsort(matrix.indices[start:stop][tied])][: count - len(above)]
            positive = np.concatenate([above, tied])
        kept.append(start + positive[np.argsort(matrix.indices[start:stop][positive])])
    places = np.concatenate(kept) if kept else np.empty(0, np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in kept], dtype=np.int64)])
    return sp.csr_matrix((matrix.data[places], matrix.indices[places], indptr), shape=matrix.shape)


def _without_zeros(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The matrix without entries that are 0, as weights may be: products of it have no other pattern than its binary one's."""
    if matrix.data.all():
        return matrix
    matrix = matrix.copy()
    matrix.eliminate_zeros()
    return matrix


def _binary(matrix: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)


def _squared_norms(matrix: sp.csr_matrix) -> np.ndarray:
    """float32 (N,)."""
    return np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float32).ravel()


def _safe_power(values: np.ndarray, exponent: float) -> np.ndarray:
    """`values ** exponent`, and 1 for empty rows, which have no products to divide."""
    return np.where(values > 0, values, 1.0).astype(np.float32) ** np.float32(exponent)
