"""What passes from a reader to the cleaning: unparsed events with their place in the source."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from graphrec.progress import SILENT, Reporter

FILE, LINE, PROBLEM, RAW = "_file", "_line", "_problem", "_raw"
"""Columns beside the canonical ones: source file, line or row from 1, why the reader already refuses the row (or null),
and the row as it stands in the source."""

_numbers: Iterator[int] = itertools.count()


@dataclass(frozen=True)
class Source:
    """What a reader reads and where it may write copies.

    Args:
        paths: existing files or folders; empty for a database.
        spool: a temporary folder that lives as long as the log.
        progress: told what a person should know.
    """

    paths: list[Path]
    spool: Path
    progress: Reporter = SILENT

    def spool_path(self, suffix: str) -> Path:
        """A new path in the spool."""
        return self.spool / f"spool{next(_numbers)}{suffix}"


@dataclass(frozen=True)
class RawLog:
    """Events as text or in the types of the source, and the side tables that the format carries.

    Args:
        events: FILE, LINE, PROBLEM, optionally RAW, and canonical columns (`user_id` and `item_id` at least).
        tables: side tables under the names of the fields of `InteractionLog`.
        typed: the source tells text from numbers, so that an id such as "12" stays text.
    """

    events: pl.LazyFrame
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    typed: bool = False


def combine(parts: Sequence[RawLog]) -> RawLog:
    """Put the events of several files under each other; columns whose types differ become text."""
    frames = [part.events for part in parts]
    schemas = [frame.collect_schema() for frame in frames]
    types: dict[str, set[pl.DataType]] = {}
    for schema in schemas:
        for name, dtype in schema.items():
            types.setdefault(name, set()).add(dtype)
    mixed = [name for name, found in types.items() if len(found) > 1]
    frames = [
        frame.with_columns(pl.col(name).cast(pl.String) for name in mixed if name in schema)
        for frame, schema in zip(frames, schemas, strict=True)
    ]
    return RawLog(pl.concat(frames, how="diagonal"), typed=all(part.typed for part in parts))
