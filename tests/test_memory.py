from __future__ import annotations

import ctypes
import resource

import pytest
import torch

from graphrec.memory import kept_memory

SIZE = 96 << 20  # bytes, above what the C library ever keeps by itself


def faults(steps: int = 10, size: int = SIZE) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.empty(size, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_freed_blocks_are_reused_inside_and_given_back_after():
    with kept_memory():
        faults(10)  # alignment makes the first blocks of a size differ
        kept = faults()
    assert kept < faults() / 2  # a small block that takes its place in a freed one can make one block more be needed


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_the_inner_of_two_leaves_memory_kept():
    with kept_memory():
        with kept_memory():
            pass
        faults(10)
        kept = faults()
    assert kept < faults() / 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_afterwards_blocks_that_the_library_would_keep_by_itself_are_kept():
    with kept_memory():
        pass
    faults(10, SIZE // 6)
    assert faults(size=SIZE // 6) < 5 * SIZE // 6 // 4096  # of ten times as many pages
