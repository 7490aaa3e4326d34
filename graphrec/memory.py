"""Keeping freed memory in the process while a model is trained, fitted or evaluated.

Every step frees and allocates gradients as large as the embedding tables, and every block of users a block of scores. The C
library gives memory of that size back to the system at once, and the system clears each page again before the next step may
write it, which costs a fifth of a step of training.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names of mallopt's parameters in glibc's malloc.h
_DEFAULT_MMAPS = 65536
# Left alone, the library raises its thresholds as large blocks come and go, up to these; once told anything, it no longer does,
# and every block above 128 KB would be unmapped when freed for the rest of the process.
_LARGEST_MMAP, _LARGEST_TRIM = 32 << 20, 64 << 20
_lock = threading.Lock()
_inside = 0  # how many callers are inside


@contextmanager
def kept_memory() -> Iterator[None]:
    """Reuse freed blocks of any size; the last to leave gives them back. Does nothing where the C library is not glibc."""
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
        yield
        return
    _count(1, library)
    try:
        yield
    finally:
        _count(-1, library)


def _count(change: int, library: ctypes.CDLL) -> None:
    global _inside
    with _lock:
        before, _inside = _inside, _inside + change
        if before == 0:
            library.mallopt(_MMAP_MAX, 0)
            library.mallopt(_TRIM_THRESHOLD, -1)
        elif _inside == 0:
            library.mallopt(_MMAP_MAX, _DEFAULT_MMAPS)
            library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
            library.mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM)
            library.malloc_trim(ctypes.c_size_t(0))
