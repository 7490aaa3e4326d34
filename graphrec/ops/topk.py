"""Full-catalogue top-k with seen items left out, in bounded memory.

U users, I items, D embedding, B block of users, K list length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.registration import register

_USER_BLOCK = 128  # users whose scores the reference holds at once
_PANEL = 48  # the native kernel's copy of the items is rounded up to this many


def select_topk(
    scores: Tensor, k: int, seen_indptr: Any = None, seen_indices: Any = None, candidates: Any = None
) -> tuple[Tensor, Tensor]:
    """Return the k best columns of each row of a score block, leaving out each row's seen columns.

    Ties break to the lower column. A score of -inf or NaN is never returned.

    Args:
        scores: float32 (B, I).
        k: list length, at least 1.
        seen_indptr, seen_indices: int64 (B + 1,) and int32 (nnz,), ascending within a row; arrays or tensors, or None.
        candidates: bool (I,), the columns that may be returned; None for all.

    Returns:
        values float32 (B, k), descending, and indices int64 (B, k); -inf and -1 where a row has fewer than k columns.

    Raises:
        ValueError: k < 1, or the seen lists or `candidates` do not fit the rows or columns.
    """
    _check_topk(scores.shape[0], scores.shape[1], k, seen_indptr, seen_indices, candidates)
    scores = scores.to(torch.float32)
    masks = _masks(seen_indptr, seen_indices, candidates, scores.device)
    if _kernels.kind(scores) != "cpu":
        return _select_topk_reference(scores, k, *masks)
    values, indices = _empty_lists(scores.shape[0], k)
    if scores.stride(-1) != 1 or scores.stride(0) < scores.shape[1]:
        scores = scores.contiguous()
    _kernels.call("topk", scores, *scores.shape, 0, max(scores.stride(0), scores.shape[1]), scores, *masks, k, values, indices)
    return values, indices


def topk_scores(
    user_x: Tensor, item_x: Tensor, k: int, seen_indptr: Any = None, seen_indices: Any = None, candidates: Any = None
) -> tuple[Tensor, Tensor]:
    """Return the k items with the largest inner product for each user, never writing the (U, I) score matrix.

    The product stays in registers and is compared there with the user's current k-th best, so memory is the lists and one
    copy of the items. Does 2·U·I·D floating-point operations.

    Args:
        user_x: float32 (U, D).
        item_x: float32 (I, D).
        k, seen_indptr, seen_indices, candidates: as in `select_topk`, for the U users.

    Returns:
        values float32 (U, k) and indices int64 (U, k), as in `select_topk`.

    Raises:
        ValueError: the dimensions differ, k < 1, or the seen lists or `candidates` do not fit the users or items.
    """
    if user_x.ndim != 2 or item_x.ndim != 2 or user_x.shape[1] != item_x.shape[1]:
        raise ValueError(f"topk_scores: need (U, D) and (I, D), got {tuple(user_x.shape)} and {tuple(item_x.shape)}")
    _check_topk(len(user_x), len(item_x), k, seen_indptr, seen_indices, candidates)
    user_x, item_x = user_x.to(torch.float32), item_x.to(torch.float32)
    return _TOPK_SCORES(user_x, item_x, k, *_masks(seen_indptr, seen_indices, candidates, user_x.device))


def _compute(user_x, item_x, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    kind = _kernels.kind(user_x)
    if kind is None or not user_x.shape[1]:
        return _topk_scores_reference(user_x, item_x, k, seen_indptr, seen_indices, candidates)
    user_x, item_x = user_x.contiguous(), item_x.contiguous()
    values = user_x.new_empty(len(user_x), k)
    indices = torch.empty(values.shape, dtype=torch.int64, device=values.device)
    panels = -(-len(item_x) // _PANEL) * _PANEL
    workspace = user_x.new_empty(panels * item_x.shape[1]) if kind == "cpu" else None
    if len(user_x):
        _kernels.call(
            *("topk_scores", user_x, len(user_x), *item_x.shape, user_x, item_x, seen_indptr, seen_indices, candidates),
            *(k, workspace, values, indices),
        )
    return values, indices


def _fake(user_x, item_x, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    values = user_x.new_empty(len(user_x), k)
    return values, torch.empty(values.shape, dtype=torch.int64, device=values.device)


_TOPK_SCORES = register(
    "topk_scores(Tensor user_x, Tensor item_x, int k, Tensor? seen_indptr, Tensor? seen_indices, Tensor? candidates) "
    "-> (Tensor, Tensor)",
    _compute,
    _fake,
)


def _empty_lists(num_rows: int, k: int) -> tuple[Tensor, Tensor]:
    return torch.full((num_rows, k), -torch.inf), torch.full((num_rows, k), -1, dtype=torch.int64)


def _masks(indptr: Any, indices: Any, candidates: Any, device: torch.device) -> tuple[Tensor | None, ...]:
    """The seen lists as int64 and int32 and the candidates as uint8, on the device."""
    seen: tuple[Tensor | None, Tensor | None] = (None, None)
    if indptr is not None:
        seen = (
            torch.as_tensor(indptr, dtype=torch.int64, device=device).contiguous(),
            torch.as_tensor(indices, dtype=torch.int32, device=device).contiguous(),
        )
    if candidates is not None:
        candidates = torch.as_tensor(candidates, device=device).to(torch.uint8).contiguous()
    return *seen, candidates


def _check_topk(num_rows: int, num_columns: int, k: int, seen_indptr: Any, seen_indices: Any, candidates: Any) -> None:
    if k < 1:
        raise ValueError(f"top-k: k must be at least 1, got {k}")
    if seen_indptr is not None and len(seen_indptr) != num_rows + 1:
        raise ValueError(f"top-k: seen_indptr must hold {num_rows} + 1 entries, got {len(seen_indptr)}")
    if seen_indptr is not None:
        starts = torch.as_tensor(seen_indptr)
        if starts.device.type == "cpu" and (starts[0] < 0 or starts[-1] > len(seen_indices) or (starts.diff() < 0).any()):
            raise ValueError(
                f"top-k: seen_indptr must ascend within 0..{len(seen_indices)}, the length of seen_indices, got "
                f"{int(starts.min())}..{int(starts.max())}"
            )
    if candidates is not None and len(candidates) != num_columns:
        raise ValueError(f"top-k: candidates must hold {num_columns} entries, one for each column, got {len(candidates)}")


def _topk_scores_reference(user_x, item_x, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    lists = []
    for start in range(0, user_x.shape[0], _USER_BLOCK):
        stop = min(start + _USER_BLOCK, user_x.shape[0])
        excluded = None if seen_indptr is None else seen_indptr[start : stop + 1]
        lists.append(_select_topk_reference(user_x[start:stop] @ item_x.T, k, excluded, seen_indices, candidates))
    if not lists:
        return _empty_lists(0, k)
    return torch.cat([values for values, _ in lists]), torch.cat([indices for _, indices in lists])


def _select_topk_reference(scores, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if seen_indptr is not None:
        count = seen_indptr.diff()
        rows = torch.repeat_interleave(torch.arange(len(count), device=scores.device), count)
        columns = seen_indices[int(seen_indptr[0]) : int(seen_indptr[-1])].long()
        scores = scores.index_put((rows, columns), scores.new_tensor(-torch.inf))
    if candidates is not None:
        scores = scores.masked_fill(candidates == 0, -torch.inf)
    width = min(k, scores.shape[1])
    # A stable sort is the only torch primitive that promises the order of equal scores.
    values, indices = torch.sort(scores, dim=1, descending=True, stable=True)
    values, indices = values[:, :width], indices[:, :width]
    indices = indices.masked_fill(values == -torch.inf, -1)
    padding = (0, k - width)
    return torch.nn.functional.pad(values, padding, value=-torch.inf), torch.nn.functional.pad(indices, padding, value=-1)
