"""Time the dense products of the graph filter by torch's and by NumPy's BLAS, which differ by processor.

    python examples/benchmarks/products.py [--items 40981] [--rank 1056] [--users 780] [--json]

Prints the rate of each in billions of float operations a second, counted as a plain product's: NumPy takes half of them for
X^T X. `graphrec.models.dense` goes by this.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from graphrec.models.dense import product

REPEATS = 3


def main() -> None:
    """Parse the command line, time, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=40981, help="rows of X (default Gowalla's items, 40981)")
    parser.add_argument("--rank", type=int, default=1056, help="columns of X (default 1056)")
    parser.add_argument("--users", type=int, default=780, help="users scored at a time (default 780)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    x, square = torch.randn(options.items, options.rank), torch.randn(options.rank, options.rank)
    users = torch.randn(options.users, options.rank)
    exact = x.double()
    cases = {"X^T X": (x.T, x), "X^T X, float64": (exact.T, exact), "X R": (x, square), "U X^T": (users, x.T)}
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, (a, b) in cases.items():
        work = 2 * a.shape[0] * a.shape[1] * b.shape[1] / 1e9
        rates = {"torch": work / seconds(partial(torch.mm, a, b)), "numpy": work / seconds(partial(product, a, b))}
        result[name] = rates | {"ratio": rates["numpy"] / rates["torch"]}
        if not options.json:
            print(f"{name:16} torch {rates['torch']:7.1f}   numpy {rates['numpy']:7.1f} GFLOP/s   {result[name]['ratio']:.2f}x")
    if options.json:
        print(json.dumps(result))


def seconds(call: Callable[[], Any]) -> float:
    """The fastest of a few calls after a first."""
    call()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


if __name__ == "__main__":
    main()
