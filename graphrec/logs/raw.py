"""What passes from a reader to the cleaning: unparsed events with their place in the source."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from graphrec.errors import nearest
from graphrec.logs.table import EVENT_TYPES
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

    Raises:
        ValueError: a column that has to be there is missing, or one has a name that nothing reads.
    """

    events: pl.LazyFrame
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    typed: bool = False

    def __post_init__(self) -> None:
        names, needed = self.events.collect_schema().names(), (FILE, LINE, PROBLEM, "user_id", "item_id")
        known = (FILE, LINE, PROBLEM, RAW, *EVENT_TYPES, "split")
        wrong = [name for name in names if name not in known]
        missing = [name for name in needed if name not in names]
        if wrong or missing:
            what = f"the unknown column {wrong[0]!r}{nearest(wrong[0], known)}" if wrong else f"no {missing[0]!r}"
            raise ValueError(f"RawLog: events may have the columns {', '.join(known)}, and need {', '.join(needed)}; got {what}")


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
