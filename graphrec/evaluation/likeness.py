"""How alike the items of a list are: cosines of co-occurrence or of a feature."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from graphrec.progress import SILENT, Reporter

_CELLS = 16_000_000  # cosines in memory at a time: 64 MB


def sums_of_cosines(
    topk: np.ndarray, item_vectors: np.ndarray | sparse.csr_matrix, progress: Reporter = SILENT
) -> np.ndarray:
    """Return for each place of each list the sum of the cosines between its item and those at the places before it.

    The sum over the first k places is that over all pairs of a list of k. An item with a zero vector has the cosine 0 with
    every other.

    Args:
        topk: int64 (B, K), item indices, -1 where a list is short.
        item_vectors: (I, F), dense or sparse.
        progress: receives lists, or with sparse vectors listed items.

    Returns:
        float64 (B, K), 0 where a list is short.
    """
    listed = np.flatnonzero(np.bincount(topk[topk >= 0], minlength=1))
    unit = _unit_rows(item_vectors[listed])
    row_of = np.full(item_vectors.shape[0] + 1, -1, dtype=np.int32)  # its last entry is for the index -1
    row_of[listed] = np.arange(len(listed))
    sum_of = _sums_by_items if sparse.issparse(unit) else _sums_by_lists
    return sum_of(row_of[topk], unit, progress)


def _sums_by_lists(rows: np.ndarray, unit: np.ndarray, progress: Reporter) -> np.ndarray:
    """Dense vectors: the product of a vector with the sum of those before it, so that no pair is visited."""
    sums = np.zeros(rows.shape)
    with progress.task("Comparing listed items", total=len(rows), unit="lists") as task:
        for start in range(0, len(rows), 1024):
            part = rows[start : start + 1024]
            before = np.zeros((len(part), unit.shape[1]), dtype=unit.dtype)
            for place in range(part.shape[1]):
                vectors = np.where(part[:, place, None] >= 0, unit[part[:, place]], 0) if len(unit) else before
                sums[start : start + 1024, place] = np.einsum("bf,bf->b", before, vectors)
                before += vectors
            task.advance(len(part))
    return sums


def _sums_by_items(rows: np.ndarray, unit: sparse.csr_matrix, progress: Reporter) -> np.ndarray:
    """Sparse vectors, whose sums would be long: a block of rows of the matrix of cosines at a time, looked up wherever its
    items are listed."""
    sums = np.zeros(rows.shape)
    length = rows.shape[1]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows[rows >= 0], minlength=unit.shape[0]))])
    places = np.argsort(rows, axis=None, kind="stable")[rows.size - starts[-1] :]  # of lists, by the item there
    columns = unit.T.tocsr()
    step, piece = max(1, _CELLS // max(1, unit.shape[0])), max(1, _CELLS // (4 * length))
    with progress.task("Comparing listed items", total=unit.shape[0], unit="items") as task:
        for first in range(0, unit.shape[0], step):
            block = (unit[first : first + step] @ columns).toarray()
            last = first + len(block)
            for start in range(starts[first], starts[last], piece):
                here = places[start : min(start + piece, starts[last])]
                row, place = np.divmod(here, length)
                others = rows[row]
                before = (np.arange(length) < place[:, None]) & (others >= 0)
                cosines = block[rows.reshape(-1)[here][:, None] - first, others]
                sums.reshape(-1)[here] = np.where(before, cosines, 0.0).sum(axis=1, dtype=np.float64)
            task.advance(len(block))
    return sums


def _unit_rows(vectors: np.ndarray | sparse.csr_matrix) -> np.ndarray | sparse.csr_matrix:
    """Scale rows to length 1; zero rows stay zero."""
    if sparse.issparse(vectors):
        norm = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    else:
        norm = np.linalg.norm(vectors, axis=1)
    inverse = np.divide(1.0, norm, out=np.zeros(len(norm)), where=norm > 0).astype(np.float32)
    if not sparse.issparse(vectors):
        return vectors * inverse[:, None]
    data = vectors.data * np.repeat(inverse, np.diff(vectors.indptr))
    return sparse.csr_matrix((data, vectors.indices, vectors.indptr), shape=vectors.shape)
