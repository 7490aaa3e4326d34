"""What the machine reaches, for the shares of the tables of kernels; imported by the scripts that print them.

Both figures are of the fastest run of the fastest way that is tried here, so they are no more than bounds that something on this machine has
reached. A kernel may still pass 1: one whose data stays in a cache moves bytes faster than any large array, and no library's
product reaches what the processor can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch

RUNS = 7
SHAPES = (2048, 2048, 2048), (512, 512, 512), (4096, 256, 1024), (8192, 512, 512)


def bandwidth(megabytes: int = 256) -> float:
    """Bytes a second between memory and processor: the best of two copies, a product in place and a sum over large arrays.

    A copy counts what it reads and writes. Unless it writes past the caches, the processor also reads what is about to be
    overwritten, which is not counted; a product in place and a sum have no such traffic.
    """
    source = torch.ones(megabytes << 18)
    target = torch.ones_like(source)
    ways = [
        (2 * source.nbytes, partial(target.copy_, source)),
        (2 * source.nbytes, partial(np.copyto, target.numpy(), source.numpy())),
        (2 * source.nbytes, partial(target.mul_, 1.0)),
        (source.nbytes, source.sum),
    ]
    return best_rate(ways)


def operations() -> float:
    """Floating-point operations a second in float32: the best of torch's and NumPy's matrix products of several shapes."""
    ways = []
    for rows, inner, columns in SHAPES:
        a, b = torch.randn(rows, inner), torch.randn(inner, columns)
        work = 2 * rows * inner * columns
        ways += [(work, partial(torch.mm, a, b)), (work, partial(np.matmul, a.numpy(), b.numpy()))]
    return best_rate(ways)


def best_rate(ways: Iterable[tuple[float, Callable[[], Any]]]) -> float:
    """The most work a second of any run of any way; each way is its work and a call, and its first run does not count."""
    best = 0.0
    for work, run in ways:
        run()
        for _ in range(RUNS):
            start = time.perf_counter()
            run()
            best = max(best, work / (time.perf_counter() - start))
    return best
