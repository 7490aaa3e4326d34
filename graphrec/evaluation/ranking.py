"""Rank the full catalogue for many users, in blocks, without ever holding the (users x items) matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from graphrec import ops
from graphrec.errors import ConfigError, RunError
from graphrec.evaluation.user_items import UserItems
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.models.base import Recommender

_BLOCK_SCORES = 32_000_000  # scores in memory at a time: 128 MB of float32
_BLOCK_USERS = 4096
_CHECKED_USERS = 8
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
    factors = _factors(model, users)
    step = block or (_BLOCK_USERS if factors else _block_users(seen.num_items))
    topk = np.empty((len(users), k), dtype=np.int64)
    with progress.task("Ranking users", total=len(users), unit="users") as task:
        for part in _parts(len(users), step):
            masked = seen.rows(users[part])
            if factors:
                _, best = ops.topk_scores(factors[0][users[part]], factors[1], k, masked.indptr, masked.indices)
            else:
                _, best = ops.select_topk(_checked_scores(model, users[part]), k, masked.indptr, masked.indices)
            topk[part] = best.cpu().numpy()
            task.advance(len(topk[part]))
    return topk


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
    step = block or max(1, _block_users(seen.num_items) // 4)  # counting needs a few arrays as large as the scores
    with progress.task("Locating test items", total=len(users), unit="users") as task:
        for part in _parts(len(users), step):
            scores = _checked_scores(model, users[part]).cpu()
            scores = scores.clamp(min=torch.finfo(scores.dtype).min)  # -inf is kept for the mask
            rows = truth.rows(np.arange(part.start, min(part.stop, len(users))))
            places = slice(truth.indptr[part.start], truth.indptr[part.start] + len(rows.indices))
            predicted[places] = scores[_row_of(rows), torch.from_numpy(rows.indices)].double().numpy()
            masked = seen.rows(users[part])
            scores[_row_of(masked), torch.from_numpy(masked.indices)] = -torch.inf
            ranks[places] = _mid_ranks(scores, rows)
            task.advance(len(scores))
    return Positions(ranks, seen.num_items - seen.sizes[users], predicted)


def _mid_ranks(scores: torch.Tensor, truth: UserItems) -> np.ndarray:
    """Rank the true items of each row of `scores` (B, I) by counting the items above and level with them: (nnz,)."""
    sizes = torch.from_numpy(truth.sizes)
    used = torch.arange(int(sizes.max()))[None, :] < sizes[:, None]  # (B, T)
    wanted = torch.full(used.shape, torch.inf, dtype=scores.dtype)
    wanted[used] = scores[_row_of(truth), torch.from_numpy(truth.indices)]
    ascending, order = wanted.sort(dim=1, stable=True)
    above = _count_beyond(ascending, scores, right=False)
    level = _count_beyond(ascending, scores, right=True) - above
    ranks = torch.empty_like(above, dtype=torch.float64)
    ranks.scatter_(1, order, above + (level + 1).double() / 2)
    return ranks[used].numpy()


def _count_beyond(ascending: torch.Tensor, scores: torch.Tensor, right: bool) -> torch.Tensor:
    """Count per row the scores > (right: >=) each of the `ascending` (B, T) values; int64 (B, T)."""
    rows, width = ascending.shape
    passed = torch.searchsorted(ascending, scores.contiguous(), right=right)  # how many values each score has passed
    passed += torch.arange(rows)[:, None] * (width + 1)
    histogram = torch.bincount(passed.view(-1), minlength=rows * (width + 1)).view(rows, width + 1)
    return histogram.flip(1).cumsum(1).flip(1)[:, 1:]


def _row_of(lists: UserItems) -> torch.Tensor:
    """Row number of each entry: int64 (nnz,)."""
    return torch.repeat_interleave(torch.from_numpy(lists.sizes))


def _factors(model: Recommender, users: np.ndarray) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return (user, item) embeddings, float32, if their product equals the model's score up to a constant per user."""
    embeddings = model.embeddings()
    if embeddings is None or not {"user", "item"} <= embeddings.keys() or not len(users):
        return None
    user_x, item_x = (torch.as_tensor(embeddings[side], dtype=torch.float32) for side in ("user", "item"))
    if user_x.shape[1] != item_x.shape[1] or not (user_x.isfinite().all() and item_x.isfinite().all()):
        return None
    sample = users[np.linspace(0, len(users) - 1, min(_CHECKED_USERS, len(users))).astype(np.int64)]
    scores = _checked_scores(model, sample).cpu()
    difference = scores - user_x[sample] @ item_x.T
    spread = difference.amax(1) - difference.amin(1)
    span = scores.amax(1) - scores.amin(1)
    return (user_x, item_x) if bool((spread <= _FACTOR_TOLERANCE * span + 1e-30).all()) else None


def _checked_scores(model: Recommender, users: np.ndarray) -> torch.Tensor:
    scores = model.score(users)
    if torch.isnan(scores).any():
        raise RunError(
            f"the {model.name} model gives NaN as a score, so it cannot rank; its training has diverged: "
            "train again with a smaller learning rate"
        )
    return scores


def _parts(total: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, total, step))


def _block_users(num_items: int) -> int:
    return max(1, min(_BLOCK_USERS, _BLOCK_SCORES // max(1, num_items)))


def check_list_length(k: int, num_items: int) -> None:
    """Check 1 <= k <= I.

    Raises:
        ConfigError: k is below 1 or larger than the catalogue.
    """
    if not 1 <= k <= num_items:
        raise ConfigError(f"k must lie in 1..{num_items}, the number of items in the catalogue, got {k}")
