"""Errors of predicted ratings, for models whose score estimates the weight of an interaction.

Shared arguments: `predicted` and `ratings`, float64 (nnz,), the model's score and the recorded weight of every test
interaction. Both metrics average over interactions, not over users, as the rating literature does; without test
interactions they are NaN. Order and ties play no part.
"""

from __future__ import annotations

import numpy as np


def rmse(predicted: np.ndarray, ratings: np.ndarray) -> float:
    """Root of the mean squared error: sqrt(mean((predicted - rating)^2))."""
    return float(np.sqrt(np.mean((predicted - ratings) ** 2))) if len(ratings) else float("nan")


def mae(predicted: np.ndarray, ratings: np.ndarray) -> float:
    """Mean absolute error: mean(|predicted - rating|)."""
    return float(np.mean(np.abs(predicted - ratings))) if len(ratings) else float("nan")


rmse.lower_is_better = mae.lower_is_better = True
