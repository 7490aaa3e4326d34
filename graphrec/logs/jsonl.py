"""JSON lines: one object a line. Keys are columns; nested values are kept as their JSON text, but not as ids or behaviours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.columns import find_columns
from graphrec.logs.raw import PROBLEM, RAW, RawLog, Source
from graphrec.logs.source import LogSettings
from graphrec.logs.text import TextFile, open_text, scan_lines

_SAMPLE = 200  # lines whose keys are looked at to find the columns
_BATCH = 200_000  # lines decoded at once
_PLAIN = ("user_id", "item_id", "behavior")  # an object as one of these would be taken for a text
_OBJECT = r'^\{\s*"'


def read(source: Source, settings: LogSettings) -> RawLog:
    """Read JSON lines files; a line that is no object is a bad row.

    Raises:
        LogError: a file is empty or damaged, none of its first lines holds an object, or there is no key for the user or
            the item.
    """
    frames = [_read_file(path, source, settings) for path in source.paths]
    return RawLog(pl.concat(frames, how="diagonal"))


def _read_file(path: Path, source: Source, settings: LogSettings) -> pl.LazyFrame:
    text = open_text(path, settings.encoding, source)
    keys = first_keys(text)
    found = find_columns(keys, dict(settings.columns), text.name)
    return decode(text, {name: keys[position] for name, position in found.items()}, source)


def first_keys(text: TextFile) -> list[str]:
    """The keys that occur in the first lines, in order of appearance.

    Raises:
        LogError: none of these lines is a JSON object.
    """
    keys: dict[str, None] = {}
    for line in text.head(_SAMPLE):
        keys.update(dict.fromkeys(_object(line) or ()))
    if not keys:
        raise LogError(f"{text.name}: none of the first lines is a JSON object; give one object a line (JSON lines)")
    return list(keys)


def decode(text: TextFile, columns: dict[str, str], source: Source) -> pl.LazyFrame:
    """FILE, LINE, RAW, PROBLEM (of `logs.raw`) and the mapped keys as text.

    The lines are decoded once, batch by batch, into Parquet files of the spool. Polars decodes a batch unless some line
    of it is no plain object; then Python decodes that batch.

    Args:
        text: the file.
        columns: canonical name to key.
        source: owner of the spool.
    """
    parts = []
    for batch in scan_lines(text).collect_batches(chunk_size=_BATCH, maintain_order=True):
        parts.append(source.spool_path(".parquet"))
        fields = _decode_fast(batch[RAW], columns)
        if fields is None:
            fields = _decode_slow(batch[RAW], columns)
        nested = [
            pl.when(fields[name].str.contains(_OBJECT)).then(pl.lit(f"nested {name}")) for name in columns if name in _PLAIN
        ]
        problem = pl.coalesce(PROBLEM, pl.when(fields["_bad"]).then(pl.lit("not a JSON object")), *nested)
        batch = batch.with_columns(problem.alias(PROBLEM), *[fields[name] for name in columns])
        batch.write_parquet(parts[-1], compression="lz4", statistics=False)
    if not parts:
        raise LogError(f"{text.name} holds no rows, only blank lines; check how it was written")
    return pl.scan_parquet(parts, glob=False)


def _decode_fast(lines: pl.Series, columns: dict[str, str]) -> pl.DataFrame | None:
    try:
        objects = lines.str.json_decode(pl.Struct(dict.fromkeys(columns.values(), pl.String)))
    except pl.exceptions.PolarsError:
        return None
    fields = objects.struct
    return pl.DataFrame({"_bad": objects.is_null(), **{name: fields.field(key) for name, key in columns.items()}})


def _decode_slow(lines: pl.Series, columns: dict[str, str]) -> pl.DataFrame:
    rows = []
    for line in lines:
        parsed = _object(line)
        rows.append((parsed is None, *[_as_text(parsed, key, line) if parsed else None for key in columns.values()]))
    return pl.DataFrame(rows, schema={"_bad": pl.Boolean, **dict.fromkeys(columns, pl.String)}, orient="row")


def _object(line: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)  # numbers stay as written
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _as_text(parsed: dict[str, Any], key: str, line: str) -> str | None:
    value = parsed.get(key)
    return value if value is None or isinstance(value, str) else json.dumps(json.loads(line)[key], ensure_ascii=False)
