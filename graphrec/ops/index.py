"""Checks of what operators point and weigh with: indices in range and without repeats, CSR arrays, constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def check_index(where: str, name: str, index: Tensor, size: int, wait: bool = True) -> None:
    """Make sure that an index is int64 (n,) with values below `size`; without `wait` those on a GPU are not looked at.

    Raises:
        ValueError: it is not; the message names it.
    """
    check_tensor(where, name, index)
    if index.dtype != torch.int64 or index.ndim != 1:
        mend = "take mask.nonzero()[:, 0] of a mask" if index.dtype == torch.bool else "use .long() and .reshape(-1)"
        raise ValueError(f"{where}: {name} must be int64 (n,), got {index.dtype} {tuple(index.shape)}; {mend}")
    if len(index) and (wait or index.device.type == "cpu"):
        [(low, high)] = bounds_of(index)
        if low < 0 or high >= size:
            mend = f"give places among the {size} that there are, counted from 0, and not original ids"
            raise ValueError(f"{where}: {name} must be in 0..{size - 1}, got {low}..{high}; {mend}")


def check_tensor(where: str, name: str, value: Any) -> None:
    """Make sure that a value is a tensor.

    Raises:
        TypeError: it is not; the message names it.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{where}: {name} must be a tensor, got {type(value).__name__}; make one with torch.as_tensor")


def check_constant(where: str, mend: str, **values: Any) -> None:
    """Make sure that what an operator has no gradient by does not ask for one: it would never learn, without a word.

    Raises:
        ValueError: a value requires a gradient while gradients are recorded; the message names it and the mend.
    """
    for name, value in values.items():
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{where}: {name} is a constant and gets no gradient, got one that requires it; {mend}")


def check_csr(prefix: str, indptr: Tensor, indices: Tensor, num_columns: int) -> None:
    """Look at every value of a relation's arrays once: kernels do not.

    Raises:
        ValueError: one does not fit.
    """
    ends = int(indptr[0]), int(indptr[-1])
    if ends != (0, len(indices)) or (len(indptr) > 1 and int(indptr.diff().min()) < 0):
        raise ValueError(
            f"Relation: {prefix}indptr must ascend from 0 to {len(indices)}, the number of edges, got {ends[0]} to {ends[1]}"
            + ("; it descends in between" if ends == (0, len(indices)) else "")
        )
    if len(indices):
        [(low, high)] = bounds_of(indices)
        if low < 0 or high >= num_columns:
            raise ValueError(f"Relation: {prefix}indices must be in 0..{num_columns - 1}, got {low}..{high}")


def bounds_of(*indices: Tensor) -> list[tuple[int, int]]:
    """The smallest and the largest value of each index, of any shape and not empty, with one wait for the device."""
    bounds = torch.stack([bound for index in indices for bound in index.aminmax()]).tolist()
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def check_distinct(where: str, name: str, index: Tensor, size: int, wait: bool) -> None:
    """Make sure that a checked index has no value twice, of which a gradient would reach one place only.

    Raises:
        ValueError: it has; the message names it.
    """
    if len(index) < 2 or not (wait or index.device.type == "cpu"):
        return
    if 64 * len(index) < size:  # the shorter way
        count = len(index.unique())
    else:
        count = int(torch.zeros(size, dtype=torch.bool, device=index.device).index_fill_(0, index, True).sum())
    if count < len(index):
        value, times = index.unique(return_counts=True)
        raise ValueError(f"{where}: {name} must be distinct, got {int(value[times.argmax()])} {int(times.max())} times; use unique()")
