"""Raw features on a graph small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from graphrec.features.attributes import Attributes
from graphrec.features.interaction import InteractionFeatures, standardise_lists
from graphrec.graph.split import NO_TIME
from graphrec.graph.store import Interactions

# Users 0 and 1 share item 0; user 1 also has item 1; user 2 has items 1 and 2; nobody has item 3.
USER, ITEM = np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2])
DAY = 86_400_000_000
NONE = Attributes({}, {}, {})
COLOURS = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)


def rows(weight=None, timestamp=None):
    weights = np.ones(5, dtype=np.float32) if weight is None else np.array(weight, dtype=np.float32)
    return Interactions(USER, ITEM, weights, None if timestamp is None else np.array(timestamp, dtype=np.int64))


def column(features, side, name):
    return features.arrays[side][:, features.names[side].index(name)]


def pair(features, name):
    users, items = np.arange(3), np.tile(np.arange(4), (3, 1))
    return features.pairs(users, items)[..., features.pair_names.index(name)]


def test_paths_are_counted_and_a_pair_is_no_step_of_its_own_path():
    features = InteractionFeatures.fit(rows(), (3, 4), NONE, NONE)
    counts = np.expm1(pair(features, "paths"))
    # user 0 -> item 0 -> user 1 -> item 1; user 0 cannot reach item 2 in three steps
    assert counts[0] == pytest.approx([2, 1, 0, 0], abs=1e-5)
    # user 1 -> item 1 -> user 2 -> item 2
    assert counts[1, 2] == pytest.approx(1, abs=1e-5)
    # the walk from user 0 takes item 0 (weight 1, not divided by the start), then one of its 2 users, then one of user 1's 2 items
    assert np.expm1(pair(features, "paths weighted"))[0, 1] == pytest.approx(1000 * 0.5 * 0.5, rel=1e-4)
    without = Interactions(USER[:-1], ITEM[:-1], np.ones(4, np.float32), None)
    unseen = np.expm1(pair(InteractionFeatures.fit(without, (3, 4), NONE, NONE), "paths"))
    assert unseen[2, 2] == 0  # the held-out pair (2, 2) itself leaves no path behind


def test_affinities_follow_the_history_and_users_without_one_have_none():
    item = Attributes({}, {"colour": COLOURS}, {"colour": ["red", "blue"]})
    features = InteractionFeatures.fit(
        Interactions(USER[:3], ITEM[:3], np.ones(3, np.float32), None), (3, 4), NONE, item
    )
    lonely = pair(features, "item colour")[2]
    assert lonely == pytest.approx([0, 0, 0, 0])
    features = InteractionFeatures.fit(rows(), (3, 4), NONE, item)
    found = pair(features, "item colour")
    assert found[0, 0] > 0 > found[0, 2] and found[2, 2] > 0 > found[2, 0]
    # 1 of 1 red against 4 of 5, shrunk by 10: log((1 + 8) / (11 * 0.8))
    assert found[0, 0] == pytest.approx(np.log(9 / 8.8), abs=1e-6)
    assert features.names["item"][-2:] == ["colour=red", "colour=blue"]


def test_user_values_make_an_affinity_of_items():
    user = Attributes({}, {"gender": np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)}, {"gender": ["f", "m"]})
    found = pair(InteractionFeatures.fit(rows(), (3, 4), user, NONE), "user gender")
    assert found[0, 0] > 0 > found[2, 0] and found[2, 2] > 0
    assert found[:, 3] == pytest.approx([0, 0, 0])


def test_gaps_are_distances_from_the_usual():
    year = np.array([1950.0, 1950.0, 2000.0, np.nan])
    found = pair(InteractionFeatures.fit(rows(), (3, 4), NONE, Attributes({"year": year}, {}, {})), "gap item year")
    assert found[0, 0] < found[0, 2]
    assert np.isfinite(found).all()


def test_static_columns_are_standardised_and_say_what_is_missing():
    year = np.array([1950.0, 1990.0, 2000.0, np.nan])
    times = [0, DAY, 2 * DAY, 10 * DAY, NO_TIME]
    features = InteractionFeatures.fit(rows([1, 5, 3, 4, 2], times), (3, 4), NONE, Attributes({"year": year}, {}, {}))
    assert column(features, "item", "year")[3] == 0 and column(features, "item", "year missing").tolist() == [
        0,
        0,
        0,
        1,
    ]
    assert column(features, "item", "last missing").tolist() == [0, 0, 1, 1]
    last, first, rise = (column(features, "item", name) for name in ("last", "first", "rise"))
    assert last[1] < last[0] and first[1] < first[0] and rise.argmax() == 1
    assert column(features, "item", "mean time")[0] > column(features, "item", "mean time")[1]
    gap = pair(features, "gap time")  # user 0 came on day 0, item 0 on average at noon of that day, item 1 on day 6
    assert gap[0, 0] < gap[0, 1]
    assert column(features, "user", "mean weight").argmin() == 0
    counts = column(features, "item", "log count")
    assert counts[0] == counts[1] > counts[2] > counts[3]
    for side in ("user", "item"):
        assert features.arrays[side].dtype == np.float32 and np.isfinite(features.arrays[side]).all()


def test_columns_do_not_depend_on_what_is_missing():
    names = [InteractionFeatures.fit(part, (3, 4), NONE, NONE).names for part in
             (rows(None, [0, 1, 2, 3, 4]), rows(None, [0, 1, 2, NO_TIME, NO_TIME]))]  # fmt: skip
    assert names[0] == names[1]


def test_lists_are_standardised_among_their_candidates_only():
    values = np.array([[[1.0, 7.0], [3.0, 7.0], [100.0, 9.0]]], dtype=np.float32)
    found = standardise_lists(values, np.array([[True, True, False]]))
    assert found[0].tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    assert standardise_lists(values, np.zeros((1, 3), dtype=bool)).tolist() == np.zeros((1, 3, 2)).tolist()
