"""Timestamps: epoch seconds, milliseconds, microseconds, nanoseconds, ISO 8601 texts and texts of a given format."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import polars as pl

from graphrec.logs import ids, numbers

_MICROSECONDS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
_BELOW = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": float("inf")}
"""The unit of a number by its magnitude: 1e11 is the year 5138 in seconds and March 1973 in milliseconds."""
SPOKEN = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "iso": "ISO 8601 texts"}
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ISO_OFFSET = "%Y-%m-%d %H:%M:%S%.f%#z"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_RECENT = 631_152_000_000_000  # 1990, in microseconds
_NEARLY_ALL = 0.9
_SLACK = datetime.timedelta(days=1)  # clocks and time zones differ


def prepare(events: pl.LazyFrame, column: str, dtype: pl.DataType, decimal_comma: bool = False) -> pl.LazyFrame:
    """Add `COLUMN.text`, `COLUMN.number` and `COLUMN.unit`, computed once for counting and parsing.

    Args:
        events: with the column.
        column: of the times.
        dtype: its type.
        decimal_comma: texts that are numbers have a comma before their decimals.
    """
    if dtype.is_temporal():
        return events
    text, number = pl.col(f"{column}.text"), pl.col(f"{column}.number")
    value = numbers.parse(text, decimal_comma) if dtype == pl.String else pl.col(column).cast(pl.Float64, strict=False)
    magnitude = number.abs()
    unit = pl.when(magnitude < _BELOW["s"]).then(pl.lit("s"))
    for name in ("ms", "us", "ns"):
        unit = unit.when(magnitude < _BELOW[name]).then(pl.lit(name))
    unit = unit.when(text.str.slice(4, 1).is_in(["-", "/"])).then(pl.lit("iso"))
    events = events.with_columns(ids.as_string(column, dtype).alias(f"{column}.text"))
    events = events.with_columns(pl.when(value.is_finite()).then(value).alias(f"{column}.number"))
    return events.with_columns(unit.alias(f"{column}.unit"))


def profile(column: str, dtype: pl.DataType) -> list[pl.Expr]:
    """Count the values of each unit in prepared events, and those after 1990; text that is neither number nor date counts nowhere."""
    if dtype.is_temporal():
        return []
    number, unit = pl.col(f"{column}.number"), pl.col(f"{column}.unit")
    counts = [(unit == name).sum().alias(f"{column}.{name}") for name in SPOKEN]
    recent = {name: (unit == name) & (number * factor >= _RECENT) for name, factor in _MICROSECONDS.items()}
    return counts + [fits.sum().alias(f"{column}.recent.{name}") for name, fits in recent.items()]


def units(column: str, by_file: pl.DataFrame, file: str) -> tuple[str, dict[str, list[str]]]:
    """The most frequent of s, ms, us, ns, iso in a profile, seconds when there is no value; and the files of other units.

    A file has a unit of its own where nearly all of its values are of that magnitude and, if numbers, after 1990: small numbers
    are no times in seconds, and a few of 0 or -1 stand for none.

    Args:
        column: of the times.
        by_file: a profile of each file, or of all of them together.
        file: the column of the file's name, if there is one.
    """

    def most(counts: Mapping[str, int]) -> str:
        return max(SPOKEN, key=lambda unit: counts[f"{column}.{unit}"])

    usual = most({name: int(by_file[name].sum()) for name in (f"{column}.{unit}" for unit in SPOKEN)})
    others: dict[str, list[str]] = {}
    for row in by_file.iter_rows(named=True) if file in by_file else ():
        unit = most(row)
        values = sum(row[f"{column}.{name}"] for name in SPOKEN)
        fitting = row[f"{column}.{unit}"] if unit == "iso" else row[f"{column}.recent.{unit}"]
        if unit != usual and fitting >= _NEARLY_ALL * max(values, 1):
            others.setdefault(unit, []).append(row[file])
    return usual, others


def parse(
    column: str, dtype: pl.DataType, unit: str, time_format: str | None = None, *, judge: bool = True
) -> tuple[pl.Expr, pl.Expr]:
    """The time as `Datetime('us', 'UTC')` and the reason why it is bad (null for a good or absent one).

    Args:
        column: a column of prepared events.
        dtype: its type before.
        unit: s, ms, us, ns or iso; a time without zone is taken as UTC.
        time_format: a strftime format that wins over `unit`, or None.
        judge: refuse values whose magnitude is that of another unit.
    """
    other_unit, comma = pl.lit(False), pl.lit(False)
    if dtype.is_temporal():
        present, value = pl.col(column).is_not_null(), _temporal(column, dtype)
    elif time_format is not None:
        present, value = pl.col(f"{column}.text").is_not_null(), _formatted(pl.col(f"{column}.text"), time_format)
    else:
        present, comma = pl.col(f"{column}.text").is_not_null(), numbers.has_comma(pl.col(f"{column}.text"))
        value = _iso(pl.col(f"{column}.text")) if unit == "iso" else _epoch(pl.col(f"{column}.number"), unit)
        other_unit = (pl.col(f"{column}.unit") != unit) if judge else other_unit
    latest = datetime.datetime.now(datetime.timezone.utc) + _SLACK
    problem = (
        pl.when(~present)
        .then(None)
        .when(other_unit)
        .then(pl.lit(f"timestamp in another unit than the usual {SPOKEN[unit]}"))
        .when(value.is_null() & comma)
        .then(pl.lit("decimal comma in timestamp"))
        .when(value.is_null())
        .then(pl.lit("unparsable timestamp"))
        .when(value > latest)
        .then(pl.lit("timestamp in the future"))
        .when(value < _EPOCH)
        .then(pl.lit("timestamp before 1970"))
    )
    return value, problem


def _formatted(text: pl.Expr, time_format: str) -> pl.Expr:
    value = text.str.to_datetime(time_format, time_unit="us", strict=False)
    return value.dt.convert_time_zone("UTC") if "z" in time_format.lower() else value.dt.replace_time_zone("UTC")


def _epoch(number: pl.Expr, unit: str) -> pl.Expr:
    microseconds = (number * _MICROSECONDS[unit]).round().cast(pl.Int64, strict=False)
    return microseconds.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _iso(text: pl.Expr) -> pl.Expr:
    """`2020-01-31`, with a time after a blank or T, a fraction, and Z or an offset such as +02:00."""
    text = text.str.strip_suffix(" UTC").str.strip_suffix("Z").str.replace("T", " ", literal=True)
    text = text.str.replace_all("/", "-", literal=True)
    values = [text.str.to_datetime(form, time_unit="us", strict=False) for form in _ISO_FORMATS]
    values = [value.dt.replace_time_zone("UTC") for value in values]
    return pl.coalesce(*values, text.str.to_datetime(_ISO_OFFSET, time_unit="us", strict=False))


def _temporal(column: str, dtype: pl.DataType) -> pl.Expr:
    zone = getattr(dtype, "time_zone", None)
    value = pl.col(column).cast(pl.Datetime("us", zone))
    return value.dt.convert_time_zone("UTC") if zone else value.dt.replace_time_zone("UTC")
