"""Closed-form projections of features to fewer columns, fitted on the nodes of the graph, which are of the training side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["none", "pca", "whiten", "random"]

_NEGLIGIBLE = 1e-4  # share of the largest standard deviation below which a direction is noise, not to be blown up


def given(array: np.ndarray) -> np.ndarray:
    """Return which rows (n, F) hold a value, bool (n,): a row of zeros stands for a node without the feature."""
    return array.any(axis=1)


@dataclass(frozen=True)
class Projection:
    """y = (x - mean) matrix, for the rows that are given; rows of zeros stay zeros.

    Attributes:
        mean: float32 (F,).
        matrix: float32 (F, d), scaled so that the fitted rows have a mean square of one per column.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Project float32 (n, F) to (n, d)."""
        if array.shape[1] != len(self.mean):
            raise ValueError(f"Projection: rows must have {len(self.mean)} columns, got {array.shape[1]}")
        return ((array - self.mean) @ self.matrix * given(array)[:, None]).astype(np.float32)


def fit_projection(array: np.ndarray, kind: Kind, dim: int, seed: int = 0) -> Projection:
    """Fit a projection on the given rows of a feature.

    "none" centres and scales; "pca" keeps the d directions of largest variance; "whiten" scales these to equal variance;
    "random" multiplies by a Gaussian matrix, which keeps distances approximately and fits nothing but the mean.

    Args:
        array: float32 (n, F).
        kind: as above.
        dim: d, lowered to F, and for pca and whiten to the number of directions that vary. Not used by "none".
        seed: of "random".

    Returns:
        The projection; all kinds give a mean square of one over all entries of the fitted rows.

    Raises:
        ValueError: no row is given, or `dim` is below one.

    Source: random projection by Johnson and Lindenstrauss (1984); that whitening suits sentence embeddings: Su et al. (2021),
        arXiv:2103.15316.
    """
    rows = array[given(array)].astype(np.float64)
    if not len(rows) or dim < 1:
        raise ValueError(f"fit_projection needs a row that is given and dim >= 1, got {len(rows)} rows and dim = {dim}")
    mean = rows.mean(axis=0)
    centred = rows - mean
    width = array.shape[1]
    if kind == "none":
        matrix = np.eye(width)
    elif kind == "random":
        generator = np.random.default_rng(seed)
        matrix = generator.standard_normal((width, min(dim, width)))
    else:
        variances, directions = np.linalg.eigh(centred.T @ centred / len(rows))
        deviations, directions = np.sqrt(np.maximum(variances[::-1], 0)), directions[:, ::-1]
        keep = max(1, min(dim, int((deviations > _NEGLIGIBLE * max(deviations[0], 1e-30)).sum())))
        matrix = directions[:, :keep]
        matrix = matrix * np.where(matrix[np.abs(matrix).argmax(axis=0), np.arange(keep)] < 0, -1.0, 1.0)
        if kind == "whiten":
            matrix = matrix / np.maximum(deviations[:keep], 1e-30)
    size = float(np.sqrt(np.mean((centred @ matrix) ** 2)))
    return Projection(mean.astype(np.float32), (matrix / max(size, 1e-30)).astype(np.float32))
