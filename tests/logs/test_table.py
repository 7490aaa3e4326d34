"""Logs made in memory: what their frames must hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from graphrec.errors import LogError
from graphrec.graph.build import build
from graphrec.logs.table import TIME, InteractionLog, Media, RejectReport

SCHEMA = {"user_id": pl.String, "item_id": pl.Int64, "behavior": pl.String, "timestamp": TIME, "weight": pl.Float32}


def frame(**changed: list) -> pl.DataFrame:
    users, items = [f"u{n % 5}" for n in range(20)], [n % 4 for n in range(20)]
    columns = {"user_id": users, "item_id": items, "behavior": ["view"] * 20, "timestamp": [None] * 20, "weight": [1.0] * 20}
    return pl.DataFrame({**columns, **changed}, schema=SCHEMA)


def test_a_frame_need_not_be_lazy(tmp_path):
    store = build(InteractionLog(frame()), tmp_path / "store", split={"method": "random", "test": 0.25})
    assert store.num_users == 5 and store.num_items == 4
    with pytest.raises(TypeError, match="events must be a Polars frame, got list; try pl.from_pandas"):
        InteractionLog([1, 2])
    with pytest.raises(TypeError, match="takes an InteractionLog, got DataFrame; read_log makes one of files"):
        build(frame(), tmp_path / "other")


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("user_id", [None, " "]),
        ("item_id", [None]),
        ("behavior", [None, ""]),
        ("weight", [None, float("nan"), float("inf")]),
    ],
)
def test_values_that_no_reader_would_let_through_are_counted(column, bad, tmp_path):
    values = [*bad, *frame()[column][len(bad) :]]
    with pytest.raises(LogError, match=f"not finite or, of split, none of train, valid, test: {len(bad)} in {column}; drop or fill them"):
        build(InteractionLog(frame(**{column: values})), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_split_that_is_none_is_counted(tmp_path):
    with pytest.raises(LogError, match="none of train, valid, test: 1 in split"):
        build(InteractionLog(frame().with_columns(split=pl.Series(["dev", None, *["train"] * 18]))), tmp_path / "store")


def test_a_log_shows_its_parts_and_not_their_rows():
    items = pl.DataFrame({"item_id": range(4), "title": ["a"] * 4})
    media = {"image": Media(pl.Series(range(3)), np.ones((3, 2), np.float32))}
    report = RejectReport(21, {"missing user_id": 1})
    shown = repr(InteractionLog(frame(), items=items, media=media, source="log.csv", rejected=report))
    assert shown == "InteractionLog('log.csv', items (4, 2), media image (3, 2), 1 of 21 rows rejected (1 missing user_id))"
    assert repr(InteractionLog(frame())) == "InteractionLog('memory')"


@pytest.mark.parametrize("name", ["users", "items", "social", "triples", "item_relations"])
def test_side_tables_of_another_kind_are_refused(name):
    table = pl.DataFrame({"item_id": [1]})
    with pytest.raises(TypeError, match=f"InteractionLog: {name} must be a Polars DataFrame, got DataFrame; try pl.from_pandas"):
        InteractionLog(frame(), **{name: table.to_pandas()})
    with pytest.raises(TypeError, match=f"InteractionLog: {name} must be a Polars DataFrame, got LazyFrame; collect it"):
        InteractionLog(frame(), **{name: table.lazy()})


def test_side_tables_need_ids_of_the_events_type():
    with pytest.raises(ValueError, match=r"social\.src must be String, as events\.user_id, got Int64; cast it"):
        InteractionLog(frame(), social=pl.DataFrame({"src": [1], "dst": [2], "weight": [1.0]}))
    with pytest.raises(ValueError, match=r"items\.item_id must be Int64, as events\.item_id, got String"):
        InteractionLog(frame(), items=pl.DataFrame({"item_id": ["1"]}))
