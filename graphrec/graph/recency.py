"""How much a training event counts for its age: 0.5^(age / half-life)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphrec.errors import ConfigError
from graphrec.graph.split import NO_TIME

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_DAY = 86_400e6  # µs


def half_lives(timestamp: np.ndarray, half_life_days: float, latest: int | None = None) -> np.ndarray:
    """Age in half-lives.

    Args:
        timestamp: int64 µs (E,), `NO_TIME` where missing.
        half_life_days: days, above 0.
        latest: µs, what age counts back from; None: the latest of the events.

    Returns:
        float64 (E,), at least 0; an event without a time counts as the latest.
    """
    known = timestamp != NO_TIME
    age = np.zeros(len(timestamp))
    if known.any():
        age[known] = ((timestamp[known].max() if latest is None else latest) - timestamp[known]) / _DAY / half_life_days
    return age


def edge_ages(store: GraphStore, half_life_days: float, where: str) -> np.ndarray:
    """Age in half-lives of each training pair of the target behaviour; of its latest event, where it has several.

    It counts back from the last training event of any behaviour.

    Args:
        store: the graph store.
        half_life_days: days, above 0.
        where: what asks, for messages ("train").

    Returns:
        float64 (E,), in the order of `store.train_matrix().indices`.

    Raises:
        ConfigError: no such event has a time.
    """
    train = store.interactions("train")
    if train.timestamp is None:
        raise ConfigError(
            f"{where}: half_life_days = {half_life_days:g} needs timestamps, and no training event of {store.target_behavior!r} has "
            "one; leave it out, or build from a log with times"
        )
    pairs = train.user * store.num_items + train.item  # ascending
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    latest = store.events("train")["timestamp"].to_physical().max()
    return half_lives(np.maximum.reduceat(train.timestamp, first), half_life_days, latest)


def half_life_of(store: GraphStore) -> float | None:
    """The half-life in days that the training weights of `store` were built with; None where age does not count."""
    return store.manifest.settings.get("half_life_days")
