"""Loads the native kernel libraries through ctypes and calls their operators. Only `graphrec.ops` imports this module.

The libraries have a plain C interface (`kernels/include/graphrec_kernels.h`), so they work with any torch version. They
must be loaded after torch, so that both share one OpenMP runtime and do not fight over the cores.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch._subclasses.fake_tensor import FakeTensor

ABI_VERSION = 4
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_ERRORS = {
    -1: "the operator does not take this dtype",
    -2: "a size is out of range",
    -3: "an option is out of range",
    -4: "the CUDA device refused the launch",
}


class Library:
    """One loaded library and how its operators are named.

    Args:
        path: the shared object.
        kind: "cpu" takes a number of threads as last argument, "cuda" a stream.
        variant: instruction set of the CPU library, "avx512", "avx2" or "generic"; None for the best of this processor.

    Raises:
        ImportError: it was built for another interface version.
    """

    def __init__(self, path: Path, kind: Literal["cpu", "cuda"], variant: str | None = None) -> None:
        self.kind = kind
        self._loaded = ctypes.CDLL(str(path))
        version = self._loaded.graphrec_abi_version()
        if version != ABI_VERSION:
            raise ImportError(f"{path.name} has interface version {version}, graphrec needs {ABI_VERSION}; reinstall graphrec")
        if kind == "cpu" and variant is None:
            self._loaded.graphrec_cpu_variant.restype = ctypes.c_char_p
            variant = self._loaded.graphrec_cpu_variant().decode()
        self.variant = variant

    def call(self, name: str, arguments: tuple[Any, ...], device: torch.device) -> None:
        """Call an operator; tensors go as addresses, integers as int64, floats as double.

        Raises:
            ValueError: a tensor is not on `device`, or the operator refused its arguments.
        """
        on_gpu = device.type == "cuda"  # not so for the emulated library, which runs on host memory
        if self.kind == "cpu":
            function = getattr(self._loaded, f"graphrec_cpu_{name}_{self.variant}")
            last: Any = ctypes.c_int64(torch.get_num_threads())
        else:
            function = getattr(self._loaded, f"graphrec_cuda_{name}")
            last = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream if on_gpu else None)
        converted = [_argument(name, value, device) for value in arguments]
        with torch.cuda.device(device) if on_gpu else nullcontext():  # the kernel starts on the current device
            status = function(*converted, last)
        if status:
            raise ValueError(f"{name}: {_ERRORS.get(status, f'native error {status}')}")


_replaced: dict[str, Library] = {}
"""By device type: libraries that stand in for the installed ones, see `replaced`."""


def library(device_type: str = "cpu") -> Library | None:
    """Return the library for a device type, or None where it was not built and the reference runs.

    The environment variable `GRAPHREC_BACKEND=reference` hides the libraries; `GRAPHREC_BACKEND=native` makes the absence of
    one an error. `GRAPHREC_LIBRARIES=folder` loads them from another folder, a sanitizer build for instance. Both are read at
    the first call.

    Raises:
        ImportError: the library was asked for and is missing, or it was built for another interface version.
    """
    return _replaced.get(device_type) or _installed(device_type)


@lru_cache(maxsize=2)
def _installed(device_type: str) -> Library | None:
    wish = _wish()
    path = _folder() / f"libgraphrec_{device_type}.so"
    if wish == "reference" or device_type not in ("cpu", "cuda") or (wish == "auto" and not path.is_file()):
        return None
    if not path.is_file():
        compiler = "a C++ compiler" if device_type == "cpu" else "the CUDA compiler nvcc"
        raise ImportError(f"GRAPHREC_BACKEND=native, but {path.name} was not built; install {compiler} and reinstall graphrec")
    return Library(path, "cpu" if device_type == "cpu" else "cuda")


@lru_cache(maxsize=1)
def _wish() -> str:
    wish = os.environ.get("GRAPHREC_BACKEND", "auto")
    if wish not in ("auto", "native", "reference"):
        raise ImportError(f"GRAPHREC_BACKEND must be auto, native or reference, got {wish!r}")
    return wish


def _folder() -> Path:
    return Path(os.environ.get("GRAPHREC_LIBRARIES") or Path(__file__).parent / "_native")


@contextmanager
def replaced(path: Path | None, kind: Literal["cpu", "cuda"] = "cpu", variant: str | None = None) -> Iterator[Library]:
    """Run CPU tensors on another library for a while: another variant, or the CUDA source built for the host.

    Args:
        path: the library; None for the installed CPU library.
        kind, variant: as `Library` takes them.
    """
    before = _replaced.get("cpu")
    _replaced["cpu"] = Library(path or _folder() / "libgraphrec_cpu.so", kind, variant)
    try:
        yield _replaced["cpu"]
    finally:
        if before is None:
            del _replaced["cpu"]
        else:
            _replaced["cpu"] = before


def kind(x: torch.Tensor) -> Literal["cpu", "cuda"] | None:
    """Which kind of library takes tensors like `x`; None when the reference does, as for every dtype but those of `DTYPES`.

    Raises:
        ValueError: no library takes the dtype, and `GRAPHREC_BACKEND=native` asks for one.
    """
    if x.dtype not in DTYPES:
        if _wish() == "native":
            known = ", ".join(map(str, DTYPES))
            raise ValueError(f"GRAPHREC_BACKEND=native, but the kernels take {known}, got {x.dtype}; convert it, or unset the variable")
        return None
    found = library(x.device.type)
    return None if found is None else found.kind


def call(name: str, like: torch.Tensor, *arguments: Any) -> None:
    """Call the operator `name` of the library for `like`'s device; the arguments are already checked and contiguous."""
    library(like.device.type).call(name, arguments, like.device)


def address(name: str, value: torch.Tensor, device: torch.device) -> int:
    """Where a tensor's entries lie, for the operator `name` that runs on `device`.

    Raises:
        ValueError: they lie on another device.
        TypeError: they lie nowhere.
    """
    if value.device != device:
        raise ValueError(
            f"{name}: all tensors must be on {device}, got one of {value.dtype} {tuple(value.shape)} on {value.device}; move it with .to()"
        )
    if isinstance(value, FakeTensor):
        raise TypeError(
            f"{name}: takes tensors with entries, got a FakeTensor of {value.dtype} {tuple(value.shape)}; call it outside of "
            "FakeTensorMode, or call an operator of torch.ops.graphrec, which has a fake"
        )
    return value.data_ptr()


def _argument(name: str, value: Any, device: torch.device) -> Any:
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(address(name, value, device))
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)
