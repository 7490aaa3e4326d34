"""Keeping freed memory in the process while a model trains.

Every step frees and allocates gradients as large as the embedding tables. The C library gives blocks of that size back to the
system at once, and the system clears each page again before the next step may write it, which costs a fifth of a step.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of mallopt's parameters in glibc's malloc.h
_DEFAULT_TRIM, _DEFAULT_MMAPS = 128 * 1024, 65536


@contextmanager
def kept_memory() -> Iterator[None]:
    """Reuse freed blocks of any size; at the end give them back. Does nothing where the C library is not glibc."""
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _DEFAULT_MMAPS)
        library.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM)
        library.malloc_trim(ctypes.c_size_t(0))
