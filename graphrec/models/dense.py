"""Dense products of the closed-form models, by NumPy's BLAS.

NumPy brings OpenBLAS, torch brings MKL, which reaches two thirds of OpenBLAS' rate on AMD processors without AVX-512; and NumPy
takes the half of X^T X that suffices. `examples/benchmarks/products.py` measures both.
"""

from __future__ import annotations

import numpy as np
import torch


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return a b for a (M, K) and b (K, N) of one type on the CPU, written to `out` (M, N) if it is given."""
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy(), out=None if out is None else out.numpy()))


def eigen(symmetric: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the eigenvalues (N,), ascending, and eigenvectors (N, N) of a symmetric matrix (N, N) on the CPU."""
    values, vectors = np.linalg.eigh(symmetric.numpy())
    return torch.from_numpy(values), torch.from_numpy(vectors)
