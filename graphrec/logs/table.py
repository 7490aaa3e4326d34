"""The canonical schema of interaction logs: what every reader ends in and the graph builder starts from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from typing_extensions import Self

from graphrec.errors import LogError
from graphrec.logs.source import ColumnMap, LogSettings, MediaTable, SideTable

__all__ = [
    "EVENT_TYPES",
    "SPLITS",
    "ColumnMap",
    "InteractionLog",
    "LogSettings",
    "Media",
    "MediaTable",
    "RejectReport",
    "SideTable",
]

TIME = pl.Datetime("us", "UTC")
SPLITS = ("train", "valid", "test")
ID_TYPES = (pl.Int64, pl.String)
EVENT_TYPES: dict[str, tuple[type[pl.DataType] | pl.DataType, ...]] = {
    "user_id": ID_TYPES,
    "item_id": ID_TYPES,
    "behavior": (pl.String,),
    "timestamp": (TIME,),
    "weight": (pl.Float32,),
}
"""The columns of `InteractionLog.events` in order, with the types each may have; a log with a given split has
a sixth column `split` (String, one of `SPLITS`)."""

EDGE_TABLES: dict[str, tuple[str, ...]] = {
    "social": ("src", "dst", "weight"),
    "triples": ("head", "relation", "tail"),
    "item_relations": ("src", "relation", "dst"),
}
"""The columns of the side tables that hold links."""


_IDS: dict[str, dict[str, str]] = {
    "users": {"user_id": "user_id"},
    "items": {"item_id": "item_id"},
    "social": {"src": "user_id", "dst": "user_id"},
    "item_relations": {"src": "item_id", "dst": "item_id"},
}
"""The columns of side tables that hold ids of the events."""


def check_table(table: object, what: str) -> None:
    """Make sure that a table of rows is a Polars DataFrame; `what` is its name in the message.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(table, pl.DataFrame):
        mend = "collect it" if isinstance(table, pl.LazyFrame) else "try pl.from_pandas"
        raise TypeError(f"{what} must be a Polars DataFrame, got {type(table).__name__}; {mend}")


@dataclass(frozen=True)
class Media:
    """Vectors of items (of an image, a sound, a text), aligned by original item id.

    Args:
        ids: (n,) item ids, Int64 or String, without repetition.
        vectors: (n, F) float32, finite; an item without one is left out.

    Raises:
        ValueError: vectors are of another type or shape, one is not finite, or an id repeats.
    """

    ids: pl.Series
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32 or len(self.ids) != len(self.vectors):
            raise ValueError(
                f"Media: vectors must be float32 of shape (n, F) with n = {len(self.ids)} ids, "
                f"got {self.vectors.dtype} {self.vectors.shape}"
            )
        if self.ids.n_unique() < len(self.ids):
            raise ValueError(f"the item id {self.ids.filter(self.ids.is_duplicated())[0]!r} occurs twice; keep one row an item")
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise ValueError(f"row {bad[0]} and {len(bad) - 1} more hold NaN or infinite values; remove or replace them")


@dataclass(frozen=True)
class RejectReport:
    """The rows that were not used, and why.

    Args:
        total: rows read, good and bad.
        counts: rejected rows per reason.
        path: `rejected.parquet` with the columns file, line, reason, raw; None when nothing was rejected.
    """

    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    path: Path | None = None

    @property
    def rejected(self) -> int:
        """Number of rejected rows."""
        return sum(self.counts.values())

    @property
    def share(self) -> float:
        """Rejected rows among all rows read, 0 for an empty log."""
        return self.rejected / self.total if self.total else 0.0

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.counts.items()))
        return f"{self.rejected:,} of {self.total:,} rows rejected" + (f" ({reasons})" if reasons else "")


@dataclass(frozen=True, repr=False)
class InteractionLog:
    """Clean interaction events and the side tables that came with them.

    Rows of one user stand in source order; the (user, item, behaviour) triple occurs once unless the duplicates
    policy was `keep`, or the log was made in memory: its rows are taken as they are, and `check_rows` refuses bad ones. The events of a log that was read lie in a temporary folder, which `close`, the end of a `with`
    block or else the end of the process removes.

    Args:
        events: columns as in `EVENT_TYPES`, and `split` when the source gives a split; a DataFrame is taken, too.
        users: attributes of users as read; the first column is `user_id`.
        items: attributes of items as read; the first column is `item_id`.
        social: user to user links: src, dst (user ids), weight (Float32).
        triples: knowledge triples: head, relation, tail; head and tail are item ids or entity ids.
        item_relations: item to item relations: src, relation, dst (item ids).
        media: name to vectors.
        source: where the log came from, for people.
        rejected: the rows that were not used.
        settings: how it was read; None for a log made in memory.
        cache: the temporary folder of the events; None for a log made in memory.
    """

    events: pl.LazyFrame
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    social: pl.DataFrame | None = None
    triples: pl.DataFrame | None = None
    item_relations: pl.DataFrame | None = None
    media: dict[str, Media] = field(default_factory=dict)
    source: str = "memory"
    rejected: RejectReport = field(default_factory=RejectReport)
    settings: LogSettings | None = None
    cache: tempfile.TemporaryDirectory[str] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.events, pl.DataFrame):
            object.__setattr__(self, "events", self.events.lazy())
        if not isinstance(self.events, pl.LazyFrame):
            raise TypeError(f"InteractionLog: events must be a Polars frame, got {type(self.events).__name__}; try pl.from_pandas")
        for name in ("users", "items", *EDGE_TABLES):
            if getattr(self, name) is not None:
                check_table(getattr(self, name), f"InteractionLog: {name}")
        schema = self.events.collect_schema()
        for name, types in EVENT_TYPES.items():
            if schema.get(name) not in types:
                choices = " or ".join(str(dtype) for dtype in types)
                raise ValueError(
                    f"InteractionLog: events.{name} must be {choices}, got {schema.get(name, 'no such column')}"
                )
        for name, key in (("users", "user_id"), ("items", "item_id")):
            table = getattr(self, name)
            if table is not None and table.columns[:1] != [key]:
                raise ValueError(f"InteractionLog: the first column of {name} must be {key}, got {table.columns}")
        for name, columns in EDGE_TABLES.items():
            table = getattr(self, name)
            if table is not None and tuple(table.columns) != columns:
                raise ValueError(f"InteractionLog: {name} must have the columns {columns}, got {table.columns}")
        for name, columns in _IDS.items():
            table = getattr(self, name)
            for column, key in columns.items() if table is not None else ():
                if table.schema[column] != schema[key]:
                    raise ValueError(
                        f"InteractionLog: {name}.{column} must be {schema[key]}, as events.{key}, got {table.schema[column]}; cast it"
                    )

    def __repr__(self) -> str:
        tables = {name: getattr(self, name) for name in ("users", "items", *EDGE_TABLES)}
        parts = [f"{name} {table.shape}" for name, table in tables.items() if table is not None]
        parts += [f"media {name} {one.vectors.shape}" for name, one in self.media.items()]
        parts += [str(self.rejected)] if self.rejected.total else []
        return f"InteractionLog({', '.join([repr(self.source), *parts])})"

    def check_rows(self) -> None:
        """Make sure of the rows of a log made in memory, which no reader has cleaned: ids, behaviours and weights.

        Raises:
            LogError: a value is missing, blank or not finite; the message counts them by column.
        """
        blank = {name: pl.col(name).is_null() for name in ("user_id", "item_id", "behavior")}
        for name, is_bad in blank.items():
            if self.events.collect_schema()[name] == pl.String:
                blank[name] = is_bad | (pl.col(name).str.strip_chars() == "")
        weight = pl.col("weight")
        bad = {**blank, "weight": weight.is_null() | ~weight.is_finite()}
        if self.has_split:
            bad["split"] = ~pl.col("split").is_in(SPLITS).fill_null(True)
        counts = self.events.select(is_bad.sum().alias(name) for name, is_bad in bad.items()).collect(engine="streaming")
        found = {name: count for name, count in counts.row(0, named=True).items() if count}
        if found:
            listed = ", ".join(f"{count:,} in {name}" for name, count in found.items())
            raise LogError(
                f"the log {self.source} has values that are missing, blank, not finite or, of split, none of {', '.join(SPLITS)}: {listed}; drop or fill them, or "
                "write the frame to a Parquet file for read_log, which puts such rows aside"
            )

    def close(self) -> None:
        """Remove the temporary folder of the events; they cannot be read afterwards."""
        if self.cache is not None:
            self.cache.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def has_split(self) -> bool:
        """Whether the source gave a split: `events` then has a column `split` with "train", "valid" or "test"."""
        return "split" in self.events.collect_schema()

    @property
    def behaviors(self) -> list[str]:
        """The behaviours that occur, most frequent first, ties by name."""
        counts = self.events.group_by("behavior").len().sort(["len", "behavior"], descending=[True, False])
        return counts.collect(engine="streaming")["behavior"].to_list()
