"""Every CPU variant that this processor runs, and the reference; fresh memory holds NaN."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from graphrec import _kernels, ops

VARIANTS = ["avx512", "avx2", "generic"]


def swap_to(name: str):
    """A context in which CPU tensors run on one variant; skips where it cannot."""
    library = _kernels.library()
    runnable = [] if library is None or library.variant is None else VARIANTS[VARIANTS.index(library.variant) :]
    if name not in runnable:
        pytest.skip(f"{name} is not built, or this processor lacks it; it runs {runnable}")
    return _kernels.replaced(None, "cpu", name)


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Run the test on one native variant."""
    with swap_to(request.param):
        assert ops.backend() == f"native-{request.param}"
        yield request.param


@pytest.fixture(params=[*VARIANTS, "reference"])
def implementation(request, monkeypatch):
    """Run the test on one native variant or on the reference."""
    if request.param == "reference":
        monkeypatch.setattr(_kernels, "library", lambda device_type="cpu": None)
    with nullcontext() if request.param == "reference" else swap_to(request.param):
        assert ops.backend().endswith(request.param)
        yield request.param


@pytest.fixture(autouse=True)
def poisoned():
    """Fresh memory holds NaN, so that an output left unwritten shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
