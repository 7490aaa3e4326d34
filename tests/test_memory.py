from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphrec.memory import _left_in_groups, available_memory, kept_memory, ran_out

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


def test_memory_that_may_be_taken_is_below_what_the_machine_has_and_within_the_limit_of_the_process():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < available_memory() < total
    script = """
import resource
from pathlib import Path
from graphrec.memory import available_memory
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (50 << 20),) * 2)
print(available_memory())
"""
    left = int(subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE).stdout)
    assert 0 < left <= 50 << 20


def test_control_groups_around_the_process_count_and_their_cache_gives_way(tmp_path):
    own, inner = tmp_path / "cgroup", tmp_path / "fs" / "outer" / "inner"
    inner.mkdir(parents=True)
    own.write_text("0::/outer/inner\n")
    for folder, limit, used in ((inner, "max", 10), (inner.parent, "1000", 700)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 100\n")
    assert _left_in_groups(tmp_path / "fs", own) == [400]
    assert _left_in_groups(tmp_path / "fs", tmp_path / "nowhere") == []


def test_problems_of_memory_are_told_from_others():
    with pytest.raises(RuntimeError) as torch_says:
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as numpy_says:
        np.empty(1 << 60, dtype=np.uint8)
    assert ran_out(torch_says.value) and ran_out(numpy_says.value)
    assert not ran_out(RuntimeError("shapes differ")) and not ran_out(ValueError("tried to allocate"))
