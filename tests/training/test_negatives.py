"""Negatives are never positives, and come with the probability that the page promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrec.errors import RunError
from graphrec.training.negatives import NegativeSource
from tests.training.conftest import make_catalogue

HISTORIES = st.integers(2, 9).flatmap(
    lambda items: st.tuples(
        st.just(items), st.lists(st.lists(st.integers(0, items - 1), max_size=items - 1), min_size=1, max_size=6)
    )
)
KINDS = [("uniform", 0.0), ("popularity", 0.75), ("popularity", 0.0)]


@pytest.mark.parametrize(("distribution", "exponent"), KINDS)
@settings(deadline=None, max_examples=60)
@given(world=HISTORIES, seed=st.integers(0, 99))
def test_negatives_are_never_known_positives(distribution, exponent, world, seed):
    num_items, histories = world
    histories = [history for history in histories if history] or [[0]]
    catalogue = make_catalogue(histories, num_items)
    source = NegativeSource(catalogue, distribution, exponent)
    try:
        full = source.users_without()
    except RunError:
        full = np.arange(len(histories))
    assert distribution == "popularity" or not len(full)  # somebody has chosen every item that anybody chose
    users = np.repeat(np.setdiff1d(np.arange(len(histories)), full), 40)
    if not len(users):
        return
    items = source.for_users(users, np.random.default_rng(seed))
    assert items.min() >= 0 and items.max() < num_items
    for user, item in zip(users, items, strict=True):
        assert item not in histories[user]


def test_uniform_negatives_are_uniform_over_what_is_left():
    catalogue = make_catalogue([[0, 2, 3, 7], [], [5]], 8)
    items = NegativeSource(catalogue).for_users(np.zeros(40_000, dtype=np.int64), np.random.default_rng(0))
    share = np.bincount(items, minlength=8) / len(items)
    np.testing.assert_allclose(share, [0, 0.25, 0, 0, 0.25, 0.25, 0.25, 0], atol=0.01)


def test_popular_negatives_follow_popularity_over_what_is_left():
    # popularity: item 0 four, item 1 one, item 2 two, item 3 none
    catalogue = make_catalogue([[0], [0, 2], [0, 2], [0, 1], []], 4)
    source = NegativeSource(catalogue, "popularity", 1.0)
    items = source.for_users(np.zeros(30_000, dtype=np.int64), np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(items, minlength=4) / len(items), [0, 1 / 3, 2 / 3, 0], atol=0.01)
    shared = source.shared(30_000, np.random.default_rng(1))
    np.testing.assert_allclose(np.bincount(shared, minlength=4) / len(shared), [4 / 7, 1 / 7, 2 / 7, 0], atol=0.01)


def test_a_user_with_nearly_all_of_the_popularity_still_gets_negatives():
    everyone = [[0] for _ in range(4000)]
    catalogue = make_catalogue([*everyone, [1]], 3)
    items = NegativeSource(catalogue, "popularity", 2.0).for_users(
        np.zeros(3, dtype=np.int64), np.random.default_rng(0)
    )
    assert items.tolist() == [1, 1, 1]


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_users_who_have_everything_are_found(distribution):
    source = NegativeSource(make_catalogue([[0], [0, 1, 2], [], [2, 1, 0]], 3), distribution)
    assert source.users_without().tolist() == [1, 3]
    # item 2 was never chosen: a negative only where all items are drawn
    source = NegativeSource(make_catalogue([[0], [0, 1], []], 3), distribution)
    assert source.users_without().tolist() == ([] if distribution == "uniform" else [1])


@pytest.mark.parametrize(
    ("distribution", "num_items", "mend"), [("uniform", 2, "a log with more items"), ("popularity", 3, '"uniform"')]
)
def test_where_every_user_has_everything_one_is_named(distribution, num_items, mend):
    source = NegativeSource(make_catalogue([[], [0, 1], [0, 1]], num_items), distribution)
    with pytest.raises(RunError, match=rf"all 2 user\(s\), such as 1, have interacted with all 2 items.*{mend}"):
        source.users_without()
