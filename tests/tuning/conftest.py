"""The checkerboard with a validation split, and one without."""

from __future__ import annotations

import pytest

from graphrec.graph.store import GraphStore
from tests.training.conftest import checkerboard, make_store


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    return make_store(tmp_path_factory.mktemp("stores") / "board", checkerboard())


@pytest.fixture(scope="session")
def no_valid(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    rows = [(user, item, "train" if side == "valid" else side) for user, item, side in checkerboard()]
    return make_store(tmp_path_factory.mktemp("stores") / "no-valid", rows)
