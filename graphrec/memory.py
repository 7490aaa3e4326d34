"""Memory: keeping what is freed in the process while a model is trained, fitted or evaluated, how much there is, and whether it ran out.

Every step frees and allocates gradients as large as the embedding tables, and every block of users a block of scores. The C
library gives memory of that size back to the system at once, and the system clears each page again before the next step may
write it, which costs a fifth of a step of training.
"""

from __future__ import annotations

import ctypes
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names of mallopt's parameters in glibc's malloc.h
_DEFAULT_MMAPS = 65536
# Left alone, the library raises its thresholds as large blocks come and go, up to these; once told anything, it no longer does,
# and every block above 128 KB would be unmapped when freed for the rest of the process.
_LARGEST_MMAP, _LARGEST_TRIM = 32 << 20, 64 << 20
_NO_MEMORY = ("can't allocate memory", "tried to allocate")  # in torch's words, which come as a plain RuntimeError
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


def available_memory() -> int | None:
    """Return how many bytes this process may still take, or None where the system does not say.

    The least of what the machine has free, what is left of the control groups the process is in, and of its limit of address space.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return None
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        free.append(limit - pages * resource.getpagesize())
    return max(0, min([*free, *_left_in_groups(Path("/sys/fs/cgroup"))])) if free else None


def _left_in_groups(root: Path, own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """The bytes left in each control group (version 2) with a limit, from the process's own outwards."""
    try:
        [name] = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    except (OSError, ValueError):
        return []
    folder, left = root / name.strip("/"), []
    for group in (folder, *folder.parents):
        try:
            limit, used = ((group / f"memory.{key}").read_text().strip() for key in ("max", "current"))
            cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":
            left.append(int(limit) - int(used) + int(cache.get("inactive_file", 0)))  # cache gives way
    return left


def ran_out(problem: BaseException) -> bool:
    """Tell whether an exception says that memory, of the machine or of a GPU, could not be had."""
    words = str(problem).lower()
    return isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and any(word in words for word in _NO_MEMORY)
    )
