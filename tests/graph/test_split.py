"""Which events are held out, by hand-worked examples and by properties that every split must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphrec.errors import ConfigError, StoreError
from graphrec.graph.split import (
    NO_TIME,
    TEST,
    TRAIN,
    VALID,
    SplitSettings,
    at_random,
    by_time,
    leave_last_out,
    split,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def all_target(events: np.ndarray) -> np.ndarray:
    return np.ones(len(events), dtype=bool)


def test_leave_last_out_takes_the_last_two_of_each_user_in_time():
    user = ints(0, 0, 0, 1, 1, 2)
    time = ints(30, 10, 20, 5, 6, 1)
    # User 0: 10 trains, 20 validates, 30 tests. User 1 has two events: no validation. User 2 keeps its only one.
    assert leave_last_out(user, time, all_target(user), 1, 1).tolist() == [TEST, TRAIN, VALID, TRAIN, TEST, TRAIN]


def test_equal_times_are_ordered_as_in_the_source_and_missing_ones_come_first():
    user = ints(0, 0, 0, 0)
    assert leave_last_out(user, ints(7, 7, 7, 7), all_target(user), 1, 1).tolist() == [TRAIN, TRAIN, VALID, TEST]
    assert leave_last_out(user, ints(7, 8, NO_TIME, NO_TIME), all_target(user), 1, 1).tolist() == [VALID, TEST, 0, 0]
    assert leave_last_out(user, None, all_target(user), 1, 1).tolist() == [TRAIN, TRAIN, VALID, TEST]


def test_other_behaviours_are_held_out_from_the_held_out_event_on():
    #            view  buy  view  buy  view  buy  view
    time = ints(1, 2, 3, 4, 5, 6, 6)
    user = np.zeros(7, dtype=np.int64)
    buys = np.array([0, 1, 0, 1, 0, 1, 0], dtype=bool)
    assert leave_last_out(user, time, buys, 1, 1).tolist() == [TRAIN, TRAIN, TRAIN, VALID, VALID, TEST, TEST]
    # A user without purchases keeps all views.
    assert leave_last_out(user, time, np.zeros(7, dtype=bool), 1, 1).tolist() == [TRAIN] * 7


def test_by_time_cuts_at_one_instant_and_keeps_equal_times_together():
    time = ints(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert by_time(time, all_target(time), 0.2, 0.2).tolist() == [0] * 6 + [VALID] * 2 + [TEST] * 2
    ties = ints(1, 2, 3, 4, 5, 6, 9, 9, 9, 9)
    assert by_time(ties, all_target(ties), 0.2, 0.2).tolist() == [0] * 6 + [TEST] * 4
    with pytest.raises(StoreError, match="1 of 10 have none"):
        by_time(ints(*range(9), NO_TIME), all_target(time), 0.1, 0.1)


def test_at_random_takes_the_share_of_every_user_and_never_parts_a_pair():
    user, item = np.repeat(np.arange(6), 20), np.tile(np.arange(20), 6)
    side = at_random(user, item, all_target(user), 0.1, 0.2, np.random.default_rng(0))
    for one in range(6):
        assert np.bincount(side[user == one], minlength=3).tolist() == [14, 2, 4]
    twice = at_random(
        np.tile(user, 2), np.tile(item, 2), all_target(np.tile(user, 2)), 0.1, 0.2, np.random.default_rng(0)
    )
    assert twice.tolist() == [*side, *side]  # a repeated event goes with its pair


def test_at_random_depends_on_the_seed_and_not_on_the_order_of_rows():
    user, item = np.repeat(np.arange(6), 20), np.tile(np.arange(20), 6)
    first, again, other = (
        at_random(user, item, all_target(user), 0.1, 0.2, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()
    order = np.random.default_rng(5).permutation(120)
    shuffled = at_random(user[order], item[order], all_target(user), 0.1, 0.2, np.random.default_rng(0))
    assert (shuffled == first[order]).all()


@pytest.mark.parametrize("method", ["random", "given", "leave_last_out"])
def test_a_view_does_not_give_the_purchase_away(method):
    # Every pair is viewed on day 0 and bought on the day of its item.
    user, item = np.repeat(np.arange(5), 8), np.tile(np.arange(8), 5)
    users, items, target = np.tile(user, 2), np.tile(item, 2), np.repeat([True, False], 40)
    time = np.where(target, items + 1, 0)
    given_side = np.where(target & (items == 7), TEST, TRAIN).astype(np.uint8)
    amounts = {"valid": 1, "test": 1} if method == "leave_last_out" else {"valid": 0.125, "test": 0.125}
    resolved = SplitSettings(method=method, **amounts).resolved(True, True)
    side = split(resolved, users, items, time, target, given_side)
    assert (side[:40] == side[40:]).all() and np.bincount(side).tolist() == [60, 10, 10]
    kept = split(resolved.model_copy(update={"hide_pairs": False}), users, items, time, target, given_side)
    assert (kept[:40] == side[:40]).all() and not kept[40:].any()


@given(st.data())
def test_every_user_keeps_a_target_event_and_nothing_held_out_precedes_training(data):
    size = data.draw(st.integers(1, 40))
    user = np.array(data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    item = np.array(data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    time = np.array(data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)))
    target = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    last = leave_last_out(user, time, target, 1, 1)
    random = at_random(user, item, target, 0.3, 0.4, np.random.default_rng(0))
    for one in np.unique(user[target]):
        mine = user == one
        for side in (last, random):
            assert (side[mine & target] == TRAIN).any()
        held = time[mine & (last != TRAIN)]
        assert len(held) == 0 or time[mine & (last == TRAIN)].max() <= held.min()
        pairs = [set(item[mine & target & (random == side)]) for side in (TRAIN, VALID, TEST)]
        assert not (pairs[0] & pairs[1] or pairs[0] & pairs[2] or pairs[1] & pairs[2])


def test_a_given_split_is_kept_and_its_validation_may_be_drawn_from_training():
    user, item = np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4)
    given_side = np.where(item >= 8, TEST, TRAIN).astype(np.uint8)
    resolved = SplitSettings(method="given").resolved(True, False)
    assert (split(resolved, user, item, None, all_target(user), given_side) == given_side).all()
    drawn = split(
        SplitSettings(method="given", valid=0.25).resolved(True, False), user, item, None, all_target(user), given_side
    )
    assert ((drawn == TEST) == (given_side == TEST)).all()
    assert [int((drawn[user == one] == VALID).sum()) for one in range(4)] == [2] * 4


@pytest.mark.parametrize(
    ("has_split", "has_times", "method"),
    [(True, True, "given"), (False, True, "leave_last_out"), (False, False, "random")],
)
def test_auto_takes_what_the_log_allows(has_split, has_times, method):
    assert SplitSettings().resolved(has_split, has_times).method == method


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "given"}, "needs a split column"),
        ({"method": "time"}, "needs timestamps"),
        ({"method": "random", "valid": 0.5, "test": 0.5}, "shares below 1"),
        ({"method": "leave_last_out", "test": 0.2}, "whole events"),
    ],
)
def test_settings_that_do_not_fit_the_log(settings, message):
    with pytest.raises(ConfigError, match=message):
        SplitSettings(**settings).resolved(False, False)
