"""Part of the training items held out, to choose what a closed-form model leaves open at fit time.

What is hidden decides what is chosen. Items hidden at random have near neighbours among those that stay, so that direct
neighbourhood finds them; a split by time or place hides items that belong together, which only broader directions find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch

from graphrec.models.spectral import spectral_embeddings
from graphrec.ops import select_topk
from graphrec.progress import Reporter

HoldOut = Literal["random", "block"]

_SHARE = 0.2  # of each user's training items: the usual share of a test split; less favours the graph filter's linear part too much
_USERS = 2000  # judged at the most; their standard error is common to all candidates, so differences are sharper
_JUDGED_SCORES = 250_000_000  # in memory at a time, 1 GB: those of all 2,000 up to 125,000 items
_LIST_LENGTH = 20
_ROWS_AT_ONCE = 4096
_BLOCK_DIMENSIONS = 32  # of the space in which the items of a block lie on one side


def held_out(
    train: sp.csr_matrix, seed: int, how: HoldOut = "random"
) -> tuple[sp.csr_matrix, sp.csr_matrix, np.ndarray]:
    """Hide a fifth of each user's training items.

    Args:
        train: R, (U, I).
        seed: of the hidden part and of the users.
        how: which items: any, or those that lie together (`hide_blocks`).

    Returns:
        What is kept and what is hidden, (U, I) each, and up to 2,000 users to judge by, int64, ascending; none where the log is
        too small to hide anything.
    """
    rng = np.random.default_rng(seed)
    kept, hidden = (hide_blocks if how == "block" else hide)(train, _SHARE, rng)
    return kept, hidden, np.sort(rng.permutation(np.flatnonzero(np.diff(hidden.indptr)))[:_USERS])


def judged_at_once(num_items: int) -> int:
    """How many of the users to judge by may be scored at a time, so that the scores fit in 1 GB."""
    return max(1, min(_USERS, _JUDGED_SCORES // max(1, num_items)))


def best_of(values: Sequence[float], quality: Sequence[float], what: str, progress: Reporter) -> float:
    """Return the value of the highest quality, and tell the reporter how all were judged."""
    best = values[int(np.argmax(quality))]
    judged = ", ".join(f"{value:g}: {found:.4f}" for value, found in zip(values, quality, strict=True))
    progress.note(f"{what} {best:g} (Recall@20 + NDCG@20 of hidden items by value: {judged})")
    return best


def hide(matrix: sp.csr_matrix, share: float, rng: np.random.Generator) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Part each row's entries at random: all but `share` of them, and the rest; rows with fewer than 3 stay whole."""
    return _without_first(matrix, share, rng.random(matrix.nnz))


def hide_blocks(matrix: sp.csr_matrix, share: float, rng: np.random.Generator) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Part each row's entries as `hide` does, but take those that lie farthest along a direction of the row's own.

    The direction is random, in the space of the leading 32 spectral directions of the columns, each of length one: what is
    taken lies together, and apart from the rest.

    Source: Roberts et al. (2017), "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic
        structure", Ecography 40, which blocks what depends on one another; here the graph takes the place of time and place.
    """
    seed = int(rng.integers(2**31))
    _, columns = spectral_embeddings(matrix, _BLOCK_DIMENSIONS, seed=seed, power=0.0)
    columns = torch.nn.functional.normalize(columns, dim=1).numpy()
    along = np.empty(matrix.nnz, np.float32)
    for start in range(0, matrix.shape[0], _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, matrix.shape[0]))
        block = slice(matrix.indptr[rows.start], matrix.indptr[rows.stop])
        directions = rng.standard_normal((len(rows), columns.shape[1])).astype(np.float32)
        own = np.repeat(directions, np.diff(matrix.indptr[rows.start : rows.stop + 1]), axis=0)
        along[block] = (columns[matrix.indices[block]] * own).sum(axis=1)
    return _without_first(matrix, share, -along)


def _without_first(
    matrix: sp.csr_matrix, share: float, rank: np.ndarray
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """All entries of each row but a share, those of lowest rank (E,), and these; rows with fewer than 3 stay whole."""
    degree = np.diff(matrix.indptr)
    count = np.where(degree < 3, 0, np.maximum(1, np.round(share * degree))).astype(np.int64)
    rows = np.repeat(np.arange(matrix.shape[0]), degree)
    order = np.lexsort((rank, rows))
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
