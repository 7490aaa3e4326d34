"""What the lists are like besides accurate: coverage, concentration, novelty, diversity, popularity.

Shared arguments: `topk` int64 (B, K), item indices, -1 where a list is short; `k` the number of places that count;
`item_counts` int64 (I,), training interactions per item. These metrics need no test items, so an empty truth changes
nothing; a user whose list is empty has the value NaN. Ties are the ranker's matter.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def coverage(topk: np.ndarray, item_counts: np.ndarray, k: int) -> float:
    """Share of the catalogue that is in at least one user's first k places: |union of lists| / I."""
    return float((_exposure(topk, item_counts, k) > 0).mean())


def gini(topk: np.ndarray, item_counts: np.ndarray, k: int) -> float:
    """Inequality of how often the items are recommended: 0 when all equally, near 1 when a few take every place.

    With x_1 <= ... <= x_I the number of lists that hold each item: G = sum over i of (2 i - I - 1) x_i / (I * sum of x).
    NaN when nothing is recommended.

    Source: Gini (1912), in the form used for recommenders by Fleder and Hosanagar (2009).
    """
    exposure = np.sort(_exposure(topk, item_counts, k))
    total, num_items = exposure.sum(), len(exposure)
    if total == 0:
        return float("nan")
    return float((2 * np.arange(1, num_items + 1) - num_items - 1) @ exposure / (num_items * total))


gini.lower_is_better = True


def novelty(topk: np.ndarray, item_counts: np.ndarray, num_users: int, k: int) -> np.ndarray:
    """Mean self-information of the listed items in bits: the mean of log2(U / count_i).

    An item without training interactions counts as if one of the U training users had it.

    Source: Zhou et al., Solving the apparent diversity-accuracy dilemma (2010), section on surprisal.
    """
    bits = np.log2(num_users / np.maximum(item_counts, 1))
    return _mean_over_list(bits, topk, k)


def popularity(topk: np.ndarray, item_counts: np.ndarray, k: int) -> np.ndarray:
    """Mean number of training interactions of the listed items."""
    return _mean_over_list(item_counts.astype(np.float64), topk, k)


popularity.lower_is_better = True


def diversity(topk: np.ndarray, item_vectors: np.ndarray | sparse.csr_matrix, k: int) -> np.ndarray:
    """Intra-list diversity: mean of 1 - cos(i, j) over all pairs of different places of the list.

    With unit vectors v and n listed items, the mean cosine is (|sum of v|^2 - sum of |v|^2) / (n (n - 1)), so no pair is
    visited. An item with a zero vector is unlike all others. A list of fewer than two items has the value NaN.

    Args:
        topk: int64 (B, K).
        item_vectors: (I, F), dense or sparse: a feature of the items, or their training columns, which makes the cosine
            that of co-occurrence.
        k: places that count.

    Source: Ziegler et al., Improving recommendation lists through topic diversification (2005), as a mean of distances.
    """
    listed = topk[:, :k]
    rows, places = np.nonzero(listed >= 0)
    member = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, listed[rows, places])), shape=(len(listed), item_vectors.shape[0])
    )
    unit, lengths = _unit_rows(item_vectors)
    sums = np.empty(len(listed))
    step = 1024  # lists at a time, so that the sums of sparse vectors stay small
    for start in range(0, len(listed), step):
        block = member[start : start + step] @ unit
        if sparse.issparse(block):
            block.data **= 2
        else:
            block **= 2
        sums[start : start + step] = np.asarray(block.sum(axis=1)).ravel()
    count = np.asarray(member.sum(axis=1)).ravel()
    pairs = count * (count - 1)
    similarity = np.divide(sums - member @ lengths, pairs, out=np.full(len(listed), np.nan), where=pairs > 0)
    return 1.0 - similarity


def _exposure(topk: np.ndarray, item_counts: np.ndarray, k: int) -> np.ndarray:
    """How many lists hold each item: int64 (I,)."""
    listed = topk[:, :k]
    return np.bincount(listed[listed >= 0], minlength=len(item_counts))


def _mean_over_list(values: np.ndarray, topk: np.ndarray, k: int) -> np.ndarray:
    listed = topk[:, :k]
    used = listed >= 0
    total = np.where(used, values[listed], 0.0).sum(axis=1)
    count = used.sum(axis=1)
    return np.divide(total, count, out=np.full(len(listed), np.nan), where=count > 0)


def _unit_rows(vectors: np.ndarray | sparse.csr_matrix) -> tuple[np.ndarray | sparse.csr_matrix, np.ndarray]:
    """Scale rows to length 1; zero rows stay zero. Returns the matrix and the squared length (1 or 0) of each row."""
    if sparse.issparse(vectors):
        norm = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    else:
        norm = np.linalg.norm(vectors, axis=1)
    inverse = np.divide(1.0, norm, out=np.zeros(len(norm)), where=norm > 0).astype(np.float32)
    unit = sparse.diags(inverse) @ vectors if sparse.issparse(vectors) else vectors * inverse[:, None]
    return unit, (norm > 0).astype(np.float64)
