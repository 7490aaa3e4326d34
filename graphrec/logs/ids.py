"""Ids of users and items: missing ones, and whether they are integers or text."""

from __future__ import annotations

import polars as pl

MISSING = ("", "null", "NULL", "None", "NaN", "nan", "NA", "N/A", "\\N")
"""Texts that stand for an absent value in exports of pandas, R and databases."""


def text(column: str, missing: tuple[str, ...] = MISSING) -> pl.Expr:
    """The trimmed text of a String column, null where it stands for an absent value."""
    trimmed = pl.col(column).str.strip_chars()
    return pl.when(~trimmed.is_in(missing)).then(trimmed)


def as_string(column: str, dtype: pl.DataType) -> pl.Expr:
    """The values of a column of any type as text, null where absent."""
    if dtype == pl.String:
        return text(column)
    if dtype.is_float():
        return pl.when(pl.col(column).is_not_nan()).then(pl.col(column).cast(pl.String))
    return pl.col(column).cast(pl.String, strict=False)


def as_integer(column: str, dtype: pl.DataType) -> pl.Expr:
    """The values of a column of any type as Int64, null where they are no integers.

    `12` and the `12.0` that pandas writes are integers; `007` and `+7` are texts.
    """
    return text_to_integer(text(column)) if dtype == pl.String else _number_to_integer(pl.col(column), dtype)


def text_to_integer(trimmed: pl.Expr) -> pl.Expr:
    """The Int64 that a trimmed text writes in its plainest form, null for any other text."""
    digits = trimmed.str.strip_suffix(".0")
    number = digits.cast(pl.Int64, strict=False)
    return pl.when(number.cast(pl.String) == digits).then(number)


def _number_to_integer(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype.is_float():
        value = pl.when(value.is_finite() & (value == value.round()) & (value.abs() < 2**53)).then(value)
    return value.cast(pl.Int64, strict=False)


def prepare(events: pl.LazyFrame, column: str, dtype: pl.DataType) -> pl.LazyFrame:
    """Add `COLUMN.text` and `COLUMN.integer`, computed once for counting and parsing."""
    events = events.with_columns(as_string(column, dtype).alias(f"{column}.text"))
    integer = text_to_integer(pl.col(f"{column}.text")) if dtype == pl.String else as_integer(column, dtype)
    return events.with_columns(integer.alias(f"{column}.integer"))


def profile(column: str) -> list[pl.Expr]:
    """Count the ids that are present and those that are integers, in prepared events."""
    return [pl.col(f"{column}.{kind}").count().alias(f"{column}.{kind}") for kind in ("text", "integer")]


def parse(column: str, integer: bool) -> tuple[pl.Expr, pl.Expr]:
    """The id and the reason why it is bad (null for a good one), in prepared events."""
    value = pl.col(f"{column}.integer" if integer else f"{column}.text")
    reason = pl.lit(f"missing {column}")
    if integer:
        reason = pl.when(pl.col(f"{column}.text").is_null()).then(reason).otherwise(pl.lit(f"{column} is no integer"))
    return value, pl.when(value.is_null()).then(reason)
