"""Accuracy of ranked lists, one value per user.

All functions share these arguments and rules, so they are said once:

- `hits`: bool (B, K); `hits[u, i]` is true where the item at place i of user u's list is one of the user's test items.
- `relevant`: int64 (B,); the number of test items of each user, listed or not.
- `k`: only the first k places count, 1 <= k <= K. Places that a short list leaves unused count as misses.
- The result is float64 (B,). A user without test items has no value: NaN. The evaluation leaves such users out.
- Ties in the scores are the ranker's matter: `graphrec.ops.select_topk` puts the lower item index first. Only `auc` sees
  scores, and counts a tie as half a win.
"""

from __future__ import annotations

import numpy as np


def recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of the user's test items that are among the first k places: hits@k / |T|.

    Source: the protocol of He et al., LightGCN (2020, arXiv 2002.02126): the divisor is |T|, not min(k, |T|).
    """
    return _divide(hits[:, :k].sum(axis=1), relevant)


def precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k places that are test items: hits@k / k, also where the list is shorter than k."""
    return np.where(relevant > 0, hits[:, :k].sum(axis=1) / k, np.nan)


def hit(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 where at least one test item is among the first k places, else 0."""
    return np.where(relevant > 0, hits[:, :k].any(axis=1), np.nan)


def mrr(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Reciprocal rank of the first test item: 1 / rank (the first place is rank 1), or 0 if none is among the first k."""
    listed = hits[:, :k]
    value = np.where(listed.any(axis=1), 1.0 / (listed.argmax(axis=1) + 1), 0.0)
    return np.where(relevant > 0, value, np.nan)


def ndcg(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Discounted cumulative gain over its ideal, with binary gains.

    DCG@k = sum over places i = 1..k of hit_i / log2(i + 1); the ideal list starts with min(k, |T|) hits.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002); ideal truncated as in
    LightGCN (2020, arXiv 2002.02126).
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    # A sum per row, not a matrix product, so that a user's value does not depend on who else is in the block.
    return _divide((hits[:, :k] * discount[: hits.shape[1]]).sum(axis=1), ideal)


def average_precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Mean precision at the places of the hits (its mean over users is MAP).

    AP@k = (sum over places i = 1..k of hit_i * precision@i) / min(k, |T|).

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), section 8.4; the divisor is
    min(k, |T|) so that a perfect list of k places has the value 1.
    """
    listed = hits[:, :k]
    running = listed.cumsum(axis=1) / np.arange(1, listed.shape[1] + 1)
    return _divide((running * listed).sum(axis=1), np.minimum(relevant, k))


def auc(ranks: np.ndarray, truth_indptr: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Chance that a test item outscores an item that is neither a test item nor seen, over the full catalogue.

    With N candidates (items that are not masked), P of them test items with ranks r (1 is best, ties share the mean of
    their ranks): AUC = 1 - (sum of r - P (P + 1) / 2) / (P (N - P)). A tie counts half.

    Args:
        ranks: float64 (nnz,), rank of every test item among the user's candidates.
        truth_indptr: int64 (B + 1,), where each user's ranks start.
        candidates: int64 (B,), N of each user.

    Returns:
        float64 (B,); NaN for a user without test items, or whose candidates are all test items.

    Source: Mann and Whitney (1947); Hanley and McNeil (1982).
    """
    positives = np.diff(truth_indptr)
    running = np.concatenate([[0.0], np.cumsum(ranks)])
    losses = running[truth_indptr[1:]] - running[truth_indptr[:-1]] - positives * (positives + 1) / 2
    return 1.0 - _divide(losses, positives * (candidates - positives))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide in float64; NaN where the divisor is zero."""
    result = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
