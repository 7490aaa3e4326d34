"""Timestamps: units by magnitude, ISO 8601, given formats, and times that cannot be."""

from __future__ import annotations

import datetime
from pathlib import Path

import polars as pl
import pytest

from graphrec.errors import LogError
from graphrec.logs.read import read_log

UTC = datetime.timezone.utc
NOON = datetime.datetime(2020, 1, 31, 12, 30, tzinfo=UTC)
SECONDS = int(NOON.timestamp())


def times(folder: Path, values: list[object], **settings) -> list[datetime.datetime | None]:
    rows = "".join(f"u{number},i,{value}\n" for number, value in enumerate(values))
    (folder / "log.csv").write_text("user,item,time\n" + rows)
    log = read_log(folder / "log.csv", rejected=folder / "rejected.parquet", **settings)
    return log.events.collect()["timestamp"].to_list()


def reasons(folder: Path) -> list[tuple[int, str]]:
    return pl.read_parquet(folder / "rejected.parquet").select("line", "reason").rows()


@pytest.mark.parametrize("unit, scale", [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units(unit: str, scale: int, tmp_path: Path) -> None:
    values = [SECONDS * scale, (SECONDS + 1) * scale]
    for setting in ("auto", unit):
        assert times(tmp_path, values, time_unit=setting) == [NOON, NOON + datetime.timedelta(seconds=1)]


def test_fractions_of_seconds(tmp_path: Path) -> None:
    assert times(tmp_path, [f"{SECONDS}.25", "1.5e9"])[0] == NOON + datetime.timedelta(milliseconds=250)


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-31T12:30:00Z",
        "2020-01-31 12:30:00",
        "2020-01-31T12:30",
        "2020/01/31 12:30:00",
        "2020-01-31T14:30:00+02:00",
        "2020-01-31T07:00:00.000-0530",
        "2020-01-31 12:30:00 UTC",
    ],
)
def test_iso(text: str, tmp_path: Path) -> None:
    assert times(tmp_path, [text, "2020-01-31"]) == [NOON, datetime.datetime(2020, 1, 31, tzinfo=UTC)]


def test_given_formats(tmp_path: Path) -> None:
    assert times(tmp_path, ["31.01.2020 12:30"], time_format="%d.%m.%Y %H:%M") == [NOON]
    assert times(tmp_path, ["31.01.2020 14:30 +0200"], time_format="%d.%m.%Y %H:%M %z") == [NOON]
    assert times(tmp_path, ["20200131"], time_format="%Y%m%d") == [NOON.replace(hour=0, minute=0)]
    with pytest.raises(LogError, match=r"unparsable timestamp(.|\n)*set time_format"):
        times(tmp_path, ["31.01.2020"])


def test_a_few_times_in_another_unit_are_rejected(tmp_path: Path) -> None:
    values = [SECONDS] * 50 + [SECONDS * 1000, "2020-01-31"]
    assert times(tmp_path, values) == [NOON] * 50
    reason = "timestamp in another unit than the usual seconds"
    assert reasons(tmp_path) == [(52, reason), (53, reason)]


def test_many_times_in_another_unit_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"4 timestamp in another unit than the usual seconds(.|\n)*set time_unit"):
        times(tmp_path, [SECONDS] * 6 + [SECONDS * 1000] * 4)


def test_future_and_past(tmp_path: Path) -> None:
    future = int(datetime.datetime.now(UTC).timestamp()) + 3 * 86400
    times(tmp_path, [SECONDS] * 98 + [future, -5])
    assert reasons(tmp_path) == [(100, "timestamp in the future"), (101, "timestamp before 1970")]


def test_a_wrong_unit_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"timestamp in the future.*all rows are bad(.|\n)*set time_unit"):
        times(tmp_path, [SECONDS * 1000], time_unit="s")


def test_typed_times(tmp_path: Path) -> None:
    zoned = pl.Series([NOON]).dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms")
    for column in (zoned, zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None), pl.Series([SECONDS])):
        pl.DataFrame({"user": ["u"], "item": ["i"], "time": column}).write_parquet(tmp_path / "log.parquet")
        assert read_log(tmp_path / "log.parquet").events.collect()["timestamp"].to_list() == [NOON]


def test_each_file_has_its_unit(tmp_path: Path) -> None:
    instants = [SECONDS + 60 * step for step in range(4)]
    texts = [datetime.datetime.fromtimestamp(instant, datetime.timezone.utc).isoformat() for instant in instants]
    files = {"a.csv": instants, "b.csv": instants, "c.csv": [1000 * instant for instant in instants], "d.csv": texts, "e.csv": [7, 8, 9, 10**15]}
    files["f.csv"] = [1000 * (SECONDS + step) for step in range(30)] + [-62135596800000, 0]
    for user, (name, values) in enumerate(files.items()):
        rows = "".join(f"{user},{item},{value}\n" for item, value in enumerate(values))
        (tmp_path / name).write_text("user,item,time\n" + rows)
    log = read_log(sorted(tmp_path.glob("*.csv")), rejected=tmp_path / "rejected.parquet", max_bad_share=0.9)
    found = log.events.filter(pl.col("user_id") < 4).collect().sort("user_id", "timestamp")["timestamp"].to_list()
    assert [instant.timestamp() for instant in found] == instants * 4
    # Small numbers are no times in seconds, and a few that stand for none do not make a file another one.
    assert pl.read_parquet(tmp_path / "rejected.parquet").select(pl.col("file").str.slice(-5), "reason").rows() == [
        *[("e.csv", "timestamp in another unit than the usual milliseconds")] * 4,
        ("f.csv", "timestamp before 1970"),
        ("f.csv", "timestamp in another unit than the usual milliseconds"),
    ]
    assert log.events.filter(pl.col("user_id") == 5).collect().height == 30
