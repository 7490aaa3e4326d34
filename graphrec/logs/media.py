"""Vectors of items: `.npy` arrays beside their ids, or a list column of a Parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from graphrec.errors import LogError
from graphrec.logs import ids
from graphrec.logs.columns import find_columns
from graphrec.logs.files import bare_suffix, find_files, first_bytes
from graphrec.logs.parquet import parquet_schema
from graphrec.logs.source import MediaTable
from graphrec.logs.table import Media


def read_media(name: str, table: MediaTable, item_type: pl.DataType) -> Media:
    """Read the vectors called `name`.

    Args:
        name: for messages.
        table: the file and where its ids are.
        item_type: type of the events' item ids, which the ids take.

    Raises:
        LogError: a file is missing or damaged, vectors and ids do not fit, an id repeats, or a value is not finite.
    """
    path = find_files([table.path])[0]
    if bare_suffix(path) == ".npy":
        vectors = _load_array(path)
        known = _read_ids(table.ids, len(vectors), path)
    else:
        known, vectors = _read_parquet(path, table)
    frame = known.alias("item_id").to_frame()
    parse = ids.as_integer if item_type == pl.Int64 else ids.as_string
    known = frame.select(parse("item_id", known.dtype).alias("item_id")).to_series()
    if known.null_count():
        row = int(known.is_null().arg_max() or 0)
        raise LogError(
            f"{path} ({name}): row {row} has the item id {frame['item_id'][row]!r}, but item ids are {item_type}"
        )
    try:
        return Media(known, vectors)
    except ValueError as problem:
        raise LogError(f"{path} ({name}): {problem}") from None


def _load_array(path: Path) -> np.ndarray:
    first_bytes(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LogError(
            f"{path}: cannot read it as a .npy array ({error}); it is damaged, cut short or pickled"
        ) from error
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise LogError(f"{path}: vectors must be a numeric array of shape (n, F), got {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _read_ids(source: str | None, count: int, vectors: Path) -> pl.Series:
    if source is None:
        return pl.Series(np.arange(count, dtype=np.int64))
    path = find_files([source])[0]
    if bare_suffix(path) == ".npy":
        known = pl.Series(np.load(path, allow_pickle=False))
    else:
        known = pl.Series(first_bytes(path, -1).decode("utf-8-sig").split())
    if len(known) != count:
        raise LogError(
            f"{path} holds {len(known):,} ids but {vectors} {count:,} vectors; they must be as many, in the same order"
        )
    return known


def _read_parquet(path: Path, table: MediaTable) -> tuple[pl.Series, np.ndarray]:
    schema = parquet_schema(path)
    names = list(schema)
    ids_at = find_columns(names, {"item_id": table.columns.get("item_id")}, str(path))["item_id"]
    lists = [name for name in names if schema[name].is_nested()]
    column = table.columns.get("vector") or (lists[0] if len(lists) == 1 else None)
    if column not in names:
        raise LogError(
            f"{path}: no column {column or 'of lists'} for the vectors; the columns are {', '.join(names)}; name it with columns"
        )
    frame = pl.read_parquet(path, columns=[names[ids_at], column], glob=False)
    vectors = frame[column].cast(pl.List(pl.Float32), strict=False)
    width = vectors.list.len().max()
    if vectors.null_count() or vectors.list.len().n_unique() > 1 or not width:
        row = int((vectors.list.len().fill_null(0) != width).arg_max() or 0)
        raise LogError(
            f"{path}: every vector must hold {width} numbers, but row {row} has another length; pad or drop it"
        )
    flat = vectors.list.explode().to_numpy()
    return frame[names[ids_at]], np.ascontiguousarray(flat.reshape(len(frame), width), dtype=np.float32)
