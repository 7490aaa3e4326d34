"""Sets of items per user against Python's own sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrec.evaluation.user_items import UserItems

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=25)


def collect(pairs):
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return UserItems.from_pairs(users, items, 5, 7)


def as_sets(rows):
    return [set(rows.indices[a:b].tolist()) for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)]


@given(PAIRS, PAIRS, st.lists(st.integers(0, 4), max_size=8))
@settings(max_examples=80, deadline=None)
def test_set_algebra(left, right, users):
    first, second = ([{i for u, i in pairs if u == user} for user in range(5)] for pairs in (left, right))
    a, b = collect(left), collect(right)
    assert as_sets(a) == first
    assert as_sets(a.union(b)) == [x | y for x, y in zip(first, second, strict=True)]
    assert as_sets(a.minus(b)) == [x - y for x, y in zip(first, second, strict=True)]
    assert as_sets(a.rows(np.array(users, dtype=np.int64))) == [first[user] for user in users]
    items = np.tile(np.arange(-1, 7), (5, 1))
    assert a.contains(items).tolist() == [[item in first[user] for item in range(-1, 7)] for user in range(5)]
    assert (a.fingerprint() == b.fingerprint()) == (first == second)
