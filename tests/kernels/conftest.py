"""The CUDA kernels built for the host, and graphs that make them take every path."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops import Relation

ROOT = Path(__file__).resolve().parents[2]
ORDERS = (0, 1, 20240601)  # of the emulated threads: ascending, descending, random with this seed


def _load_build():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("graphrec_emulation_build", ROOT / "kernels" / "emulation" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Emulated:
    """An emulated library; `run` is how a test calls it."""

    path: Path

    def run(self, compute: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """Call `compute` on the library under every order of threads; the results must be equal bit for bit.

        Races are looked for under one order: whether two accesses are ordered does not depend on which came first.
        """
        results = [self.once(compute, order, races=order == ORDERS[0]) for order in ORDERS]
        for other in results[1:]:
            for one, two in zip(results[0], other, strict=True):
                assert torch.equal(one.view(torch.uint8), two.view(torch.uint8)), "the order of threads shows in the result"
        return results[0]

    def once(self, compute: Callable[[], Sequence[Tensor]], order: int, races: bool = True) -> list[Tensor]:
        with _kernels.replaced(self.path, "cuda") as library:
            library._loaded.graphrec_emulation_order(order)
            library._loaded.graphrec_emulation_races(races)
            return [tensor.contiguous() for tensor in compute()]


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """Builds emulated libraries, see kernels/emulation/build.py."""
    module = _load_build()
    if module.compiler() is None:
        pytest.skip("no C++ compiler: the CUDA kernels cannot be emulated")
    return module.build


@pytest.fixture(scope="session")
def emulated(build) -> Emulated:
    return Emulated(build())


@pytest.fixture(scope="session")
def graph() -> Relation:
    """310 rows, 320 columns: rows 0 and 3 and column 7 have over 256 edges, rows from 300 and columns from 310 on none."""
    rng = np.random.default_rng(0)
    dst = [np.zeros(300, int), np.full(280, 3), np.arange(300), rng.integers(0, 300, 700)]
    src = [np.arange(300), np.arange(20, 300), np.full(300, 7), rng.integers(0, 310, 700)]
    return Relation.from_coo(np.concatenate(dst), np.concatenate(src), 310, 320)


@pytest.fixture(scope="session")
def no_edges() -> Relation:
    return Relation.from_coo([], [], 9, 5)


def unaligned(x: Tensor) -> Tensor:
    """The same values at an address that no vector access may use."""
    storage = x.new_empty(x.numel() + 1)
    return storage[1:].view(x.shape).copy_(x)


def poisoned(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An output that shows which entries were left out."""
    return torch.full(shape, torch.nan, dtype=dtype)


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """What sums in the dtype's sum type, rounded once, are allowed."""
    return {
        torch.float64: {"rtol": 1e-11, "atol": 1e-11},
        torch.float32: {"rtol": 2e-5, "atol": 2e-5},
        torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2},
    }[dtype]
