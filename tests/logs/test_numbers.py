"""Decimal commas, from the first line of a file to the events."""

from __future__ import annotations

import datetime
from pathlib import Path

import polars as pl
import pytest

from graphrec.errors import ConfigError, LogError
from tests.logs.test_read import read, rejects


@pytest.mark.parametrize("separator", ["\t", ";", "|", "::"])
@pytest.mark.parametrize("header", [True, False])
def test_decimal_commas_are_read_where_they_are_meant(separator: str, header: bool, tmp_path: Path) -> None:
    rows = [["user", "item", "rating", "time"]] * header
    rows += [["u1", "i1", "3,5", "1580000000,5"], ["u2", "i2", " -,5 ", "1,580000001E9"], ["u3", "i3", "4", "1580000002"]]
    columns = {} if header else {"weight": 2, "timestamp": 3}
    events = read(tmp_path, "\n".join(map(separator.join, rows)), columns=columns, decimal_comma=True).events.collect()
    assert events.select("user_id", "weight").rows() == [("u1", 3.5), ("u2", -0.5), ("u3", 4.0)]
    assert [time.timestamp() for time in events["timestamp"]] == [1580000000.5, 1580000001, 1580000002]


def test_a_first_line_of_decimal_commas_is_data_where_they_are_meant(tmp_path: Path) -> None:
    text = "u1;i1;3,5\nu2;i2;4,5\n"
    events = read(tmp_path, text, columns={"user_id": 0, "item_id": 1, "weight": 2}, decimal_comma=True).events.collect()
    assert events["weight"].to_list() == [3.5, 4.5]


@pytest.mark.parametrize("first", ["1;2;3,5", "u1;i1;3,5"])
def test_semicolons_between_numbers_with_commas_separate(first: str, tmp_path: Path) -> None:
    text = f"{first}\n7;8;4,5\n9;8;-,25\n"
    events = read(tmp_path, text).events.collect()
    assert events.select(pl.all().cast(pl.String)).select("user_id", "item_id").rows() == [
        tuple(first.split(";")[:2]), ("7", "8"), ("9", "8")
    ]  # fmt: skip
    with pytest.raises(LogError, match="set decimal_comma = true under \\[log\\]"):
        read(tmp_path, text, columns={"weight": 2})
    assert read(tmp_path, text, columns={"weight": 2}, decimal_comma=True).events.collect()["weight"].to_list() == [3.5, 4.5, -0.25]


@pytest.mark.parametrize("row", ["1,2;3", "1,2;3;4", "1;2,3", "1;2,3;4", "u1,a;b;c", "a;b;c,d", "1;2;3,4,5"])
def test_commas_with_semicolons_within_their_fields_separate(row: str, tmp_path: Path) -> None:
    events = read(tmp_path, f"{row}\n{row}\n", header=False).events.collect()
    assert events.select(pl.col("user_id", "item_id").cast(pl.String)).row(0) == tuple(row.split(",")[:2])


def test_decimal_commas_and_points_that_are_not_meant_are_rejected_with_the_mend(tmp_path: Path) -> None:
    text = "user;item;rating;time\nu1;i1;3,5;\nu1;i2;3;1580000000,5\nu1;i3;3;\n"
    with pytest.raises(LogError, match="set decimal_comma = true under \\[log\\]"):
        read(tmp_path, text)
    assert rejects(tmp_path) == [(2, "decimal comma in weight"), (3, "decimal comma in timestamp")]
    text = "user;item;rating\nu1;i1;1.234\nu1;i2;1.234,5\nu1;i3;1,234,5\nu1;i4;1,5\nu1;i5;\n"
    log = read(tmp_path, text, decimal_comma=True, max_bad_share=0.9)
    point = "point in weight, where decimals have a comma"
    assert rejects(tmp_path) == [(2, point), (3, point), (4, "weight is no finite number")]
    assert log.events.collect()["weight"].to_list() == [1.5, 1.0]


def test_a_comma_cannot_be_decimal_and_separator(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'commas cannot be both, got separator = "," with decimal_comma = true'):
        read(tmp_path, "user,item\n1,1\n", separator=",", decimal_comma=True)
    with pytest.raises(LogError, match=r"log\.csv: with decimal_comma = true .* no other one splits 'user,item,weight'; leave"):
        read(tmp_path, "user,item,weight\n1,1,2\n", decimal_comma=True)


def test_a_time_format_keeps_its_comma(tmp_path: Path) -> None:
    text = "user;item;time\nu;i;20200131,1230\n"
    events = read(tmp_path, text, decimal_comma=True, time_format="%Y%m%d,%H%M").events.collect()
    assert events["timestamp"][0] == datetime.datetime(2020, 1, 31, 12, 30, tzinfo=datetime.timezone.utc)

