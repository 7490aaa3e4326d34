"""Rank the full catalogue for many users, in blocks, without ever holding the (users x items) matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from graphrec import ops
from graphrec.errors import check_list_length
from graphrec.evaluation.user_items import UserItems
from graphrec.memory import kept_memory
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.models.base import Recommender

_BLOCK_SCORES = 32_000_000  # scores in memory at a time: 128 MB of float32
_BLOCK_USERS = 4096
_CHECKED_USERS = 8
_SORT_FROM = 64  # test items of a user from which sorting the scores beats counting per test item
_FACTOR_TOLERANCE = 1e-4  # of the range of a user's scores


@dataclass(frozen=True)
class Positions:
    """Where the test items of B users stand in the full ranking.

    Attributes:
        ranks: float64 (nnz,), rank of each test item among the user's candidates; 1 is best, ties share the mean rank.
        candidates: int64 (B,), number of items that are not masked for the user.
        predicted: float64 (nnz,), score of each test item.
    """

    ranks: np.ndarray
    candidates: np.ndarray
    predicted: np.ndarray


def rank_users(
    model: Recommender,
    users: np.ndarray,
    k: int,
    seen: UserItems,
    *,
    block: int | None = None,
    progress: Reporter = SILENT,
) -> np.ndarray:
    """Return the k best items that each user has not seen.

    Where the model's embeddings reproduce its scores (checked on a few users), the product, the mask and the selection
    run in one fused kernel, `ops.topk_scores`; otherwise blocks of `model.score` go through `ops.select_topk`.

    Args:
        model: a fitted recommender.
        users: int64 (B,), dense user indices.
        k: list length, 1..I.
        seen: the items to leave out, one row per user of the catalogue (U rows).
        block: users per block; None chooses so that a block of scores takes at most 128 MB. The result is the same.
        progress: receives the blocks.

    Returns:
        int64 (B, k), best first; -1 where fewer than k items are left. Ties go to the lower item index.

    Raises:
        ConfigError: k is below 1 or larger than the catalogue.
        RunError: the model gives NaN as a score.
    """
    check_list_length(k, seen.num_items)
    factors = factors_of(model, users)
    topk = np.empty((len(users), k), dtype=np.int64)
    with kept_memory(), progress.task("Ranking users", total=len(users), unit="users") as task:
        for part, best, _ in ranked_parts(model, users, k, seen, factors, block):
            topk[part] = best
            task.advance(len(best))
    return topk


def ranked_parts(
    model: Recommender,
    users: np.ndarray,
    k: int,
    seen: UserItems | None,
    factors: tuple[torch.Tensor, torch.Tensor] | None,
    block: int | None = None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rank some users at a time, through the factors in one fused kernel, and without them by `model.score`.

    Args:
        model, users, k, block: as in `rank_users`.
        seen: the items to leave out, one row per user of the catalogue (U rows); None for none.
        factors: what `factors_of` gives.

    Yields:
        Which of `users`, and for these the best items, int64 (B, k), -1 where there are none left, and their scores, float32 (B, k).

    Raises:
        RunError: the model gives NaN as a score.
    """
    for part in _parts(len(users), block or (_BLOCK_USERS if factors else _block_users(model.catalogue.num_items))):
        rows = None if seen is None else seen.rows(users[part])
        masked = (None, None) if rows is None else (rows.indptr, rows.indices)
        if factors:
            values, best = ops.topk_scores(factors[0][users[part]], factors[1], k, *masked)
        else:
            values, best = ops.select_topk(model.score(users[part]), k, *masked)
        yield part, best.cpu().numpy(), values.cpu().numpy()


def rank_positions(
    model: Recommender,
    users: np.ndarray,
    truth: UserItems,
    seen: UserItems,
    *,
    block: int | None = None,
    progress: Reporter = SILENT,
) -> Positions:
    """Return where each test item stands among all items that the user has not seen.

    Args:
        model: a fitted recommender.
        users: int64 (B,), dense user indices.
        truth: the test items of these users (B rows); none of them is in `seen`.
        seen: the items to leave out, one row per user of the catalogue (U rows).
        block: users per block; the result is the same for every size.
        progress: receives the blocks.

    Raises:
        RunError: the model gives NaN as a score.
    """
    ranks, predicted = np.empty(len(truth.indices)), np.empty(len(truth.indices))
    with kept_memory(), progress.task("Locating test items", total=len(users), unit="users") as task:
        for part in _parts(len(users), block or _block_users(seen.num_items)):
            scores = model.score(users[part]).cpu().numpy()
            scores = np.maximum(scores, np.finfo(scores.dtype).min)  # -inf is kept for the mask
            masked = seen.rows(users[part])
            for row, row_scores in enumerate(scores):
                places = slice(*truth.indptr[part.start + row : part.start + row + 2])
                wanted = row_scores[truth.indices[places]]
                row_scores[masked.indices[slice(*masked.indptr[row : row + 2])]] = -np.inf
                ranks[places], predicted[places] = _mid_ranks(row_scores, wanted), wanted
            task.advance(len(scores))
    return Positions(ranks, seen.num_items - seen.sizes[users], predicted)


def _mid_ranks(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rank the `wanted` (T,) among `scores` (I,), which hold them, by counting the larger and the equal: float64 (T,)."""
    if len(wanted) < _SORT_FROM:
        above = np.array([np.count_nonzero(scores > value) for value in wanted])
        reached = np.array([np.count_nonzero(scores >= value) for value in wanted])
    else:
        ascending = np.sort(scores)
        above = len(scores) - np.searchsorted(ascending, wanted, side="right")
        reached = len(scores) - np.searchsorted(ascending, wanted, side="left")
    return (above + 1 + reached) / 2


def factors_of(
    model: Recommender, users: np.ndarray, *, scores: bool = False
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return (user, item) embeddings, float32, if their product ranks as the model does, or None.

    It does where it equals the model's score up to a constant per user, as far as float32 can tell, for a few of `users`.

    Args:
        model: a fitted recommender.
        users: int64 (B,), dense user indices.
        scores: the product is to equal the score itself.
    """
    embeddings = model.embeddings() if model.scores_are_dot_products else None
    if embeddings is None or not {"user", "item"} <= embeddings.keys() or not len(users):
        return None
    user_x, item_x = (torch.as_tensor(embeddings[side], dtype=torch.float32) for side in ("user", "item"))
    if user_x.shape[1] != item_x.shape[1] or not (user_x.isfinite().all() and item_x.isfinite().all()):
        return None
    sample = users[np.linspace(0, len(users) - 1, min(_CHECKED_USERS, len(users))).astype(np.int64)]
    wanted = model.score(sample).cpu()
    difference = wanted - user_x[sample] @ item_x.T
    spread = difference.abs().amax(1) if scores else difference.amax(1) - difference.amin(1)
    span = wanted.amax(1) - wanted.amin(1)
    return (user_x, item_x) if bool((spread <= _FACTOR_TOLERANCE * span + 1e-30).all()) else None


def _parts(total: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, total, step))


def _block_users(num_items: int) -> int:
    return max(1, min(_BLOCK_USERS, _BLOCK_SCORES // max(1, num_items)))
