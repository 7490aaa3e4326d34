"""What the lists are like besides accurate: coverage, concentration, novelty, diversity, popularity.

Shared arguments: `topk` int64 (B, K), item indices, -1 where a list is short; `k` the number of places that count;
`item_counts` int64 (I,), training interactions per item. These metrics need no test items, so an empty truth changes
nothing; a user whose list is empty has the value NaN. Ties are the ranker's matter.
"""

from __future__ import annotations

import numpy as np


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


def diversity(topk: np.ndarray, cosines: np.ndarray, k: int) -> np.ndarray:
    """Intra-list diversity: mean of 1 - cos(i, j) over all pairs of different places of the list.

    An item with a zero vector is unlike all others. A list of fewer than two items has the value NaN.

    Args:
        topk: int64 (B, K).
        cosines: float64 (B, K), for each place the sum of the cosines with the items before it, as
            `graphrec.evaluation.likeness.sums_of_cosines` gives it of a feature of the items, or of their training columns,
            which makes the cosine that of co-occurrence.
        k: places that count.

    Source: Ziegler et al., Improving recommendation lists through topic diversification (2005), as a mean of distances.
    """
    count = (topk[:, :k] >= 0).sum(axis=1)
    pairs = count * (count - 1) / 2
    return 1.0 - np.divide(cosines[:, :k].sum(axis=1), pairs, out=np.full(len(topk), np.nan), where=pairs > 0)


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
