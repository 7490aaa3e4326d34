from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graphrec.memory import kept_memory

SIZE = 96 << 20  # bytes, above what the C library ever keeps by itself
PAGE = 4096

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc"
)


def use() -> None:
    torch.empty(SIZE, dtype=torch.uint8).fill_(1)


def pages_of_calm_call() -> int:
    """Pages that the system clears for a block, in the calmest of twenty calls: a small block now and then takes its place."""
    counts = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        use()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_freed_blocks_are_reused_inside_and_given_back_after():
    with kept_memory():
        assert pages_of_calm_call() < 200
        inside = resident()
    assert resident() < inside - SIZE // 2


def test_the_inner_of_two_leaves_memory_kept():
    with kept_memory():
        with kept_memory():
            use()
        before = resident()
        assert pages_of_calm_call() < 200
        assert resident() > before - SIZE // 2
    assert resident() < before - SIZE // 2


def test_afterwards_blocks_that_the_library_would_keep_by_itself_are_kept():
    script = """
import resource
import numpy as np
from graphrec.memory import kept_memory

with kept_memory():
    pass
counts = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(16 << 20, dtype=np.uint8).fill(1)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(counts))
"""
    assert int(subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE).stdout) < 200
