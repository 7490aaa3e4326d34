"""Ids of users and items: missing ones, and whether they are integers or text."""

from __future__ import annotations

import polars as pl

MISSING = ("", "null", "NULL", "None", "NaN", "nan", "NA", "N/A", "\\N")
"""Texts that stand for an absent value in exports of pandas, R and databases."""


def text(column: str, missing: tuple[str, ...] = MISSING) -> pl.Expr:
    """The trimmed text of a String column, null where it stands for an absent value."""
    trimmed = pl.col(column).str.strip_chars()
    return pl.when(~trimmed.is_in(missing)).then(trimmed)


def as_integer(column: str, dtype: pl.DataType) -> pl.Expr:
    """The id as Int64, null where it is no integer. `12` and the `12.0` of pandas are integers, `007` and `+7` are texts."""
    if dtype == pl.String:
        digits = text(column).str.strip_suffix(".0")
        number = digits.cast(pl.Int64, strict=False)
        return pl.when(number.cast(pl.String) == digits).then(number)
    value = pl.col(column)
    if dtype.is_float():
        value = pl.when(value.is_finite() & (value == value.round()) & (value.abs() < 2**53)).then(value)
    return value.cast(pl.Int64, strict=False)


def as_string(column: str, dtype: pl.DataType) -> pl.Expr:
    """The id as text, null where it is absent."""
    if dtype == pl.String:
        return text(column)
    if dtype.is_float():
        return pl.when(pl.col(column).is_not_nan()).then(pl.col(column).cast(pl.String))
    return pl.col(column).cast(pl.String, strict=False)


def profile(column: str, dtype: pl.DataType) -> list[pl.Expr]:
    """Count the ids that are present and those that are integers."""
    return [
        as_string(column, dtype).count().alias(f"{column}.present"),
        as_integer(column, dtype).count().alias(f"{column}.integers"),
    ]


def parse(column: str, dtype: pl.DataType, integer: bool) -> tuple[pl.Expr, pl.Expr]:
    """The parsed id and the reason why it is bad (null for a good one)."""
    present = as_string(column, dtype)
    value = as_integer(column, dtype) if integer else present
    problem = (
        pl.when(present.is_null())
        .then(pl.lit(f"missing {column}"))
        .when(value.is_null())
        .then(pl.lit(f"{column} is no integer"))
    )
    return value, problem
