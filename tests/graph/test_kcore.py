"""The k-core against networkx and by hand."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from graphrec.graph.kcore import k_core


def test_a_path_unravels_from_its_ends():
    # u0-i0-u1-i1-u2-i2: every removal exposes the next node.
    user, item = np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2])
    users, items = k_core(user, item, 3, 3, 2, 2)
    assert not users.any() and not items.any()


def test_the_bounds_of_users_and_items_differ():
    # A user with three items beside a user with one; all items have one user but item 0, which has two.
    user, item = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
    users, items = k_core(user, item, 2, 3, 3, 1)
    assert users.tolist() == [True, False] and items.tolist() == [True, True, True]
    users, items = k_core(user, item, 2, 3, 1, 2)
    assert users.tolist() == [True, True] and items.tolist() == [True, False, False]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_equals_networkx(k):
    rng = np.random.default_rng(k)
    pairs = np.unique(rng.integers(0, 30, (160, 2)), axis=0)
    users, items = k_core(pairs[:, 0], pairs[:, 1], 30, 30, k, k)
    graph = nx.Graph([(("u", int(user)), ("i", int(item))) for user, item in pairs])
    expected = nx.k_core(graph, k).nodes
    assert {("u", n) for n in np.flatnonzero(users)} | {("i", n) for n in np.flatnonzero(items)} == set(expected)
