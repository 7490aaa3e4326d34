"""Full-catalogue top-k with seen items left out, in bounded memory.

U users, I items, D embedding, B block of users, K list length.
"""

from __future__ import annotations

from typing import Any

import torch

from graphrec import _kernels

_USER_BLOCK = 128
_ITEM_TILE = 4096


def select_topk(
    scores: torch.Tensor, k: int, seen_indptr: Any = None, seen_indices: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best columns of each row of a score block, leaving out each row's seen columns.

    Ties break to the lower column. A score of -inf or NaN is never returned.

    Args:
        scores: float32 (B, I).
        k: list length, at least 1.
        seen_indptr, seen_indices: int64 (B + 1,) and int32 (nnz,), ascending within a row; arrays or tensors, or None.

    Returns:
        values float32 (B, k), descending, and indices int64 (B, k); -inf and -1 where a row has fewer than k columns.

    Raises:
        ValueError: k < 1, or `seen_indptr` does not fit the rows.
    """
    _check_topk(scores.shape[0], k, seen_indptr)
    scores = scores.to(torch.float32)
    seen_indptr, seen_indices = _seen_tensors(seen_indptr, seen_indices)
    if not _kernels.supports(scores):
        return _select_topk_reference(scores, k, seen_indptr, seen_indices)
    values, indices = _empty_lists(scores.shape[0], k)
    if scores.stride(-1) != 1:
        scores = scores.contiguous()
    _kernels.topk(scores, 0, seen_indptr, seen_indices, values, indices)
    return values, indices


def topk_scores(
    user_x: torch.Tensor, item_x: torch.Tensor, k: int, seen_indptr: Any = None, seen_indices: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k items with the largest inner product for each user, never writing the (U, I) score matrix.

    The product is made tile by tile and merged into running lists, so memory is one tile and the lists.

    Args:
        user_x: float32 (U, D).
        item_x: float32 (I, D).
        k, seen_indptr, seen_indices: as in `select_topk`, for the U users.

    Returns:
        values float32 (U, k) and indices int64 (U, k), as in `select_topk`.

    Raises:
        ValueError: the dimensions differ, k < 1, or `seen_indptr` does not fit the users.
    """
    if user_x.ndim != 2 or item_x.ndim != 2 or user_x.shape[1] != item_x.shape[1]:
        raise ValueError(f"topk_scores: need (U, D) and (I, D), got {tuple(user_x.shape)} and {tuple(item_x.shape)}")
    _check_topk(user_x.shape[0], k, seen_indptr)
    seen_indptr, seen_indices = _seen_tensors(seen_indptr, seen_indices)
    user_x, item_x = user_x.to(torch.float32), item_x.to(torch.float32)
    if not _kernels.supports(user_x):
        return _topk_scores_reference(user_x, item_x, k, seen_indptr, seen_indices)
    values, indices = _empty_lists(user_x.shape[0], k)
    item_columns = item_x.T.contiguous()  # (D, I)
    buffer = torch.empty(_USER_BLOCK, _ITEM_TILE)
    with torch.inference_mode():
        for start in range(0, user_x.shape[0], _USER_BLOCK):
            block = slice(start, min(start + _USER_BLOCK, user_x.shape[0]))
            excluded = None if seen_indptr is None else seen_indptr[block.start : block.stop + 1]
            for first in range(0, item_x.shape[0], _ITEM_TILE):
                tile = item_columns[:, first : first + _ITEM_TILE]
                scores = buffer[: block.stop - start, : tile.shape[1]]
                torch.mm(user_x[block], tile, out=scores)
                _kernels.topk(scores, first, excluded, seen_indices, values[block], indices[block])
    return values, indices


def _empty_lists(num_rows: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((num_rows, k), -torch.inf), torch.full((num_rows, k), -1, dtype=torch.int64)


def _seen_tensors(indptr: Any, indices: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if indptr is None:
        return None, None
    return (
        torch.as_tensor(indptr, dtype=torch.int64).contiguous(),
        torch.as_tensor(indices, dtype=torch.int32).contiguous(),
    )


def _check_topk(num_rows: int, k: int, seen_indptr: Any) -> None:
    if k < 1:
        raise ValueError(f"top-k: k must be at least 1, got {k}")
    if seen_indptr is not None and len(seen_indptr) != num_rows + 1:
        raise ValueError(f"top-k: seen_indptr must hold {num_rows} + 1 entries, got {len(seen_indptr)}")


def _topk_scores_reference(user_x, item_x, k, seen_indptr, seen_indices):  # type: ignore[no-untyped-def]
    lists = []
    for start in range(0, user_x.shape[0], _USER_BLOCK):
        stop = min(start + _USER_BLOCK, user_x.shape[0])
        excluded = None if seen_indptr is None else seen_indptr[start : stop + 1]
        lists.append(_select_topk_reference(user_x[start:stop] @ item_x.T, k, excluded, seen_indices))
    if not lists:
        return _empty_lists(0, k)
    return torch.cat([values for values, _ in lists]), torch.cat([indices for _, indices in lists])


def _select_topk_reference(scores, k, seen_indptr, seen_indices):  # type: ignore[no-untyped-def]
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if seen_indptr is not None:
        count = seen_indptr.diff()
        rows = torch.repeat_interleave(torch.arange(len(count)), count).to(scores.device)
        columns = seen_indices[int(seen_indptr[0]) : int(seen_indptr[-1])].long().to(scores.device)
        scores = scores.index_put((rows, columns), scores.new_tensor(-torch.inf))
    width = min(k, scores.shape[1])
    # A stable sort is the only torch primitive that promises the order of equal scores.
    values, indices = torch.sort(scores, dim=1, descending=True, stable=True)
    values, indices = values[:, :width], indices[:, :width]
    indices = indices.masked_fill(values == -torch.inf, -1)
    padding = (0, k - width)
    return torch.nn.functional.pad(values, padding, value=-torch.inf), torch.nn.functional.pad(indices, padding, value=-1)
