"""Side tables as arrays: which columns are numbers, which are categories, and which hold several values at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

_NOT_ATTRIBUTES = frozenset({"title", "name", "text", "description"})  # free text, which belongs to a text encoder
_SEPARATORS = ("|", ";", ",", " ")
_NUMBERS = 0.95  # share of the values of a text column that must be numbers for it to count as numeric
_MIN_ROWS = 5  # rows that must share a value
_MAX_VALUES = 100  # kept of a column, the most frequent ones


@dataclass(frozen=True)
class Attributes:
    """The attributes of n nodes.

    Attributes:
        numeric: column name to float32 (n,), NaN where missing.
        values: column name to float32 (n, V), 1 where the node has the value; V at most 100. A node without a known value has
            a row of zeros.
        value_names: column name to its V values, most frequent first.
    """

    numeric: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    value_names: dict[str, list[str]]


def read_attributes(table: pl.DataFrame | None) -> Attributes:
    """Sort the columns of a side table.

    Numbers, and text that is nearly always a number without a leading zero, are numeric. Text, booleans and lists are
    categorical; text with `|`, `;`, `,` or spaces is taken apart where the parts recur more often than the whole does. Only
    values that at least 5 nodes share are kept, so ids and free text drop out by themselves; a column without any is left
    out. `title`, `name`, `text` and `description` are never attributes.

    Args:
        table: as `GraphStore.table` gives it, row i for node i, ids first; None where the log has none.
    """
    found = Attributes({}, {}, {})
    for column in table.columns[1:] if table is not None else []:
        if column.lower() in _NOT_ATTRIBUTES:
            continue
        series = table[column]
        numbers = _numbers(series)
        if numbers is not None:
            found.numeric[column] = numbers
            continue
        lists = _lists(series)
        names = [] if lists is None else _frequent(lists)
        if names:
            found.values[column], found.value_names[column] = _indicators(lists, names), names
    return found


def _numbers(series: pl.Series) -> np.ndarray | None:
    """The column as float32 (n,), or None where it is not one of numbers or all its numbers are the same."""
    if series.dtype == pl.String:
        text = series.str.strip_chars()
        known = text.drop_nulls().filter(text.drop_nulls() != "")
        if known.str.contains(r"^0\d").any():  # zip codes and other codes
            return None
        series = text.cast(pl.Float64, strict=False)
        if len(known) == 0 or (len(series) - series.null_count()) < _NUMBERS * len(known):
            return None
    elif not (series.dtype.is_numeric() or series.dtype.is_temporal()):
        return None
    if series.dtype.is_temporal():
        series = series.to_physical()
    values = series.cast(pl.Float32).to_numpy(writable=True)
    values[~np.isfinite(values)] = np.nan
    known = values[np.isfinite(values)]
    return values if len(known) and np.ptp(known) > 0 else None


def _lists(series: pl.Series) -> pl.Series | None:
    """The column as lists of text, or None where it holds something else."""
    if isinstance(series.dtype, pl.List):
        inner = series.dtype.inner
        return series.cast(pl.List(pl.String)) if inner == pl.String or inner.is_integer() else None
    if series.dtype not in (pl.String, pl.Boolean) and not isinstance(series.dtype, pl.Categorical | pl.Enum):
        return None
    text = series.cast(pl.String)
    whole = _recurrence(text.drop_nulls())
    for separator in _SEPARATORS:
        if text.drop_nulls().str.contains(separator, literal=True).any():
            parts = text.str.split(separator)
            if _recurrence(parts.drop_nulls().explode()) > whole:
                return parts
    return text.map_elements(lambda value: [value], return_dtype=pl.List(pl.String))


def _recurrence(values: pl.Series) -> float:
    """How often a value comes on average."""
    return len(values) / max(1, values.n_unique())


def _frequent(lists: pl.Series) -> list[str]:
    """The values that enough rows have, but not all of them, most frequent first."""
    frame = pl.DataFrame({"row": np.arange(len(lists)), "value": lists}).explode("value")
    frame = frame.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value").fill_null("") != "").unique()
    counts = frame.group_by("value").len().filter((pl.col("len") >= _MIN_ROWS) & (pl.col("len") < len(lists)))
    return counts.sort(["len", "value"], descending=[True, False])["value"].head(_MAX_VALUES).to_list()


def _indicators(lists: pl.Series, names: list[str]) -> np.ndarray:
    frame = pl.DataFrame({"row": np.arange(len(lists)), "value": lists}).explode("value")
    frame = frame.with_columns(pl.col("value").str.strip_chars())
    place = {name: number for number, name in enumerate(names)}
    codes = frame["value"].replace_strict(place, default=-1, return_dtype=pl.Int64).to_numpy()
    rows = frame["row"].to_numpy()
    values = np.zeros((len(lists), len(names)), dtype=np.float32)
    values[rows[codes >= 0], codes[codes >= 0]] = 1.0
    return values
