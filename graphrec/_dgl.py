"""The one place that imports DGL, and that knows what each released DGL needs to be imported at all.

Both supported releases ask for a backend at first import, print a line and write `~/.dgl/config.json` unless
`DGLBACKEND` is set before. dgl 2.1.0 also imports two things that graphrec never uses and that stop its import on a current
installation: graphbolt, which wants one exact torch release and a module that torchdata has removed, and pandas,
which it does not declare. Empty modules stand in for them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphrec.errors import UnsupportedError


def import_dgl() -> Any:
    """Import DGL with the PyTorch backend and return the module.

    Call it inside the function that needs DGL, never when a module is imported: it takes about two seconds.

    Raises:
        UnsupportedError: DGL is not installed, or this release of it cannot be imported here.
    """
    if "dgl" in sys.modules:
        return sys.modules["dgl"]
    os.environ["DGLBACKEND"] = "pytorch"
    try:
        version = importlib.metadata.version("dgl")
        with _stand_ins(version), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("dgl")
    except importlib.metadata.PackageNotFoundError:
        raise UnsupportedError("graphrec keeps graphs in DGL, which is not installed; run: pip install dgl") from None
    except (ImportError, OSError) as problem:
        raise UnsupportedError(
            f"DGL {version} cannot be imported on Python {sys.version.split()[0]}: {problem}; "
            "run `graphrec doctor` and reinstall with the versions in constraints.txt"
        ) from problem


@contextmanager
def _stand_ins(version: str) -> Iterator[None]:
    if int(version.split(".")[0]) < 2:
        yield
        return
    sys.modules["dgl.graphbolt"] = types.ModuleType("dgl.graphbolt")
    pandas_missing = "pandas" not in sys.modules and importlib.util.find_spec("pandas") is None
    if pandas_missing:
        sys.modules["pandas"] = types.ModuleType("pandas")
    try:
        yield
    finally:
        if pandas_missing:  # others test for pandas by importing it, so the stand-in must not stay
            del sys.modules["pandas"]
