"""Steps between items, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from graphrec.features.sequence import NextSteps
from graphrec.graph.split import NO_TIME
from graphrec.graph.store import Interactions


def rows(user, item, time):
    return Interactions(np.array(user), np.array(item), np.ones(len(user), np.float32), np.array(time, dtype=np.int64))


def test_steps_follow_time_and_fade_with_distance():
    # user 0: items 2, 0, 1 in this order, though the rows are sorted by item; user 1: item 0, then 3
    steps = NextSteps.fit(rows([0, 0, 0, 1, 1], [0, 1, 2, 0, 3], [20, 30, 10, 5, 6]), (3, 4))
    follows = steps.follows.toarray()
    assert follows[2] == pytest.approx(np.array([1, 0.5, 0, 0]) / (1.5 + 5))
    assert follows[0] == pytest.approx(np.array([0, 1, 0, 1]) / (2 + 5))
    assert not follows[1].any() and not follows[3].any()
    assert steps.latest.tolist() == [[1, 0, 2, -1, -1], [3, 0, -1, -1, -1], [-1] * 5]
    scores = steps.scores(np.array([1, 0, 2]))
    assert scores[0] == pytest.approx(follows[0] / 2)
    assert scores[1] == pytest.approx(follows[0] / 2 + follows[2] / 3)
    assert scores[2].tolist() == [0, 0, 0, 0]


def test_only_the_latest_count_and_steps_end_after_five():
    steps = NextSteps.fit(rows([0] * 8, list(range(8)), list(range(8))), (1, 8))
    assert steps.latest.tolist() == [[7, 6, 5, 4, 3]]
    follows = steps.follows.toarray()
    assert follows[0, 5] > 0 and follows[0, 6] == 0 and not np.tril(follows).any()


def test_a_log_without_times_has_no_steps_and_events_without_one_are_left_out():
    plain = Interactions(np.array([0, 0]), np.array([0, 1]), np.ones(2, np.float32), None)
    assert NextSteps.fit(plain, (1, 2)) is None
    assert NextSteps.fit(rows([0, 0], [0, 1], [NO_TIME, NO_TIME]), (1, 2)) is None
    some = NextSteps.fit(rows([0, 0, 0], [0, 1, 2], [3, NO_TIME, 4]), (1, 3))
    assert some.latest[0, :3].tolist() == [2, 0, -1] and some.follows.nnz == 1
