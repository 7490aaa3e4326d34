"""Every CPU variant that this processor runs, and the reference."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest

from graphrec import _kernels, ops

VARIANTS = ["avx512", "avx2", "generic"]


def runnable_variants() -> list[str]:
    """The variants of the installed library that this processor can run, best first; none without a library."""
    library = _kernels.library()
    return [] if library is None or library.variant is None else VARIANTS[VARIANTS.index(library.variant) :]


@pytest.fixture(params=[*VARIANTS, "reference"])
def implementation(request, monkeypatch):
    """Run the test on one implementation of the CPU operators."""
    if request.param == "reference":
        monkeypatch.setattr(_kernels, "library", lambda device_type="cpu": None)
        swap = nullcontext()
    elif request.param in runnable_variants():
        swap = _kernels.replaced(None, "cpu", request.param)
    else:
        pytest.skip(f"{request.param} is not built, or this processor lacks it (GRAPHREC_BACKEND={os.environ.get('GRAPHREC_BACKEND')})")
    with swap:
        assert ops.backend() == (request.param if request.param == "reference" else f"native-{request.param}")
        yield request.param
