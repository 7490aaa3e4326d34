"""A store without some of its pairs: every way in leaves them out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from graphrec.graph.build import build
from graphrec.graph.hold_out import HeldOutStore, choose_pairs
from graphrec.graph.split import NO_TIME
from graphrec.graph.store import Interactions
from graphrec.logs.table import InteractionLog


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three users buy and view three items each, the last bought one is in the test split."""
    rows = [(u, i, b) for u in range(3) for i in range(3) for b in ("buy", "view")]
    events = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u, _, _ in rows],
            "item_id": [f"i{i}" for _, i, _ in rows],
            "behavior": [b for _, _, b in rows],
            "timestamp": pl.Series([None] * len(rows), dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series([1.0] * len(rows), dtype=pl.Float32),
            "split": ["test" if u == i and b == "buy" else "train" for u, i, b in rows],
        }
    )
    return build(
        InteractionLog(events.lazy()), tmp_path_factory.mktemp("s") / "store", split="given", target_behavior="buy"
    )


def test_every_way_in_leaves_the_pairs_out(store):
    matrix = store.train_matrix()
    user, item = (int(part[0]) for part in matrix.nonzero())
    view = HeldOutStore(store, np.array([user * store.num_items + item]))
    expected = matrix.toarray()
    expected[user, item] = 0
    np.testing.assert_array_equal(view.train_matrix().toarray(), expected)
    assert len(view.interactions()) == len(store.interactions()) - 1
    assert len(view.catalogue().seen_indices) == len(store.catalogue().seen_indices) - 1
    gone = (pl.col("user") == user) & (pl.col("item") == item)
    assert view.events().filter(gone).is_empty() and not store.events().filter(gone).is_empty()
    assert view.train_matrix("view")[user, item] == 0 and store.train_matrix("view")[user, item] == 1
    for split in ("test",):
        assert view.events(split).equals(store.events(split))
    graph, whole = view.graph(), store.graph()
    for etype in whole.canonical_etypes:
        assert graph.num_edges(etype) == whole.num_edges(etype) - 1, etype
        assert len(graph.edges[etype].data["weight"]) == graph.num_edges(etype)
    ends = ("user", "buy", "item")
    assert not graph.has_edges_between(user, item, etype=ends) and whole.has_edges_between(user, item, etype=ends)


def test_what_is_left_out_can_be_the_validation_side(store):
    user, item = (int(part[0]) for part in store.train_matrix().nonzero())
    keys = np.array([user * store.num_items + item])
    view = HeldOutStore(store, keys, as_valid=True)
    assert (store.splits, view.splits) == (["train", "test"], ["train", "valid", "test"])
    assert HeldOutStore(store, keys).splits == store.splits
    held = view.events("valid")
    assert held.select("user", "item", "behavior").rows() == [(user, item, "buy"), (user, item, "view")]
    assert held.select("user_id", "item_id").rows() == 2 * [(f"u{user}", f"i{item}")]
    for behavior in ("buy", "view"):
        rows = view.interactions("valid", behavior)
        assert (rows.user.tolist(), rows.item.tolist()) == ([user], [item])
        assert len(view.interactions("train", behavior)) == len(store.interactions("train", behavior)) - 1
    assert view.events("test").equals(store.events("test"))


def test_a_share_of_each_user_is_chosen_and_one_is_left():
    user = np.repeat([0, 1, 2], [10, 2, 1])
    item = np.concatenate([np.arange(10), [0, 1], [5]])
    times = np.concatenate([np.arange(10), [NO_TIME, 3], [0]])
    rows = Interactions(user, item, np.ones(13, np.float32), times)
    keys = choose_pairs(rows, 20, 0.3, latest=True, seed=0)
    assert keys.tolist() == [7, 8, 9, 21]
    random = choose_pairs(rows, 20, 0.3, latest=False, seed=0)
    assert np.bincount(random // 20, minlength=3).tolist() == [3, 1, 0]
    assert random.tolist() == choose_pairs(rows, 20, 0.3, latest=False, seed=0).tolist()
    others = {tuple(choose_pairs(rows, 20, 0.3, latest=False, seed=seed)) for seed in range(5)}
    assert len(others) > 1
    repeated = Interactions(
        np.zeros(4, np.int64), np.array([3, 3, 3, 4]), np.ones(4, np.float32), np.array([1, 2, 9, 5])
    )
    assert choose_pairs(repeated, 20, 0.5, latest=True, seed=0).tolist() == [4]  # first taken at 5; item 3 already at 1
