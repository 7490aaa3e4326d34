"""Checks of what operators are given: tensors, numbers and integers, constants, indices in range and without repeats, CSR arrays."""

from __future__ import annotations

import math
from numbers import Real
from operator import index as whole
from reprlib import repr as short
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


def check_shaped(where: str, name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Make sure that a value is a tensor of a shape and dtype.

    Raises:
        TypeError: it is no tensor; the message names it.
        ValueError: it is another tensor; the message names it.
    """
    check_tensor(where, name, value)
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise ValueError(f"{where}: {name} must be {dtype} {shape}, got {value.dtype} {tuple(value.shape)}")


def check_numbers(where: str, mend: str, **values: Any) -> None:
    """Make sure that factors are finite numbers and, as `check_constant` does, that none asks for a gradient.

    A tensor of one entry is a number too; its value is not looked at, which may mean to wait for a GPU.

    Raises:
        TypeError: a value is no number; the message names it.
        ValueError: a value is not finite, or requires a gradient; the message names it.
    """
    check_constant(where, mend, **values)
    if torch.compiler.is_compiling():
        return  # a compiled graph cannot branch on values
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() == 1 or isinstance(value, torch.SymInt | torch.SymFloat):
            continue
        if not isinstance(value, Real):
            raise TypeError(f"{where}: {name} must be a number, got {short(value)}; make one with float()")
        if not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be finite, got {value}; look for a division by 0 where it is computed")


def check_integer(where: str, name: str, value: Any, low: float = -math.inf, high: float = 2**63 - 1) -> int:
    """Make sure that a value is an integer from `low` to `high`, and return it as Python's.

    Raises:
        TypeError: it is no integer; the message names it.
        ValueError: it is out of range; the message names it.
    """
    if torch.compiler.is_compiling() or isinstance(value, torch.SymInt):
        return value
    try:
        number = whole(value)
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer, got {short(value)}; give a whole number") from None
    if not low <= number <= high:
        bound = f"at least {low}" if number < low else f"at most {high}"
        raise ValueError(f"{where}: {name} must be {bound}, got {number}")
    return number


def signed_seed(where: str, seed: Any) -> int:
    """The last 64 bits of an integer as a signed number, which is what operators take.

    Raises:
        TypeError: the seed is no integer.
    """
    seed = check_integer(where, "seed", seed, high=math.inf)
    return seed if torch.compiler.is_compiling() else (seed + 2**63) % 2**64 - 2**63


def check_constant(where: str, mend: str, **values: Any) -> None:
    """Make sure that what an operator has no gradient by does not ask for one: it would never learn, without a word.

    Raises:
        ValueError: a value requires a gradient while gradients are recorded; the message names it and the mend.
    """
    for name, value in values.items():
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{where}: {name} is a constant and gets no gradient, got one that requires it; {mend}")


def first_fall(indptr: Tensor, indices: Tensor, start: int = 0) -> tuple[int, int] | None:
    """The first row of a CSR pattern in which an index is below the one before, and where it is; None where all rows ascend.

    Args:
        indptr, indices: with the row bounds, ascending, in 0..n; indices (n,) of which those from `start` on are looked at.
    """
    falls = (indices[start + 1 :] < indices[start:-1]).nonzero()[:, 0] + (start + 1)  # where a row may start, but not go on
    starts = torch.searchsorted(indptr, falls)
    inside = indptr[starts] != falls
    if not bool(inside.any()):
        return None
    return int(starts[inside][0]) - 1, int(falls[inside][0])


def check_csr(prefix: str, indptr: Tensor, indices: Tensor, num_columns: int) -> None:
    """Look at every value of a relation's arrays once: kernels do not, and search rows as if they ascended.

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
    fall = first_fall(indptr, indices)
    if fall is not None:
        row, edge = fall
        raise ValueError(
            f"Relation: {prefix}indices must ascend within a row, got {int(indices[edge - 1])} before {int(indices[edge])} in row "
            f"{row}; build it with Relation.from_coo"
        )


def check_counts(prefix: str, indices: Tensor, t_indptr: Tensor) -> None:
    """Make sure that one form of a relation has as many edges of each node as the other says; the edges are not compared.

    Raises:
        ValueError: it has not; the message names a node.
    """
    stated = t_indptr.diff()
    counts = torch.bincount(indices, minlength=len(stated))
    if not torch.equal(counts, stated):
        node = int((counts != stated).nonzero()[0])
        raise ValueError(
            f"Relation: both forms must have the same edges, got {int(counts[node])} of {node} in {prefix}indices and "
            f"{int(stated[node])} by the other form; build it with Relation.from_coo"
        )


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
