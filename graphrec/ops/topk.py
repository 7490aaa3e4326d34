"""Full-catalogue top-k with seen items left out, in bounded memory.

U users, I items, D embedding, B block of users, K list length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import bounds_of, check_integer, check_tensor, first_fall
from graphrec.ops.registration import register

_USER_BLOCK = 128  # users whose scores the reference holds at once
_PANEL = 48  # the native kernel's copy of the items is rounded up to this many


def select_topk(
    scores: Tensor, k: int, seen_indptr: Any = None, seen_indices: Any = None, candidates: Any = None
) -> tuple[Tensor, Tensor]:
    """Return the k best columns of each row of a score block, leaving out each row's seen columns.

    Ties break to the lower column. A score of -inf or NaN is never returned. Moves about 4·B·I bytes and, for each list,
    12·k and the row's 4-byte seen columns. On a GPU there is no kernel of its own: torch's top-k selects among 64-bit keys of
    score and column, which take several times the scores' memory, and the lists are the same.

    Args:
        scores: float32 (B, I); float16 and bfloat16 are widened.
        k: list length, at least 1.
        seen_indptr, seen_indices: int64 (B + 1,) and int32 (nnz,), ascending within a row; arrays or tensors, or None. Where
            they are on a GPU their values are not looked at.
        candidates: bool (I,), the columns that may be returned; None for all.

    Returns:
        values float32 (B, k), descending, and indices int64 (B, k); -inf and -1 where a row has fewer than k columns.

    Raises:
        ValueError: k < 1, the scores are wider than float32 or no matrix, the seen lists are not ascending columns of the
            rows, or `candidates` is no mask of the columns.
    """
    check_tensor("top-k", "scores", scores)
    if scores.ndim != 2:
        raise ValueError(f"top-k: scores must be (B, I), got {tuple(scores.shape)}")
    k = check_integer("top-k", "k", k, 1)
    scores = _single("scores", scores)
    return _SELECT_TOPK(scores, k, *_masks(scores.shape, seen_indptr, seen_indices, candidates, scores.device))


def topk_scores(
    user_x: Tensor, item_x: Tensor, k: int, seen_indptr: Any = None, seen_indices: Any = None, candidates: Any = None
) -> tuple[Tensor, Tensor]:
    """Return the k items with the largest inner product for each user, never writing the (U, I) score matrix.

    The product stays in registers and is compared there with the user's current k-th best, so memory is the lists and one
    copy of the items. Does 2·U·I·D floating-point operations. Moves about 4·D·(U + I·⌈U / block⌉) + 12·U·k bytes and the seen
    lists, with blocks of 128 users on the CPU and of 16 to 64 on a GPU, whose items come from the cache.

    Args:
        user_x, item_x: float32 (U, D) and (I, D); float16 and bfloat16 are widened.
        k, seen_indptr, seen_indices, candidates: as in `select_topk`, for the U users.

    Returns:
        values float32 (U, k) and indices int64 (U, k), as in `select_topk`.

    Raises:
        ValueError: the dimensions differ, or as in `select_topk`.
    """
    check_tensor("topk_scores", "user_x", user_x)
    check_tensor("topk_scores", "item_x", item_x)
    if user_x.ndim != 2 or item_x.ndim != 2 or user_x.shape[1] != item_x.shape[1]:
        raise ValueError(f"topk_scores: need (U, D) and (I, D), got {tuple(user_x.shape)} and {tuple(item_x.shape)}")
    k = check_integer("top-k", "k", k, 1)
    user_x, item_x = _single("user_x", user_x.detach()), _single("item_x", item_x.detach())
    shape = len(user_x), len(item_x)
    return _TOPK_SCORES(user_x, item_x, k, *_masks(shape, seen_indptr, seen_indices, candidates, user_x.device))


def _select(scores, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    masks = seen_indptr, seen_indices, candidates
    kind = _kernels.kind(scores)
    if kind != "cpu":
        return (_select_by_keys if kind == "cuda" else _select_topk_reference)(scores, k, *masks)
    values, indices = _empty_lists(len(scores), k, scores.device)
    if scores.stride(-1) != 1 or scores.stride(0) < scores.shape[1]:
        scores = scores.contiguous()
    _kernels.call("topk", scores, *scores.shape, 0, max(scores.stride(0), scores.shape[1]), scores, *masks, k, values, indices)
    return values, indices


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


def _fake(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return rows.new_empty(len(rows), k), rows.new_empty((len(rows), k), dtype=torch.int64)


_MASKS = "Tensor? seen_indptr, Tensor? seen_indices, Tensor? candidates"
_SELECT_TOPK = register(
    f"select_topk(Tensor scores, int k, {_MASKS}) -> (Tensor, Tensor)", _select, lambda scores, k, *_: _fake(scores, k)
)
_TOPK_SCORES = register(
    f"topk_scores(Tensor user_x, Tensor item_x, int k, {_MASKS}) -> (Tensor, Tensor)",
    _compute,
    lambda user_x, item_x, k, *_: _fake(user_x, k),
)


def _empty_lists(num_rows: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = num_rows, k
    return torch.full(shape, -torch.inf, device=device), torch.full(shape, -1, dtype=torch.int64, device=device)


def _single(name: str, values: Tensor) -> Tensor:
    if values.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"top-k: {name} must be float32, got {values.dtype}, and rounding may change the order; round by .float()"
        )
    return values.to(torch.float32)


def _masks(shape: tuple[int, ...], indptr: Any, indices: Any, candidates: Any, device: torch.device):  # type: ignore[no-untyped-def]
    """Check them; the seen lists as int64 and int32 and the candidates as bytes, on the device."""
    num_rows, num_columns = shape
    if (indptr is None) != (indices is None):
        given = "seen_indices" if indptr is None else "seen_indptr"
        raise ValueError(f"top-k: seen_indptr and seen_indices go together, got {given} alone; give both or neither")
    if indptr is not None:
        indptr, indices = _integers("seen_indptr", indptr).long(), _integers("seen_indices", indices)
        if len(indptr) != num_rows + 1:
            raise ValueError(f"top-k: seen_indptr must hold {num_rows} + 1 entries, got {len(indptr)}")
        _check_seen(indptr, indices, num_columns)
        indptr, indices = indptr.to(device).contiguous(), indices.to(device, torch.int32).contiguous()
    if candidates is not None:
        candidates = torch.as_tensor(candidates)
        if candidates.dtype != torch.bool:
            raise ValueError(
                f"top-k: candidates must be a bool mask of the columns, got {candidates.dtype}; make one of column ids by "
                f"mask = torch.zeros({num_columns}, dtype=torch.bool) and mask[ids] = True"
            )
        if candidates.shape != (num_columns,):
            raise ValueError(
                f"top-k: candidates must hold {num_columns} entries, one for each column, got {tuple(candidates.shape)}"
            )
        candidates = candidates.to(device).contiguous().view(torch.uint8)
    return indptr, indices, candidates


def _integers(name: str, values: Any) -> Tensor:
    values = torch.as_tensor(values)
    whole = not values.dtype.is_floating_point and values.dtype != torch.bool
    if values.ndim != 1 or (len(values) and not whole):
        raise ValueError(f"top-k: {name} must be integers (n,), got {values.dtype} {tuple(values.shape)}")
    return values if values.dtype in (torch.int32, torch.int64) else values.long()


def _check_seen(indptr: Tensor, indices: Tensor, num_columns: int) -> None:
    """Look at the lists' values, but not at those on a GPU, which would have to be waited for, or of a fake, which has none."""
    if any(part.device.type != "cpu" or type(part) is not Tensor for part in (indptr, indices)):
        return
    first, last = int(indptr[0]), int(indptr[-1])
    if first < 0 or last > len(indices) or bool((indptr.diff() < 0).any()):
        raise ValueError(
            f"top-k: seen_indptr must ascend within 0..{len(indices)}, the length of seen_indices, got "
            f"{int(indptr.min())}..{int(indptr.max())}"
        )
    used = indices[first:last]
    if not len(used):
        return
    [(low, high)] = bounds_of(used)
    if low < 0 or high >= num_columns:
        raise ValueError(f"top-k: seen_indices must be columns in 0..{num_columns - 1}, got {low}..{high}")
    fall = first_fall(indptr, indices[:last], first)
    if fall is not None:
        row, at = fall
        raise ValueError(
            f"top-k: seen_indices must ascend within a row, got {int(indices[at - 1])} before {int(indices[at])} in row "
            f"{row}; sort each row"
        )


def _topk_scores_reference(user_x, item_x, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    lists = []
    for start in range(0, user_x.shape[0], _USER_BLOCK):
        stop = min(start + _USER_BLOCK, user_x.shape[0])
        excluded = None if seen_indptr is None else seen_indptr[start : stop + 1]
        lists.append(_select_topk_reference(user_x[start:stop] @ item_x.T, k, excluded, seen_indices, candidates))
    if not lists:
        return _empty_lists(0, k, user_x.device)
    return torch.cat([values for values, _ in lists]), torch.cat([indices for _, indices in lists])


def _masked(scores: Tensor, seen_indptr: Tensor | None, seen_indices: Tensor | None, candidates: Tensor | None) -> Tensor:
    """The scores with -inf at what must not be listed."""
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if seen_indptr is not None:
        count = seen_indptr.diff()
        rows = torch.repeat_interleave(torch.arange(len(count), device=scores.device), count)
        columns = seen_indices[int(seen_indptr[0]) : int(seen_indptr[-1])].long()
        scores = scores.index_put((rows, columns), scores.new_tensor(-torch.inf))
    return scores if candidates is None else scores.masked_fill(candidates == 0, -torch.inf)


def _padded(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Lists of k of the best that there are, best first, (B, min(k, I))."""
    indices, padding = indices.masked_fill(values == -torch.inf, -1), (0, k - values.shape[1])
    return torch.nn.functional.pad(values, padding, value=-torch.inf), torch.nn.functional.pad(indices, padding, value=-1)


def _select_by_keys(scores, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    """On a GPU: torch's top-k, which breaks ties anyhow, of integer keys without ties that order as (score, -column) does."""
    scores = _masked(scores, seen_indptr, seen_indices, candidates)
    bits = (scores + 0.0).contiguous().view(torch.int32)  # + 0.0 makes 0.0 of -0.0, its equal
    keys = (bits ^ (bits >> 31 & 0x7FFFFFFF)).long() << 32  # negative floats descend as integers
    keys |= torch.arange(scores.shape[1] - 1, -1, -1, device=scores.device)
    indices = keys.topk(min(k, scores.shape[1])).indices
    return _padded(scores.gather(1, indices), indices, k)


def _select_topk_reference(scores, k, seen_indptr, seen_indices, candidates):  # type: ignore[no-untyped-def]
    scores = _masked(scores, seen_indptr, seen_indices, candidates)
    width = min(k, scores.shape[1])
    # A stable sort is the only torch primitive that promises the order of equal scores.
    values, indices = torch.sort(scores, dim=1, descending=True, stable=True)
    return _padded(values[:, :width].contiguous(), indices[:, :width].contiguous(), k)
