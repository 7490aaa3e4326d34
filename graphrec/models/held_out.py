"""Part of the training items held out, to choose what a closed-form model leaves open at fit time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch

from graphrec.ops import select_topk
from graphrec.progress import Reporter

_SHARE = 0.2  # of each user's training items: the usual share of a test split; less favours the graph filter's linear part too much
_USERS = 2000  # judged at the most; their standard error is common to all candidates, so differences are sharper
_LIST_LENGTH = 20


def held_out(train: sp.csr_matrix, seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix, np.ndarray]:
    """Hide a fifth of each user's training items.

    Args:
        train: R, (U, I).
        seed: of the hidden part and of the users.

    Returns:
        What is kept and what is hidden, (U, I) each, and up to 2,000 users to judge by, int64, ascending; none where the log is
        too small to hide anything.
    """
    rng = np.random.default_rng(seed)
    kept, hidden = hide(train, _SHARE, rng)
    return kept, hidden, np.sort(rng.permutation(np.flatnonzero(np.diff(hidden.indptr)))[:_USERS])


def best_of(values: Sequence[float], quality: Sequence[float], what: str, progress: Reporter) -> float:
    """Return the value of the highest quality, and tell the reporter how all were judged."""
    best = values[int(np.argmax(quality))]
    judged = ", ".join(f"{value:g}: {found:.4f}" for value, found in zip(values, quality, strict=True))
    progress.note(f"{what} {best:g} (Recall@20 + NDCG@20 of hidden items by value: {judged})")
    return best


def hide(matrix: sp.csr_matrix, share: float, rng: np.random.Generator) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Part each row's entries at random: all but `share` of them, and the rest; rows with fewer than 3 stay whole."""
    degree = np.diff(matrix.indptr)
    count = np.where(degree < 3, 0, np.maximum(1, np.round(share * degree))).astype(np.int64)
    rows = np.repeat(np.arange(matrix.shape[0]), degree)
    order = np.lexsort((rng.random(matrix.nnz), rows))
    is_hidden = np.arange(matrix.nnz) - matrix.indptr[rows] < count[rows]

    def part(chosen: np.ndarray) -> sp.csr_matrix:
        entries = np.sort(order[chosen])
        coordinates = (rows[entries], matrix.indices[entries])
        return sp.csr_matrix((matrix.data[entries], coordinates), shape=matrix.shape)

    return part(~is_hidden), part(is_hidden)


def list_quality(scores: torch.Tensor, seen: sp.csr_matrix, truth: sp.csr_matrix) -> np.ndarray:
    """Recall@20 + NDCG@20 of each user, float64 (B,).

    Args:
        scores: float32 (B, I).
        seen: (B, I), what no list may hold; columns ascending.
        truth: (B, I), what the lists should hold; at least one item in every row.
    """
    discount = 1 / np.log2(np.arange(2, _LIST_LENGTH + 2))
    k = min(_LIST_LENGTH, scores.shape[1])
    _, listed = select_topk(scores, k, seen.indptr, seen.indices)
    listed = listed.numpy()
    users = np.repeat(np.arange(len(listed)), k)
    hits = np.asarray(truth[users, listed.ravel()]).reshape(listed.shape) != 0
    hits &= listed >= 0
    wanted = np.diff(truth.indptr)
    ideal = np.cumsum(discount)[np.minimum(wanted, _LIST_LENGTH) - 1]
    gain = (hits * discount[:k]).sum(axis=1) / ideal
    return hits.sum(axis=1) / wanted + gain
