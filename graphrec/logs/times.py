"""Timestamps: epoch seconds, milliseconds, microseconds, nanoseconds, ISO 8601 texts and texts of a given format."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import polars as pl

from graphrec.logs import ids

_MICROSECONDS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
_BELOW = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": float("inf")}
"""The unit of a number by its magnitude: 1e11 is the year 5138 in seconds and March 1973 in milliseconds."""
_SPOKEN = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "iso": "ISO 8601 texts"}
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ISO_OFFSET = "%Y-%m-%d %H:%M:%S%.f%#z"
_SLACK = datetime.timedelta(days=1)  # clocks and time zones differ


def profile(column: str, dtype: pl.DataType) -> list[pl.Expr]:
    """Count the values of each unit; text that is neither a number nor a date counts nowhere."""
    if dtype.is_temporal():
        return []
    unit = _unit(column, dtype)
    return [(unit == name).sum().alias(f"{column}.{name}") for name in _SPOKEN]


def usual_unit(column: str, counts: Mapping[str, int]) -> str:
    """The most frequent of s, ms, us, ns, iso in a profile; seconds when there is no value."""
    return max(_SPOKEN, key=lambda unit: counts.get(f"{column}.{unit}") or 0)


def parse(
    column: str, dtype: pl.DataType, unit: str, time_format: str | None = None, *, judge: bool = True
) -> tuple[pl.Expr, pl.Expr]:
    """The time as `Datetime('us', 'UTC')` and the reason why it is bad (null for a good or absent one).

    Args:
        column: the raw column.
        dtype: its type.
        unit: s, ms, us, ns or iso; a time without zone is taken as UTC.
        time_format: a strftime format that wins over `unit`, or None.
        judge: refuse values whose magnitude is that of another unit.
    """
    present = _text(column, dtype).is_not_null() if not dtype.is_temporal() else pl.col(column).is_not_null()
    other_unit = pl.lit(False)
    if dtype.is_temporal():
        value = _temporal(column, dtype)
    elif time_format is not None:
        value = _text(column, dtype).str.to_datetime(time_format, time_unit="us", strict=False)
        value = value if "z" in time_format.lower() else value.dt.replace_time_zone("UTC")
    else:
        value = _iso(_text(column, dtype)) if unit == "iso" else _epoch(_number(column, dtype), unit)
        other_unit = (_unit(column, dtype) != unit) if judge else other_unit
    latest = datetime.datetime.now(datetime.timezone.utc) + _SLACK
    problem = (
        pl.when(~present)
        .then(None)
        .when(other_unit)
        .then(pl.lit(f"timestamp in another unit than the usual {_SPOKEN[unit]}"))
        .when(value.is_null())
        .then(pl.lit("unparsable timestamp"))
        .when(value > latest)
        .then(pl.lit("timestamp in the future"))
        .when(value.dt.year() < 1970)
        .then(pl.lit("timestamp before 1970"))
    )
    return value, problem


def _text(column: str, dtype: pl.DataType) -> pl.Expr:
    return ids.text(column) if dtype == pl.String else pl.col(column).cast(pl.String)


def _number(column: str, dtype: pl.DataType) -> pl.Expr:
    number = (ids.text(column) if dtype == pl.String else pl.col(column)).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _unit(column: str, dtype: pl.DataType) -> pl.Expr:
    magnitude = _number(column, dtype).abs()
    unit = pl.when(magnitude < _BELOW["s"]).then(pl.lit("s"))
    for name in ("ms", "us", "ns"):
        unit = unit.when(magnitude < _BELOW[name]).then(pl.lit(name))
    return unit.when(_text(column, dtype).str.slice(4, 1).is_in(["-", "/"])).then(pl.lit("iso"))


def _epoch(number: pl.Expr, unit: str) -> pl.Expr:
    microseconds = (number * _MICROSECONDS[unit]).round().cast(pl.Int64, strict=False)
    return microseconds.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _iso(text: pl.Expr) -> pl.Expr:
    """`2020-01-31`, with a time after a blank or T, a fraction, and Z or an offset such as +02:00."""
    text = text.str.replace("T", " ", literal=True).str.strip_suffix("Z").str.strip_suffix(" UTC")
    text = text.str.replace_all("/", "-", literal=True)
    values = [text.str.to_datetime(form, time_unit="us", strict=False) for form in _ISO_FORMATS]
    values = [value.dt.replace_time_zone("UTC") for value in values]
    return pl.coalesce(*values, text.str.to_datetime(_ISO_OFFSET, time_unit="us", strict=False))


def _temporal(column: str, dtype: pl.DataType) -> pl.Expr:
    zone = getattr(dtype, "time_zone", None)
    value = pl.col(column).cast(pl.Datetime("us", zone))
    return value.dt.convert_time_zone("UTC") if zone else value.dt.replace_time_zone("UTC")
