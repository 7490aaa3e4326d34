"""Dense products of the closed-form models, by NumPy's BLAS.

NumPy brings OpenBLAS, torch brings MKL, which reaches two thirds of OpenBLAS' rate on AMD processors without AVX-512; and NumPy
takes the half of X^T X that suffices. `examples/benchmarks/products.py` measures both.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import lapack

_MIRRORED_AT_ONCE = 2048  # rows, so that both sides of the diagonal are read in whole cache lines


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return a b for a (M, K) and b (K, N) of one type on the CPU, written to `out` (M, N) if it is given."""
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy(), out=None if out is None else out.numpy()))


def eigen(symmetric: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the eigenvalues (N,), ascending, and eigenvectors (N, N) of a symmetric matrix (N, N) on the CPU."""
    values, vectors = np.linalg.eigh(symmetric.numpy())
    return torch.from_numpy(values), torch.from_numpy(vectors)


def inverse(symmetric: np.ndarray) -> np.ndarray:
    """Invert a positive definite float32 matrix (N, N) in its own memory.

    Args:
        symmetric: in rows or in columns one after the other; overwritten.

    Returns:
        The inverse (N, N), in the memory of `symmetric`.

    Raises:
        np.linalg.LinAlgError: it is not positive definite, as far as float32 can tell.
    """
    columns = symmetric if symmetric.flags.f_contiguous else symmetric.T  # either way it is the same matrix
    columns, failed = lapack.spotrf(columns, lower=True, clean=False, overwrite_a=True)
    if not failed:
        columns, failed = lapack.spotri(columns, lower=True, overwrite_c=True)
    if failed:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    for start in range(0, len(columns), _MIRRORED_AT_ONCE):
        block = slice(start, start + _MIRRORED_AT_ONCE)
        rest = slice(block.stop, None)
        corner = columns[block, block]
        columns[block, block] = np.tril(corner) + np.tril(corner, -1).T
        columns[block, rest] = columns[rest, block].T
    return columns.T
