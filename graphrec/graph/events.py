"""Interaction events as compact NumPy columns: what a build works on instead of the log's original ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from graphrec.errors import ConfigError, StoreError, unknown_name
from graphrec.graph.ids import IdMap
from graphrec.graph.split import NO_TIME, SIDES
from graphrec.logs.table import InteractionLog


@dataclass
class Events:
    """Events of a log with ids replaced by codes, about 22 bytes an event.

    Attributes:
        users, items: all ids of the log, also of events that never reach training; a code is an index into them.
        behaviors: behaviour names; `behavior` holds indices into them.
        user, item: int32 codes (E,).
        behavior: uint8 (E,).
        weight: float32 (E,).
        timestamp: int64 µs since 1970, UTC (E,), `NO_TIME` where missing; None where no event has one.
        given: uint8 (E,) sides of the split that the source gives, or None.
    """

    users: IdMap
    items: IdMap
    behaviors: list[str]
    user: np.ndarray
    item: np.ndarray
    behavior: np.ndarray
    weight: np.ndarray
    timestamp: np.ndarray | None
    given: np.ndarray | None

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: np.ndarray) -> Events:
        """Return the events at `rows`, a boolean mask or positions."""
        return Events(
            self.users,
            self.items,
            self.behaviors,
            self.user[rows],
            self.item[rows],
            self.behavior[rows],
            self.weight[rows],
            None if self.timestamp is None else self.timestamp[rows],
            None if self.given is None else self.given[rows],
        )


def encode(log: InteractionLog, min_weight: float | None = None) -> tuple[Events, int]:
    """Read the events of a log into codes, in one streaming pass after a pass for the distinct ids.

    Args:
        log: the log.
        min_weight: events of a smaller weight are left out.

    Returns:
        the events in source order, and how many were left out for their weight.

    Raises:
        StoreError: no event is left.
    """
    events = log.events
    total = int(events.select(pl.len()).collect(engine="streaming").item())
    if min_weight is not None:
        events = events.filter(pl.col("weight") >= min_weight)
    users, items, behaviors = _distinct(events, "user_id"), _distinct(events, "item_id"), _distinct(events, "behavior")
    if len(users) == 0:
        reason = (
            f"none of its {total:,} events has weight {min_weight} or more; lower min_weight" if total else "no events"
        )
        raise StoreError(f"the log {log.source} cannot be built: {reason}")
    columns = [_code("user_id", users), _code("item_id", items), _code("behavior", behaviors)]
    columns += [pl.col("timestamp").to_physical(), pl.col("weight").cast(pl.Float32)]
    if log.has_split:
        columns.append(_code("split", pl.Series(SIDES, dtype=pl.String)))
    frame = events.select(columns).collect(engine="streaming")
    # Each column leaves the frame as soon as its array exists, so only one is in memory twice.
    user = _to_codes(frame.drop_in_place("user_id"), users, np.int32)
    item = _to_codes(frame.drop_in_place("item_id"), items, np.int32)
    behavior = frame.drop_in_place("behavior").to_numpy().astype(np.uint8, copy=False)
    timestamp = _timestamps(frame.drop_in_place("timestamp"))
    weight = frame.drop_in_place("weight").to_numpy(writable=True)
    given = _given(frame.drop_in_place("split"), log.source) if log.has_split else None
    coded = Events(
        IdMap(users, "user"), IdMap(items, "item"), behaviors.to_list(), user, item, behavior, weight, timestamp, given
    )
    return coded, total - len(coded)


def choose_target(events: Events, wanted: str | None) -> int:
    """Return the code of the target behaviour: the one asked for, else the rarest (the end of a funnel such as view →
    cart → purchase), ties by name.

    Raises:
        ConfigError: the log has no such behaviour; the message lists those it has.
    """
    if wanted is None:
        return int(np.argmin(np.bincount(events.behavior, minlength=len(events.behaviors))))
    if wanted not in events.behaviors:
        raise unknown_name("target behaviour", wanted, events.behaviors)
    return events.behaviors.index(wanted)


def _distinct(events: pl.LazyFrame, column: str) -> pl.Series:
    return events.select(pl.col(column).unique()).collect(engine="streaming")[column].drop_nulls().sort()


def _code(column: str, values: pl.Series) -> pl.Expr:
    # Strings become codes inside the streaming query; integers are already small and are looked up afterwards.
    if values.dtype == pl.String:
        return pl.col(column).cast(pl.Enum(values)).to_physical()
    return pl.col(column)


def _to_codes(column: pl.Series, values: pl.Series, dtype: type) -> np.ndarray:
    if values.dtype == pl.String:
        return column.to_numpy().astype(dtype, copy=False)
    known, wanted = values.to_numpy(), column.to_numpy()
    first, last = int(known[0]), int(known[-1])
    if last - first >= 4 * len(wanted) + 1_000_000:
        return np.searchsorted(known, wanted).astype(dtype)
    table = np.zeros(last - first + 1, dtype=dtype)
    table[known - first] = np.arange(len(known), dtype=dtype)
    return table[wanted - first]


def _timestamps(column: pl.Series) -> np.ndarray | None:
    if column.null_count() == len(column):
        return None
    return column.fill_null(NO_TIME).to_numpy(writable=True)


def _given(column: pl.Series, source: str) -> np.ndarray | None:
    missing = column.null_count()
    if missing == len(column):
        return None
    if missing:
        raise ConfigError(
            f"{source}: {missing:,} of {len(column):,} events have no value in the split column; "
            "every event needs train, valid or test"
        )
    return column.to_numpy().astype(np.uint8, copy=False)
