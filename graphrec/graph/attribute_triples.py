"""Triples of a knowledge graph from the attributes of items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from graphrec.errors import ConfigError, nearest
from graphrec.logs.table import InteractionLog


def attribute_triples(items: pl.DataFrame, columns: Sequence[str], separators: str = "|,;") -> pl.DataFrame:
    """Turn columns of an item table into triples (item, column, "column=value").

    A list column, and a text column with separators, give one triple for each value; whole numbers and truth values count as
    categories. Empty values give none. The column's name before the value keeps the values of two columns apart, and no
    entity can be taken for an item.

    Args:
        items: ids first, then attributes.
        columns: which of the attributes.
        separators: characters that part several values in a text column; "" for none.

    Returns:
        A table of head (as the ids), relation and tail (String), each row once.

    Raises:
        ConfigError: a column is not there, holds fractions or nested values, or has no value at all.
    """
    key, attributes = items.columns[0], items.columns[1:]
    parts = []
    for name in dict.fromkeys(columns):
        if name not in attributes:
            raise ConfigError(
                f"attribute_triples: the item table has no attribute {name!r}; it has {', '.join(attributes) or 'none'}"
                f"{nearest(name, attributes)}"
            )
        rows = pl.DataFrame({"head": items[key], "value": _values(items[name], separators)}).explode("value")
        rows = rows.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value").str.len_chars() > 0)
        if rows.is_empty():
            raise ConfigError(
                f"attribute_triples: the attribute {name!r} is empty for all {len(items):,} items; leave it out"
            )
        tail = pl.lit(f"{name}=") + pl.col("value")
        parts.append(rows.select("head", relation=pl.lit(name), tail=tail).unique(maintain_order=True))
    return pl.concat(parts)


def with_attribute_triples(log: InteractionLog, columns: Sequence[str], separators: str = "|,;") -> InteractionLog:
    """Return the log with the triples of attributes beside those that it has.

    Raises:
        ConfigError: the log has no item table, a relation of the log has the name of a column, or as `attribute_triples`.
    """
    if log.items is None:
        raise ConfigError(
            f"attribute_triples = {list(columns)} needs a table of items, and the log has none; name it with [log] items"
        )
    made = attribute_triples(log.items, columns, separators)
    if log.triples is None:
        return replace(log, triples=made)
    both = set(log.triples["relation"].cast(pl.String).unique()) & set(columns)
    if both:
        raise ConfigError(
            f"attribute_triples: the log's triples already have {len(both)} relation(s) of that name, such as {min(both)!r}; "
            "rename the column of the item table"
        )
    casts = pl.col("head").cast(made.schema["head"], strict=False), pl.col("tail").cast(pl.String)
    if log.triples.schema["head"] != made.schema["head"]:  # heads that are no item ids are entities, and entities are text
        casts, made = (pl.col("head", "tail").cast(pl.String),), made.with_columns(pl.col("head").cast(pl.String))
    columns_kept = log.triples.select("head", pl.col("relation").cast(pl.String), "tail").with_columns(*casts)
    return replace(log, triples=pl.concat([columns_kept, made]))


def _values(column: pl.Series, separators: str) -> pl.Series:
    """A list of texts for each item."""
    if isinstance(column.dtype, pl.List) and not column.dtype.inner.is_nested():
        return column.cast(pl.List(pl.String))
    whole = column.dtype.is_integer() or (
        column.dtype.is_float() and bool(((column.round() == column) | column.is_null()).all())
    )
    if column.dtype.is_float() and whole:
        column = column.cast(pl.Int64)
    if not whole and column.dtype not in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        raise ConfigError(
            f"attribute_triples: {column.name!r} must hold categories or lists of them, got {column.dtype}; make bins of it, or "
            "leave it out"
        )
    text = column.cast(pl.String).to_frame("value")
    if separators and column.dtype == pl.String:
        first, others = separators[0], separators[1:]
        value = pl.col("value").str.replace_all(f"[{re.escape(others)}]", first) if others else pl.col("value")
        return text.select(value.str.split(first)).to_series()
    return text.select(pl.concat_list("value")).to_series()
