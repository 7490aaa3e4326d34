"""How far the scores of a model spread, so that those of two can be added."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue

_USERS = 2000  # whose scores give the standard deviation; on Gowalla 82 million scores
_USERS_AT_ONCE = 64  # bounds the memory of that: a few MB


def sample_users(catalogue: Catalogue, seed: int) -> np.ndarray:
    """Draw up to 2,000 users with a training history, whose scores stand for all: int64, ascending."""
    return sample_rows(np.diff(catalogue.seen_indptr), seed)


def sample_rows(counts: np.ndarray, seed: int) -> np.ndarray:
    """Draw up to 2,000 of the rows with a count above 0: int64, ascending."""
    active = np.flatnonzero(counts)
    return np.sort(np.random.default_rng(seed).permutation(active)[:_USERS])


def spread(score: Callable[[np.ndarray], Tensor], users: np.ndarray) -> float:
    """Return the standard deviation of all scores of `users`, or 1 where there is none to speak of.

    Args:
        score: from users (B,) to scores (B, I); what it returns may be overwritten.
        users: int64, dense user indices.
    """
    count, total, squares, shift = 0, 0.0, 0.0, 0.0
    for start in range(0, len(users), _USERS_AT_ONCE):
        block = score(users[start : start + _USERS_AT_ONCE]).double()
        if not count:
            shift = float(block.mean())  # sums of what is near 0 lose no digits
        block -= shift
        count, total, squares = count + block.numel(), total + float(block.sum()), squares + float(block.square().sum())
    if not count:
        return 1.0
    deviation = max(0.0, squares / count - (total / count) ** 2) ** 0.5
    return deviation if deviation > np.finfo(np.float32).tiny else 1.0
