"""Two cliques: who belongs to which is obvious, and so is which links are missing."""

from __future__ import annotations

import numpy as np
import pytest

from graphrec.graph.links import split_links
from graphrec.logs.link_graph import LinkGraph

SIZE = 20


def cliques() -> np.ndarray:
    """All edges within nodes 0..19 and within 20..39."""
    rows, columns = np.triu_indices(SIZE, 1)
    one = np.stack([rows, columns], axis=1)
    return np.concatenate([one, one + SIZE])


@pytest.fixture(scope="session")
def graph() -> LinkGraph:
    return split_links(cliques(), 2 * SIZE, valid_share=0.1, test_share=0.2, seed=3)
