"""Parquet files, in the types they hold."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.columns import find_columns
from graphrec.logs.raw import FILE, LINE, PROBLEM, RawLog, Source, combine
from graphrec.logs.source import LogSettings


def read(source: Source, settings: LogSettings) -> RawLog:
    """Read Parquet files lazily; LINE is the row from 1.

    Columns whose types differ between the files are read as text.

    Raises:
        LogError: a file is damaged or lacks a column, or a column is nested.
    """
    return combine([RawLog(scan(path, settings), typed=True) for path in source.paths])


def scan(path: Path, settings: LogSettings, name: str | None = None) -> pl.LazyFrame:
    """One file's canonical columns with their place in the source, which is called `name` in messages."""
    schema = parquet_schema(path)
    found = find_columns(list(schema), dict(settings.columns), name or str(path))
    names = list(schema)
    for canonical, position in found.items():
        if schema[names[position]].is_nested():
            raise LogError(
                f"{name or path}: the column {names[position]!r} for {canonical} is nested ({schema[names[position]]}); write the part "
                f"that is meant to a column of its own, or name another one with columns"
            )
    frame = pl.scan_parquet(path, row_index_name=LINE, row_index_offset=1, glob=False)
    return frame.select(
        pl.lit(name or str(path)).alias(FILE),
        pl.col(LINE).cast(pl.Int64),
        pl.lit(None, pl.String).alias(PROBLEM),
        *[_plain(names[position], schema).alias(canonical) for canonical, position in found.items()],
    )


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """The columns of a Parquet file.

    Raises:
        LogError: the file is no Parquet, or cut short.
    """
    try:
        return dict(pl.read_parquet_schema(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LogError(
            f"{path}: cannot read it as a Parquet file ({_first(error)}); it is damaged or cut short"
        ) from error


def _plain(column: str, schema: dict[str, pl.DataType]) -> pl.Expr:
    """Categories and bytes as text, everything else as it is."""
    dtype = schema[column]
    simple = dtype.is_numeric() or dtype.is_temporal() or dtype == pl.String
    return pl.col(column) if simple else pl.col(column).cast(pl.String, strict=False)


def _first(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
