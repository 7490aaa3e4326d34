"""The duplicates policy over (user, item, behaviour)."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from graphrec.logs import clean
from graphrec.logs.read import read_log

# Event 9 is the earliest of its pair although it comes last; the cart event is no duplicate of the views.
ROWS = """user,item,event,time,weight
a,x,view,200,1
b,x,view,100,2
a,x,view,300,4
a,x,cart,300,8
b,y,view,,16
b,y,view,400,32
c,z,view,,64
c,z,view,,128
a,x,view,150,256
"""


@pytest.mark.parametrize(
    "policy, expected",
    [
        (
            "first",
            [("b", "x", 100, 2), ("a", "x", 300, 8), ("b", "y", 400, 32), ("c", "z", None, 64), ("a", "x", 150, 256)],
        ),
        (
            "last",
            [("b", "x", 100, 2), ("a", "x", 300, 4), ("a", "x", 300, 8), ("b", "y", None, 16), ("c", "z", None, 128)],
        ),
        (
            "sum",
            [("b", "x", 100, 2), ("a", "x", 300, 8), ("b", "y", 400, 48), ("c", "z", None, 192), ("a", "x", 150, 261)],
        ),
        (
            "max",
            [("b", "x", 100, 2), ("a", "x", 300, 8), ("b", "y", 400, 32), ("c", "z", None, 128), ("a", "x", 150, 256)],
        ),
        (
            "mean",
            [("b", "x", 100, 2), ("a", "x", 300, 8), ("b", "y", 400, 24), ("c", "z", None, 96), ("a", "x", 150, 87)],
        ),
    ],
)
def test_policies(policy: str, expected: list, tmp_path: Path) -> None:
    assert read(tmp_path, duplicates=policy) == expected


def read(folder: Path, **settings) -> list[tuple]:
    (folder / "log.csv").write_text(ROWS)
    events = read_log(folder / "log.csv", rejected=folder / "r.parquet", **settings).events.collect()
    return events.select("user_id", "item_id", pl.col("timestamp").dt.epoch("s"), "weight").rows()


def test_keep_and_the_default(tmp_path: Path) -> None:
    assert len(read(tmp_path, duplicates="keep")) == 9
    assert read(tmp_path) == read(tmp_path, duplicates="first")


def test_parts_by_user_change_nothing_but_the_order_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path, duplicates="sum")
    monkeypatch.setattr(clean, "PARTITION_ROWS", 2)
    parts = read(tmp_path, duplicates="sum")
    for user in "abc":
        assert [row for row in parts if row[0] == user] == [row for row in whole if row[0] == user]


def test_a_pair_may_stand_in_train_and_test(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("1 5 5 6\n")
    (tmp_path / "test.txt").write_text("1 5\n")
    events = read_log(tmp_path).events.collect()
    assert events.select("item_id", "split").rows() == [(5, "train"), (6, "train"), (5, "test")]
