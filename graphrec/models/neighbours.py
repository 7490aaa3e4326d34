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
    binary = sp.csr_matrix((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
    rows = {"cosine": matrix, "jaccard": binary, "bm25": bm25_weights(matrix)}[measure]
    squared_norms = np.asarray(rows.multiply(rows).sum(axis=1), dtype=np.float32).ravel()  # (N,)
    own, other = _safe_power(squared_norms, asymmetry), _safe_power(squared_norms, 1.0 - asymmetry)
    columns, binary_columns = rows.T.tocsr(), binary.T.tocsr()
    parts = []
    with progress.task(description, total=matrix.shape[0], unit="rows") as task:
        for start, stop in _row_blocks(matrix):
            products = rows[start:stop] @ columns
            product_rows = np.repeat(np.arange(start, stop), np.diff(products.indptr))
            products.data[product_rows == products.indices] = 0.0
            overlap = None
            if shrinkage > 0:  # the same sparsity pattern in the same order, since both come from the same algorithm
                overlap = products if measure == "jaccard" else binary[start:stop] @ binary_columns
                overlap = overlap.data / (overlap.data + np.float32(shrinkage))
            if measure == "cosine":
                products.data /= own[product_rows] * other[products.indices]
            elif measure == "jaccard":
                products.data /= squared_norms[product_rows] + squared_norms[products.indices] - products.data
            if overlap is not None:
                products.data *= overlap
            parts.append(_keep_largest(products, neighbours))
            task.advance(stop - start)
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix(matrix.shape[:1] * 2, dtype=np.float32)


def bm25_weights(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Weight a matrix of counts by Okapi BM25, with rows as documents and columns as terms.

    y_if = idf_f * x_if (K1 + 1) / (x_if + K1 (1 - B + B len_i / mean len)),   idf_f = log(1 + (N - n_f + 1/2) / (n_f + 1/2))

    where n_f rows hold column f and len_i is the sum of row i.

    Args:
        matrix: float32 (N, F), non-negative.

    Returns:
        float32 (N, F) with the sparsity of `matrix`.

    Source: Robertson and Zaragoza (2009), "The probabilistic relevance framework", equation 3.15, with the idf of Lucene,
        which stays positive where a column is in nearly every row.
    """
    lengths = np.asarray(matrix.sum(axis=1)).ravel()
    norm = 1.0 - BM25_B + BM25_B * lengths / max(lengths.mean(), 1e-12) if len(lengths) else lengths
    found_in = np.bincount(matrix.indices, minlength=matrix.shape[1])
    idf = np.log1p((matrix.shape[0] - found_in + 0.5) / (found_in + 0.5))
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


def _keep_largest(matrix: sp.csr_matrix, count: int) -> sp.csr_matrix:
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


def _safe_power(values: np.ndarray, exponent: float) -> np.ndarray:
    """`values ** exponent`, and 1 for empty rows, which have no products to divide."""
    return np.where(values > 0, values, 1.0).astype(np.float32) ** np.float32(exponent)
