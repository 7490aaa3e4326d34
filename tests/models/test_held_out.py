from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.models.held_out import held_out, hide, hide_blocks

PLACES, ITEMS_OF_ONE = 8, 10


def places() -> sp.csr_matrix:
    """300 users, each of whom has taken most of the items of two places of eight."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((300, PLACES, ITEMS_OF_ONE), np.float32)
    for user in range(300):
        matrix[user, rng.choice(PLACES, 2, replace=False)] = rng.random((2, ITEMS_OF_ONE)) < 0.9
    return sp.csr_matrix(matrix.reshape(300, -1))


@pytest.mark.parametrize("part", [hide, hide_blocks])
def test_hiding_parts_each_history(part):
    matrix = sp.csr_matrix(np.triu(np.ones((12, 12), np.float32)))  # rows of 12, 11, ..., 1 entries
    kept, hidden = part(matrix, 0.1, np.random.default_rng(0))
    assert (kept + hidden != matrix).nnz == 0
    assert kept.multiply(hidden).nnz == 0
    np.testing.assert_array_equal(np.diff(hidden.indptr), [1] * 10 + [0, 0])


def test_a_block_is_of_one_place():
    """The share of hidden items that are of the place which most of the user's are of; half of them would be the least."""
    matrix, found = places(), {}
    for part in (hide, hide_blocks):
        _, hidden = part(matrix, 0.3, np.random.default_rng(0))
        of_places = hidden.toarray().reshape(len(matrix.indptr) - 1, PLACES, ITEMS_OF_ONE).sum(axis=2)
        found[part] = of_places.max(axis=1).sum() / of_places.sum()
    assert found[hide_blocks] > found[hide] + 0.06


@pytest.mark.parametrize("how", ["random", "block"])
def test_a_seed_hides_the_same(how):
    matrix = places()
    first, again, other = (held_out(matrix, seed, how)[1].indices for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blocks_may_be_empty():
    empty = sp.csr_matrix((3, 4), dtype=np.float32)
    kept, hidden = hide_blocks(empty, 0.2, np.random.default_rng(0))
    assert kept.shape == hidden.shape == (3, 4) and kept.nnz == hidden.nnz == 0


@pytest.mark.parametrize("name", ["graph-filter", "social-graph-filter"])
def test_the_graph_filter_is_judged_on_what_is_asked_for(name, monkeypatch, board):
    asked = []

    def watched(train, seed, how="random"):
        asked.append(how)
        return held_out(train, seed, how)

    monkeypatch.setattr("graphrec.models.filter_response.held_out", watched)
    monkeypatch.setattr("graphrec.models.social_filter.held_out", watched)
    create(name, rank=8, hold_out="block").fit(board)
    assert set(asked) == {"block"}
    assert len(asked) == (2 if name.startswith("social") else 1)


def test_an_unknown_way_of_holding_out_is_an_error():
    with pytest.raises(ConfigError, match="hold_out.*block"):
        create("graph-filter", hold_out="newest")
