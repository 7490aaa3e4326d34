"""From a log to a store: what ends up where, and that nothing held out reaches what is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from graphrec.errors import ConfigError, StoreError
from graphrec.evaluation.split_data import read_split
from graphrec.graph.build import BuildSettings, build
from graphrec.graph.split import NO_TIME
from graphrec.logs.table import InteractionLog, Media
from tests.graph.small import make_log, ring, shop_log
from tests.notes import Notes


def test_the_ring_loses_its_last_two_items(tmp_path):
    store = build(make_log(ring()), tmp_path / "store")
    assert (store.num_users, store.num_items) == (12, 12)
    train, valid, test = (store.interactions(side) for side in ("train", "valid", "test"))
    for user in range(12):
        items = [np.sort(side.item[side.user == user]).tolist() for side in (train, valid, test)]
        assert items == [sorted((user + step) % 12 for step in range(3)), [(user + 3) % 12], [(user + 4) % 12]]
    assert (np.lexsort((train.item, train.user)) == np.arange(36)).all()
    assert (
        train.user.dtype == train.item.dtype == train.timestamp.dtype == np.int64 and train.weight.dtype == np.float32
    )


def test_the_order_of_the_source_changes_nothing(tmp_path):
    rows = ring()
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    for split in ("leave_last_out", "time", "random"):
        first, second = (
            build(make_log(r), tmp_path / f"{split}{n}", split=split) for n, r in enumerate((rows, shuffled))
        )
        for side in ("train", "valid", "test"):
            assert first.events(side).equals(second.events(side))


def test_held_out_events_do_not_reach_ids_degrees_or_the_graph(tmp_path):
    # "late" occurs only in a test event, "newcomer" only in the test part of a split by time.
    rows = [*ring(), ("u00", "late", 50), ("newcomer", "i00", 51)]
    store = build(make_log(rows), tmp_path / "store", split={"method": "time", "valid": 0.0, "test": 0.05})
    assert "late" not in store.ids("item") and "newcomer" not in store.ids("user")
    test = store.events("test")
    assert test.filter(pl.col("item_id") == "late")["item"].to_list() == [None]
    assert test.filter(pl.col("user_id") == "newcomer")["user"].to_list() == [None]
    counts = store.manifest.splits["test"]
    assert (counts.events, counts.known, counts.unknown_user, counts.unknown_item) == (14, 12, 1, 1)  # all of day 4
    assert len(store.interactions("test")) == 12
    held = store.interactions("test")
    graph = store.graph()
    assert not graph.has_edges_between(held.user, held.item, etype="interaction").any()
    assert store.catalogue().item_counts.sum() == graph.num_edges("interaction") == 48


def test_the_k_core_is_that_of_the_training_side(tmp_path):
    # With its test and validation event u_weak would have three items; in training it has one.
    rows = [*ring(), ("u_weak", "i00", 0), ("u_weak", "i01", 1), ("u_weak", "i02", 2)]
    store = build(make_log(rows), tmp_path / "store", k_core=3)
    assert "u_weak" not in store.ids("user") and store.num_users == 12
    assert store.manifest.left_out == {"outside the k-core": 1}
    assert store.manifest.splits["test"].unknown_user == 1
    assert np.diff(store.train_matrix().indptr).min() >= 3


def test_the_k_core_may_bound_users_and_items_apart(tmp_path):
    rows = [*ring(), ("u00", "rare", -1), ("light", "i00", 0)]
    for bounds, light, rare in (({"k_core_user": 2}, False, True), ({"k_core_item": 2}, True, False)):
        store = build(make_log(rows), tmp_path / next(iter(bounds)), **bounds)
        assert ("light" in store.ids("user"), "rare" in store.ids("item")) == (light, rare)
    store = build(make_log(rows), tmp_path / "both", k_core=2, k_core_user=0)
    assert "light" in store.ids("user") and "rare" not in store.ids("item")


def test_integer_ids_keep_their_type_and_their_gaps(tmp_path):
    items = [10**12 + number for number in (5, 900, 7, 6)]
    log = make_log([(7 * user, items[(user + day) % 4], day) for user in range(4) for day in range(3)])
    store = build(log, tmp_path / "store")
    assert store.ids("user").series.to_list() == [0, 7, 14, 21] and store.ids("item").dtype == pl.Int64
    assert store.ids("item").series.to_list() == sorted(items)
    assert store.events("test")["item_id"].to_list() == [items[(user + 2) % 4] for user in range(4)]


def test_weights_of_zero_are_told(tmp_path):
    notes = Notes()
    rows = [(user, item, day, "rate", 0.0 if user == ring()[0][0] else 1.0) for user, item, day, *_ in ring()]
    build(make_log(rows), tmp_path / "store", progress=notes)
    assert any("training events have weight 0" in note and "min_weight" in note for note in notes.lines)


def test_weights_times_and_half_life(tmp_path):
    rows = [
        ("a", "x", 0, "rate", 4.0),
        ("a", "y", 10, "rate", 2.0),
        ("a", "z", 11, "rate", 5.0),
        ("a", "w", 12, "rate", 1.0),
    ]
    log = make_log([*rows, ("b", "z", None, "rate", 3.0)])
    store = build(log, tmp_path / "store", split={"valid": 0, "test": 1}, min_weight=2.0, half_life_days=10)
    assert store.manifest.left_out == {"below min_weight": 1}
    train = store.interactions()
    # z, the last, is held out; y is then the newest training event, and x is one half-life older.
    assert train.weight.tolist() == [2.0, 2.0, 3.0]
    assert train.timestamp[2] == NO_TIME and train.timestamp[1] - train.timestamp[0] == 10 * 86_400_000_000


def test_a_log_without_times_is_drawn_at_random_and_has_no_timestamps(tmp_path):
    store = build(make_log([(user, item, None) for user, item, _ in ring()]), tmp_path / "store", split={"test": 0.2})
    assert store.manifest.settings["split"]["method"] == "random"
    assert store.interactions().timestamp is None and not store.has_timestamps
    assert "timestamp" not in store.graph().edges["interaction"].data


def test_a_given_split_is_kept(tmp_path):
    rows = [(user, item, day, "view", 1.0, "test" if day == 4 else "train") for user, item, day in ring()]
    store = build(make_log(rows), tmp_path / "store")
    assert store.manifest.settings["split"]["method"] == "given" and store.splits == ["train", "test"]
    assert len(store.interactions("test")) == 12 and len(store.interactions("valid")) == 0
    with pytest.raises(ConfigError, match="1 of 61 events have no value in the split column"):
        build(make_log([*rows, ("u00", "i00", 9, "view", 1.0, None)]), tmp_path / "other")


def test_repeated_events_are_kept_and_summed_in_the_matrix(tmp_path):
    rows = [("a", "x", 0), ("a", "x", 1), ("a", "y", 2), ("b", "x", 0), ("b", "y", 1), ("b", "x", 2)]
    store = build(make_log(rows), tmp_path / "store", split={"valid": 0, "test": 1})
    assert store.train_matrix().toarray().tolist() == [[2, 0], [1, 1]] and len(store.interactions()) == 4
    assert store.catalogue().item_counts.tolist() == [2, 1]
    assert store.manifest.splits["test"].seen_pairs == 1  # b takes x again


def test_side_tables_join_the_nodes_and_what_does_not_fit_is_set_aside(shop):
    assert shop.titles() == ["Zero", "One", *[""] * 10] and shop.table("item").height == shop.num_items
    assert shop.table("user")["age"].to_list() == [30, 20, *[None] * 10]
    assert shop.ids("entity").series.to_list() == ["acme", "group"]
    graph = shop.graph()
    follows = graph.edges(etype="follows")
    assert (follows[0].tolist(), follows[1].tolist()) == ([0, 2], [1, 3])
    assert graph.edges["follows"].data["weight"].tolist() == [1.0, 2.0]
    related = graph.edges(etype=("item", "related", "item"))  # from item_relations and from the triples, once each
    assert (related[0].tolist(), related[1].tolist()) == ([0, 2], [1, 3])
    assert graph.num_edges(("item", "made_by", "entity")) == graph.num_edges(("entity", "part_of", "entity")) == 1
    assert shop.manifest.side_rejected == {
        "item_relations: item not in training": 1,
        "items: item listed before": 1,
        "items: item not in training": 1,
        "social: link listed before": 1,
        "social: user linked to itself": 1,
        "social: user not in training": 1,
        "triples: item not in training": 1,
        "triples: no relation": 1,
        "triples: triple listed before": 1,
        "users: user not in training": 1,
    }
    rejected = pl.read_parquet(shop.folder / "rejected.parquet")
    assert rejected.filter(table="users").rows() == [
        ("users", 2, "user not in training", '{"user_id":"ghost","age":40}')
    ]


def test_integer_items_and_text_entities_share_the_triples(tmp_path):
    rows = [(user, (user + step) % 6, step) for user in range(6) for step in range(4)]
    triples = pl.DataFrame({"head": ["0", "1"], "relation": ["by", "by"], "tail": ["acme", "3"]})
    store = build(make_log(rows, triples=triples), tmp_path / "store")
    assert store.ids("entity").series.to_list() == ["acme"]
    assert ("item", "by", "item") in store.canonical_etypes and ("item", "by", "entity") in store.canonical_etypes


def test_media_become_features_aligned_with_the_items(tmp_path):
    vectors = np.array([[3, 3], [1, 1], [9, 9]], dtype=np.float32)
    media = {"image": Media(pl.Series(["i03", "i01", "ghost"]), vectors)}
    store = build(make_log(ring(), media=media), tmp_path / "store")
    array, provenance = store.feature("item", "image")
    assert array[[3, 1]].tolist() == [[3, 3], [1, 1]] and array.sum() == 8 and array.shape == (12, 2)
    assert provenance["rows_given"] == 2 and provenance["rows_zero"] == 10
    assert store.manifest.side_rejected == {"media image: item not in training": 1}


def test_the_graph_holds_the_rows_of_the_training_table(shop):
    graph = shop.graph()
    for behavior in ("view", "buy"):
        train = shop.interactions("train", behavior)
        source, target = graph.edges(etype=behavior, order="eid")
        assert source.tolist() == train.user.tolist() and target.tolist() == train.item.tolist()
        for name in ("weight", "timestamp"):
            assert graph.edges[behavior].data[name].tolist() == getattr(train, name).tolist()
        back = graph.edges(etype=f"rev_{behavior}", order="eid")
        assert back[0].tolist() == target.tolist() and back[1].tolist() == source.tolist()
    assert graph.num_nodes("user") == shop.num_users and graph.num_nodes("item") == shop.num_items


def test_the_target_is_the_rarest_behaviour_unless_named(tmp_path):
    assert build(shop_log(), tmp_path / "a").target_behavior == "buy"
    store = build(shop_log(), tmp_path / "b", BuildSettings(target_behavior="view"))
    assert store.target_behavior == "view" and store.behaviors == ["buy", "view"]
    with pytest.raises(ConfigError, match="unknown target behaviour 'by'.*buy, view.*did you mean 'buy'"):
        build(shop_log(), tmp_path / "c", target_behavior="by")


BAD = {
    "no events": (lambda: make_log([]), {}, "no events"),
    "every user has one event": (
        lambda: make_log([(f"u{n}", f"i{n % 3}", n) for n in range(9)]),
        {"split": "leave_last_out"},
        r"leaves no test events \(9 training, 0 validation and 0 test",
    ),
    "one instant": (lambda: make_log([(f"u{n}", "i", 1) for n in range(9)]), {"split": "time"}, "nothing to train on"),
    "a test of unknown items": (
        lambda: make_log([("a", "x", 0), ("a", "new", 1), ("b", "x", 0), ("b", "newer", 1)]),
        {"split": "leave_last_out"},
        "no usable test event: all 2",
    ),
    "an empty k-core": (lambda: make_log(ring()), {"k_core": 9}, "empty.*largest k_core that leaves a graph is 3"),
    "min_weight over all weights": (lambda: make_log(ring()), {"min_weight": 5}, "lower min_weight"),
    "half-life without times": (
        lambda: make_log([(user, item, None) for user, item, _ in ring()]),
        {"half_life_days": 3, "split": {"method": "random", "test": 0.3}},
        "needs timestamps",
    ),
}


@pytest.mark.parametrize(("log", "settings", "message"), BAD.values(), ids=BAD)
def test_a_log_that_cannot_be_built_leaves_nothing(log, settings, message, tmp_path):
    with pytest.raises(StoreError, match=message):
        build(log(), tmp_path / "store", **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "relation", "message"),
    [
        ("triples", "view", "triples: the relation 'view' is a behaviour of the events too.*rename it.*such as 'view_of'"),
        ("triples", "follows", "triples: the relation 'follows' is the name of the links of the social table too"),
        ("item_relations", "buy", "item_relations: the relation 'buy' is a behaviour of the events too"),
        ("item_relations", "rev_buy", "'rev_buy' is the name of the reverse edges of the behaviour 'buy' too"),
        ("triples", "target", "'target' is the name that settings give to the target behaviour too"),
    ],
)
def test_a_name_for_two_kinds_of_edges_is_refused(table, relation, message, tmp_path):
    log = shop_log()
    rows = getattr(log, table)[:1].with_columns(relation=pl.lit(relation))
    with pytest.raises(StoreError, match=message):
        build(replace(log, **{table: pl.concat([getattr(log, table), rows])}), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_a_behaviour_may_have_the_name_of_links_that_are_not_there(tmp_path):
    log = make_log([(user, item, day, "follows", 1.0) for user, item, day in ring()])
    assert build(log, tmp_path / "store").behaviors == ["follows"]
    links = pl.DataFrame({"src": ["u00"], "dst": ["u01"], "weight": pl.Series([1.0], dtype=pl.Float32)})
    with pytest.raises(StoreError, match="'follows' is a behaviour of the events and the name of the links.*'follows_item'"):
        build(replace(log, social=links), tmp_path / "other")


def without_target(side: str) -> InteractionLog:
    """A given split whose `side` has views and no purchase."""
    rows = [(user, item, day, "buy", 1.0, ("train", "train", "train", "valid", "test")[day]) for user, item, day in ring()]
    return make_log([(u, i, day, "view" if part == side else kind, w, part) for u, i, day, kind, w, part in rows])


def test_a_validation_part_without_the_target_is_told_at_build_and_named_in_training(tmp_path):
    notes = Notes()
    store = build(without_target("valid"), tmp_path / "store", target_behavior="buy", progress=notes)
    what = "of 12 valid events 0 are of the target behaviour 'buy'"
    assert len(notes.lines) == 1 and what in notes.lines[0] and "no model can be validated" in notes.lines[0]
    with pytest.raises(StoreError, match=f"no valid interactions of the target behaviour.*{what}.*build.split. valid"):
        read_split(store, "valid", mask_valid=False)
    mended = build(without_target("valid"), tmp_path / "mended", target_behavior="buy", progress=notes, split={"valid": 0.34})
    assert mended.manifest.splits["valid"].target_events == 12 and len(notes.lines) == 1  # one of three of each user
    assert len(read_split(mended, "valid", mask_valid=False).users) > 0
    with pytest.raises(StoreError, match="no usable test event: of 12 test events 0 are of the target behaviour 'buy'.*or choose"):
        build(without_target("test"), tmp_path / "none", target_behavior="buy")


def test_users_with_one_event_stay_in_training_and_are_counted(tmp_path):
    store = build(make_log([*ring(), ("single", "i00", 3)]), tmp_path / "store")
    assert "single" in store.ids("user") and store.manifest.users_kept_whole == 1


def test_a_build_without_test_is_possible_on_request(tmp_path):
    store = build(make_log(ring()), tmp_path / "store", split={"valid": 0, "test": 0})
    assert store.splits == ["train"] and len(store.interactions("test")) == 0 and store.train_matrix().nnz == 60


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(ConfigError, match="build k_cor: unknown key.*did you mean 'k_core'"):
        build(make_log(ring()), tmp_path / "store", k_cor=3)
    with pytest.raises(ConfigError, match="split.method"):
        build(make_log(ring()), tmp_path / "store", split="tomorrow")


def test_a_target_that_nobody_chose_is_doubted_when_it_is_very_rare(tmp_path):
    views = [(user, item, day, "view") for user, item, day in ring(40, 40, 12)]
    some, few = ([("u00", f"i{n:02}", 99 + n, "Buy") for n in range(count)] for count in (8, 4))
    for buys, doubted in ((some, False), (few, True)):
        notes = Notes()
        build(make_log(views + buys), tmp_path / "store", overwrite=True, progress=notes)
        found = [line for line in notes.lines if "no target_behavior is given, and the rarest was taken, 'Buy'" in line]
        assert bool(found) == doubted
        build(make_log(views + buys), tmp_path / "store", target_behavior="Buy", overwrite=True, progress=notes)
        assert len([line for line in notes.lines if "no target_behavior" in line]) == doubted
    with pytest.raises(StoreError, match="0 test events of the target behaviour 'Buy', taken as the rarest since"):
        build(make_log([*views, ("u00", "i00", 99, "Buy")]), tmp_path / "none")


def test_behaviours_that_differ_in_case_only_are_pointed_at(tmp_path):
    notes = Notes()
    rows = [(user, item, day, ("buy", "Buy", "view", "view", "view")[place % 5]) for place, (user, item, day) in enumerate(ring())]
    build(make_log(rows), tmp_path / "store", target_behavior="view", progress=notes)
    assert any("the behaviours 'Buy' and 'buy' are kept apart; write them alike" in line for line in notes.lines)


def test_a_split_by_time_leaves_out_the_few_events_without_one(tmp_path):
    rows = ring(20, 20, 5)
    store = build(make_log([*rows, ("u1", "i19", None), ("u2", "i18", None)]), tmp_path / "a", split="time")
    assert store.manifest.left_out == {"without a time": 2}
    assert store.manifest.splits["train"].events == build(make_log(rows), tmp_path / "b", split="time").manifest.splits["train"].events
    untimed = [(user, item, None) for user, item, _ in rows[:10]]
    with pytest.raises(StoreError, match=r"needs timestamps, and 10 of 100 events have none; .*raise max_bad_share = 0\.05"):
        build(make_log(untimed + rows[10:]), tmp_path / "c", split="time")
