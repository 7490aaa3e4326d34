"""What a log is read from: the `[log]` section of the run file, which is also the keyword arguments of `read_log`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from graphrec.logs import FORMATS
from graphrec.settings import Settings

Column = str | Annotated[int, Field(ge=0)]
"""A source column: its name, or its position from 0 in a file without header."""


def _as_table(value: Any) -> Any:
    return value if value is None or isinstance(value, dict | Settings) else {"path": value}


class ColumnMap(Settings):
    """Which source column holds what. A column that is not named here is found by its usual names (`userId`, `movieId`,
    `rating`, `time`, ...); a file without header has the user in its first and the item in its second column."""

    user_id: Column | None = None
    item_id: Column | None = None
    behavior: Column | None = None
    timestamp: Column | None = None
    weight: Column | None = None
    split: Column | None = None

    @model_validator(mode="after")
    def _distinct(self) -> ColumnMap:
        taken: dict[Column, str] = {}
        for name, column in self:
            if column is not None and taken.setdefault(column, name) != name:
                raise ValueError(f"{taken[column]} and {name} both name the source column {column!r}")
        return self


class SideTable(Settings):
    """One side table: a delimited, Parquet or JSON lines file, plain or compressed."""

    path: str
    columns: dict[str, Column] = Field(default_factory=dict)
    """Canonical name to source column, for the columns that are not called so already."""
    separator: str | None = None
    header: bool | None = None
    encoding: str = "utf-8"


class MediaTable(Settings):
    """Vectors of items: a Parquet file with a list column, or an `.npy` array of shape (n, F) beside its item ids."""

    path: str
    ids: str | None = None
    """`.npy` only: a file of n item ids, one a line (or `.npy`); without it row r belongs to the item id r.
    A file of which no id is an item is refused when the graph is built."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Parquet only: the source columns of `item_id` and `vector`."""


TableSource = Annotated[SideTable, BeforeValidator(_as_table)]
MediaSource = Annotated[MediaTable, BeforeValidator(_as_table)]


class LogSettings(Settings):
    """The `[log]` section: the source of the events, how to read it, and its side tables."""

    path: str | list[str] | None = None
    """A file, folder, glob or database URL, or a list of files and globs; `.gz` and `.zst` are unpacked."""
    format: str = "auto"
    """A key of `graphrec.logs.FORMATS`, or `auto`: by the name and the first bytes."""
    query: str | None = None
    """SQL only: the query whose rows are the events."""
    columns: ColumnMap = ColumnMap()
    separator: str | None = None
    """Delimited and adjacency text: what stands between fields; None finds it in the first lines."""
    header: bool | None = None
    """Delimited text: whether the first line names the columns; None: it does unless it holds a number."""
    encoding: str = "utf-8"
    decimal_comma: bool = False
    """Weights and numeric times that stand as text have a comma before their decimals, `3,5`, as in spreadsheets of many
    countries; fields need another separator then. A weight with a point is rejected, for it may stand between thousands."""
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Unit of numeric times since 1970; `auto` goes by their magnitude."""
    time_format: str | None = None
    """A strftime format such as `%d.%m.%Y %H:%M`, for times that are neither numbers nor ISO 8601."""
    id_type: Literal["auto", "integer", "string"] = "auto"
    """`auto`: ids that all look like integers become Int64, others String; `integer` rejects other rows."""
    default_behavior: str | None = Field(None, min_length=1)
    """The behaviour of rows that name none. Not set: `interaction` where no row does, and where others do such a row is rejected."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """Reading fails when more than this share of the rows is rejected."""
    duplicates: Literal["first", "last", "sum", "max", "mean", "keep"] = "first"
    """What becomes of several events of one (user, item, behaviour): the earliest or the latest is kept, or the weights
    are combined at the time of the earliest, or all stay. `first` is the one that lets no later event change an earlier
    part of a split by time."""
    users: TableSource | None = None
    items: TableSource | None = None
    social: TableSource | None = None
    """User to user links: `src`, `dst` and optionally `weight`, at least 0: how much a link counts beside the others."""
    triples: TableSource | None = None
    """Knowledge triples: `head`, `relation`, `tail`."""
    item_relations: TableSource | None = None
    """Item to item relations: `src`, `relation`, `dst`."""
    media: dict[str, MediaSource] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _commas_mean_one_thing(self) -> LogSettings:
        if self.decimal_comma and self.separator == ",":
            raise ValueError('commas cannot be both, got separator = "," with decimal_comma = true; leave one of them out')
        return self

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value != "auto" and value not in FORMATS:
            if value.startswith("ogb"):
                raise ValueError("an OGB folder is no log but a graph of links between nodes of one type; graphrec link FOLDER reads it")
            raise ValueError(f"choose one of auto, {', '.join(FORMATS)}")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError("no such encoding; common ones are utf-8, latin-1, cp1252, utf-16") from None
        return value
