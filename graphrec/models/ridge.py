"""Ridge regression in closed form, its penalty chosen by leave-one-out: from what is known of a node to its trained vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_PENALTIES = 10.0 ** np.arange(-4, 4)  # relative to the mean variance of a column


@dataclass(frozen=True)
class Ridge:
    """y = x weight + bias.

    Attributes:
        weight: float32 (F, D).
        bias: float32 (D,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Map float32 (n, F) to (n, D)."""
        return (x @ self.weight + self.bias).astype(np.float32)


def fit_ridge(x: np.ndarray, y: np.ndarray) -> Ridge:
    """Minimise |y - x W - b|^2 + penalty |W|^2 with the columns of x scaled to equal variance and b not penalised.

    The penalty is the one of a decimal grid with the least squared error of leaving out one row at a time, which the hat
    matrix gives without refitting: e_i / (1 - h_ii).

    Args:
        x: float32 (n, F), n at least 1.
        y: float32 (n, D).

    Returns:
        The regression on x as it is, not scaled.

    Source: Golub, Heath and Wahba (1979), "Generalized cross-validation"; the leave-one-out identity is Allen's PRESS (1974). For
        vectors of new items from their attributes: Gantner et al. (2010), "Learning attribute-to-feature mappings for
        cold-start recommendations".
    """
    if len(x) != len(y) or not len(x):
        raise ValueError(f"fit_ridge needs as many rows of x as of y and at least one, got {len(x)} and {len(y)}")
    mean_x, mean_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    centred, target = x - mean_x, y - mean_y
    scale = centred.std(axis=0)
    scale = np.where(scale > 1e-8 * max(float(scale.max()), 1e-30), scale, np.inf)
    centred = centred / scale
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    values = np.maximum(values, 0)
    rotated = centred @ vectors  # (n, F)
    moments = rotated.T @ target / len(x)  # (F, D)
    best, chosen = np.inf, None
    for penalty in _PENALTIES * max(float(values.mean()), 1e-30):
        shrunk = moments / (values + penalty)[:, None]
        leverage = (rotated**2 / (values + penalty)).sum(axis=1) / len(x) + 1 / len(x)
        errors = (target - rotated @ shrunk) / np.maximum(1 - leverage, 1e-3)[:, None]
        error = float(np.mean(errors**2))
        if error < best:
            best, chosen = error, shrunk
    weight = (vectors @ chosen) / scale[:, None]
    return Ridge(weight.astype(np.float32), (mean_y - mean_x @ weight).astype(np.float32))
