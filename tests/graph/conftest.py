from __future__ import annotations

import pytest

from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from tests.graph.small import shop_log


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> GraphStore:
    """A store of the shop log. Do not change it; tests that damage a store build their own."""
    return build(shop_log(), tmp_path_factory.mktemp("stores") / "shop", target_behavior="buy")
