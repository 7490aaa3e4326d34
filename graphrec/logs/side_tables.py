"""Side tables of a log: attributes of users and items, social links, knowledge triples, item relations."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from graphrec.errors import LogError, nearest
from graphrec.logs import ids
from graphrec.logs.columns import ALIASES, plain
from graphrec.logs.delimited import Layout
from graphrec.logs.files import find_files, sniff_format
from graphrec.logs.jsonl import decode, first_keys
from graphrec.logs.media import read_media
from graphrec.logs.parquet import parquet_schema
from graphrec.logs.raw import LINE, PROBLEM, Source
from graphrec.logs.source import Column, LogSettings, SideTable
from graphrec.logs.table import EDGE_TABLES, Media
from graphrec.logs.text import open_text

_KEYS = {"users": ("user_id",), "items": ("item_id",), **EDGE_TABLES}
_OPTIONAL = {"social": {"weight"}, "item_relations": {"relation"}}
_USUAL: dict[str, tuple[str, ...]] = {
    "user_id": ALIASES["user_id"],
    "item_id": ALIASES["item_id"],
    "src": ("src", "source", "sourceid", "from", "truster", "follower"),
    "dst": ("dst", "target", "targetid", "to", "friend", "friendid", "trustee", "followee"),
    "head": ("head", "headid", "subject"),
    "relation": ("relation", "relationid", "predicate", "type"),
    "tail": ("tail", "tailid", "object"),
    "weight": ("weight", "strength"),
}


def read_tables(settings: LogSettings, given: dict[str, pl.DataFrame], source: Source) -> dict[str, pl.DataFrame]:
    """Read the side tables that the settings name, beside those that the log's format brought along: ids as read.

    Args:
        settings: the fields users, items, social, triples, item_relations.
        given: tables of the format, with their canonical names; the settings win over them.
        source: its spool receives copies; its progress is told what was skipped.

    Raises:
        LogError: a file is missing, empty or damaged, or lacks a column.
    """
    named = {kind: getattr(settings, kind) for kind in _KEYS}
    return given | {kind: read_table(table, kind, source) for kind, table in named.items() if table is not None}


def finish_tables(
    settings: LogSettings, tables: dict[str, pl.DataFrame], user_type: pl.DataType, item_type: pl.DataType, source: Source
) -> tuple[dict[str, pl.DataFrame], dict[str, Media]]:
    """Give the ids of side tables the types of the events' ids, and read the media that the settings name.

    Returns:
        Finished tables and media by name of the field of `InteractionLog`.

    Raises:
        LogError: a file of media is missing or damaged, or does not fit.
    """
    types = {"user_id": user_type, "item_id": item_type}
    finished = {kind: _finish(kind, frame, types, source) for kind, frame in tables.items()}
    media = {name: read_media(name, table, item_type) for name, table in settings.media.items()}
    return finished, media


def read_table(table: SideTable, kind: str, source: Source) -> pl.DataFrame:
    """Read one side table with its canonical columns first, ids as text or as typed in the file.

    The mapping wins, then usual names; link tables without either take the columns in order.
    """
    frames = [_read_file(path, table, kind, source) for path in find_files([table.path])]
    return pl.concat(frames, how="diagonal_relaxed")


def read_item_table(path: str, item_id: Column | None = None) -> pl.DataFrame:
    """Read a table of items that stands alone: ids first, as numbers where all of them are, then attributes.

    Args:
        path: the file.
        item_id: the column of the ids; None finds it by its usual names.

    Raises:
        LogError: the file is missing, empty or damaged, or has no column of ids.
    """
    with tempfile.TemporaryDirectory(prefix="graphrec-table-") as folder:
        source = Source([], Path(folder))
        frame = read_table(SideTable(path=path, columns={} if item_id is None else {"item_id": item_id}), "items", source)
        kind = pl.Int64() if _all_integers(frame["item_id"]) else pl.String()
        return _finish("items", frame, {"item_id": kind}, source)


def _read_file(path: Path, table: SideTable, kind: str, source: Source) -> pl.DataFrame:
    form = sniff_format(path)
    if form == "parquet":
        names = list(parquet_schema(path))
        frame = pl.scan_parquet(path, glob=False).collect()
    elif form == "jsonl":
        text = open_text(path, table.encoding, source)
        names = first_keys(text)
        frame = _sound(decode(text, {name: name for name in names}, source), path, source).select(names)
    else:
        text = open_text(path, table.encoding, source)
        layout = Layout.of(text, table.separator, table.header)
        names = layout.names
        rows = _sound(layout.scan(text, source), path, source)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise LogError(f"{path}: the column name {twice!r} occurs {names.count(twice)} times; rename one")
        frame = rows.select(pl.col(str(position)).alias(name) for position, name in enumerate(names))
    found = _find(names, table.columns, kind, str(path))
    rest = [name for name in names if name not in found.values()] if kind in ("users", "items") else []
    return frame.select(*[pl.col(name).alias(canonical) for canonical, name in found.items()], *rest)


def _sound(rows: pl.LazyFrame, path: Path, source: Source) -> pl.DataFrame:
    """The rows without a problem; the others are counted aloud."""
    frame = rows.collect(engine="streaming")
    bad = frame.filter(pl.col(PROBLEM).is_not_null())
    if bad.height == frame.height:
        raise LogError(f"{path}: no usable row; line {bad[LINE][0]}: {bad[PROBLEM][0]}; check separator and encoding")
    if bad.height:
        source.progress.note(
            f"{path}: {bad.height:,} rows skipped; the first is line {bad[LINE][0]}: {bad[PROBLEM][0]}"
        )
    return frame.filter(pl.col(PROBLEM).is_null())


def _find(names: Sequence[str], mapping: dict[str, Column], kind: str, where: str) -> dict[str, str]:
    """Canonical name to source name; the canonical ones first, then renamed attributes in the mapping's order."""
    found: dict[str, str] = {}
    for canonical, column in mapping.items():
        if isinstance(column, int) and column < len(names):
            found[canonical] = names[column]
        elif column in names:
            found[canonical] = str(column)
        else:
            raise LogError(
                f"{where}: no column {column!r} for {canonical}; the columns are {', '.join(names)}{nearest(column, names)}"
            )
    for key in _KEYS[kind]:
        if key not in found:
            usual = {plain(alias) for alias in (key, *_USUAL[key])}
            matches = [name for name in names if plain(name) in usual and name not in found.values()]
            if matches:
                found[key] = key if key in matches else matches[0]
    missing = [key for key in _KEYS[kind] if key not in found and key not in _OPTIONAL.get(kind, ())]
    free = [name for name in names if name not in found.values()]
    if missing and len(missing) <= len(free) and (kind in EDGE_TABLES or names[0] == "column 0"):
        found.update(zip(missing, free, strict=False))
    elif missing:
        raise LogError(
            f"{where}: no column for {missing[0]}; the columns are {', '.join(names)}{nearest(missing[0], names)}; "
            f"rename the one that is meant; for a table of [log] in a run file: {kind} = {{ path = \"{where}\", columns = {{ "
            f'{missing[0]} = "..." }} }}'
        )
    order = [key for key in _KEYS[kind] if key in found]
    return {key: found[key] for key in (*order, *[name for name in found if name not in order])}


def _finish(kind: str, frame: pl.DataFrame, types: dict[str, pl.DataType], source: Source) -> pl.DataFrame:
    """Give ids the type that they have in the events, attributes the type that they look like, and drop rows without id."""
    if kind == "triples":
        number = all(_all_integers(frame[name]) for name in ("head", "tail")) and types["item_id"] == pl.Int64
        columns = {
            "head": pl.Int64 if number else pl.String,
            "relation": pl.String,
            "tail": pl.Int64 if number else pl.String,
        }
    elif kind == "social":
        columns = {"src": types["user_id"], "dst": types["user_id"]}
    elif kind == "item_relations":
        frame = frame if "relation" in frame else frame.with_columns(relation=pl.lit("related"))
        columns = {"src": types["item_id"], "relation": pl.String, "dst": types["item_id"]}
    else:
        columns = {_KEYS[kind][0]: types[_KEYS[kind][0]]}
    finished = frame.with_columns(cast_id(frame, name, dtype) for name, dtype in columns.items())
    if kind == "social":
        weight = pl.col("weight").cast(pl.Float32, strict=False) if "weight" in frame else pl.lit(1.0, pl.Float32)
        finished = finished.with_columns(weight=weight.fill_nan(None).fill_null(1.0))
    if kind in EDGE_TABLES:  # what is missing or repeated is counted with its row when the graph is built
        return finished.select(EDGE_TABLES[kind])
    finished = finished.drop_nulls(list(columns))
    finished = _typed(finished.unique(list(columns), keep="first", maintain_order=True))
    if finished.height < frame.height:
        source.progress.note(
            f"{kind}: {frame.height - finished.height:,} of {frame.height:,} rows lack an id or repeat one"
        )
    return finished


def cast_id(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Expr:
    """The ids of a column as Int64 or String, null where that cannot be."""
    parse = ids.as_integer if dtype == pl.Int64 else ids.as_string
    return parse(name, frame.schema[name]).alias(name)


def _all_integers(column: pl.Series) -> bool:
    frame = column.alias("id").to_frame()
    return frame.select(ids.as_integer("id", column.dtype)).to_series().null_count() == column.null_count()


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn text attributes that are all numbers into numbers and blank ones into null; the id in front stays."""
    typed = []
    for name in frame.columns[1:]:
        if frame.schema[name] != pl.String:
            continue
        frame = frame.with_columns(pl.when(pl.col(name).str.strip_chars() != "").then(name).alias(name))
        present = frame.select(ids.text(name)).to_series()
        integers = frame.select(ids.as_integer(name, pl.String())).to_series()
        floats = present.cast(pl.Float64, strict=False)
        leading_zero = present.str.contains(r"^[+-]?0\d").any()
        if present.null_count() < len(present) and integers.null_count() == present.null_count():
            typed.append(integers.alias(name))
        elif present.null_count() < len(present) and floats.null_count() == present.null_count() and not leading_zero:
            typed.append(floats.alias(name))
    return frame.with_columns(typed)
