"""Checks of what points into a table: indices in range, and without repeats."""

from __future__ import annotations

import torch
from torch import Tensor


def check_index(where: str, name: str, index: Tensor, size: int, wait: bool = True) -> None:
    """Make sure that an index is int64 (n,) with values below `size`; without `wait` those on a GPU are not looked at.

    Raises:
        ValueError: it is not; the message names it.
    """
    if index.dtype != torch.int64 or index.ndim != 1:
        raise ValueError(f"{where}: {name} must be int64 (n,), got {index.dtype} {tuple(index.shape)}")
    if len(index) and (wait or index.device.type == "cpu"):
        [(low, high)] = bounds_of(index)
        if low < 0 or high >= size:
            raise ValueError(f"{where}: {name} must be in 0..{size - 1}, got {low}..{high}")


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
