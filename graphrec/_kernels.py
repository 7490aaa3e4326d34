"""Loads the native kernel library through ctypes. Only `graphrec.ops` imports this module.

The library has a plain C interface (`kernels/include/graphrec_kernels.h`), so it works with any torch version. It
must be loaded after torch, so that both share one OpenMP runtime and do not fight over the cores.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch

ABI_VERSION = 1
_FOLDER = Path(__file__).parent / "_native"
_DTYPES = {torch.float32: 0, torch.float64: 1}
_ERRORS = {-1: "dtype is neither float32 nor float64", -2: "a size is out of range", -3: "an index is out of range"}

_int32, _int64, _double, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
_SPMM_ARGUMENTS = [_int32, _int64, _int64, *[_pointer] * 7, _double, _pointer, _double, _pointer, _int32]
_TOPK_ARGUMENTS = [_int64, _int64, _int64, _int64, *[_pointer] * 3, _int64, _pointer, _pointer, _int32]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the loaded CPU library, or None when graphrec was installed without a compiler.

    The environment variable `GRAPHREC_BACKEND=reference` hides the library; `GRAPHREC_BACKEND=native` makes its absence an
    error. It is read at the first call.

    Raises:
        ImportError: the library was asked for and is missing, or it was built for another interface version.
    """
    wish = os.environ.get("GRAPHREC_BACKEND", "auto")
    if wish not in ("auto", "native", "reference"):
        raise ImportError(f"GRAPHREC_BACKEND must be auto, native or reference, got {wish!r}")
    path = _FOLDER / "libgraphrec_cpu.so"
    if wish == "reference" or (wish == "auto" and not path.is_file()):
        return None
    if not path.is_file():
        raise ImportError(
            f"GRAPHREC_BACKEND=native, but {path.name} was not built; install a C++ compiler and reinstall graphrec"
        )
    loaded = ctypes.CDLL(str(path))
    version = loaded.graphrec_abi_version()
    if version != ABI_VERSION:
        raise ImportError(f"{path.name} has interface version {version}, graphrec needs {ABI_VERSION}; reinstall graphrec")
    loaded.graphrec_cpu_variant.restype = ctypes.c_char_p
    loaded.graphrec_cpu_spmm.argtypes = _SPMM_ARGUMENTS
    loaded.graphrec_cpu_topk.argtypes = _TOPK_ARGUMENTS
    return loaded


def supports(x: torch.Tensor) -> bool:
    """Whether the library is there and takes tensors like `x`."""
    return x.device.type == "cpu" and x.dtype in _DTYPES and library() is not None


def spmm(
    num_rows: int,
    indptr: torch.Tensor,
    indices: torch.Tensor,
    x: torch.Tensor,
    rows: torch.Tensor | None,
    positions: torch.Tensor | None,
    left: torch.Tensor | None,
    right: torch.Tensor | None,
    alpha: float,
    z: torch.Tensor | None,
    beta: float,
) -> torch.Tensor:
    """Call `graphrec_cpu_spmm`; the arguments are already checked and contiguous."""
    y = x.new_empty(num_rows, x.shape[1])
    if x.shape[1] and num_rows:
        status = library().graphrec_cpu_spmm(
            _DTYPES[x.dtype], num_rows, x.shape[1], _address(indptr), _address(indices), _address(rows), _address(positions),
            _address(x), _address(left), _address(right), alpha, _address(z), beta, _address(y), torch.get_num_threads(),
        )  # fmt: skip
        _check("spmm", status)
    return y


def topk(
    scores: torch.Tensor,
    first_column: int,
    excluded_indptr: torch.Tensor | None,
    excluded_indices: torch.Tensor | None,
    values: torch.Tensor,
    indices: torch.Tensor,
) -> None:
    """Call `graphrec_cpu_topk`, which merges the tile `scores` (B, C) into `values`, `indices` (B, k) in place."""
    status = library().graphrec_cpu_topk(
        scores.shape[0], scores.shape[1], first_column, scores.stride(0), _address(scores), _address(excluded_indptr),
        _address(excluded_indices), values.shape[1], _address(values), _address(indices), torch.get_num_threads(),
    )  # fmt: skip
    _check("topk", status)


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _check(name: str, status: int) -> None:
    if status:
        raise ValueError(f"{name}: {_ERRORS.get(status, f'native error {status}')}")
