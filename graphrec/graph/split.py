"""Which events are for training, which for validation and which for testing.

Every method looks at the target behaviour to choose what is held out. The other behaviours' events that would give the
answer away leave training too: those at or after the held-out event, and those on the same (user, item) pair.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from graphrec.errors import ConfigError, StoreError
from graphrec.graph.ids import distinct
from graphrec.settings import Settings

TRAIN, VALID, TEST = 0, 1, 2
SIDES = ("train", "valid", "test")
NO_TIME = np.iinfo(np.int64).min
"""Stands for a missing timestamp; as a `datetime64` it is NumPy's NaT."""


class SplitSettings(Settings):
    """How events are held out; the `[build.split]` section of a run file."""

    method: Literal["auto", "leave_last_out", "time", "random", "given"] = "auto"
    """`leave_last_out`: the last events of each user; `time`: everything after an instant; `random`: a share of each user's
    items; `given`: as the source says. `auto`: given where the source has a split, else leave_last_out where it has
    times, else random."""
    valid: float | None = Field(None, ge=0)
    """leave_last_out: events per user (default 1); time and random: share of the events (default 0.1); given: share of
    the training items of each user to hold out at random where the source has no validation part of the target behaviour
    (default 0)."""
    test: float | None = Field(None, ge=0)
    """leave_last_out: events per user (default 1); time and random: share (default 0.1); given: not used."""
    hide_pairs: bool = True
    """Other behaviours' events on a held-out (user, item) pair are held out with it, so that a view does not give away the
    purchase. False leaves those before it in training, as they would be known when the recommendation is made."""
    seed: int = Field(0, ge=0)

    def resolved(self, has_split: bool, has_times: bool) -> SplitSettings:
        """Return the settings with the method and both amounts decided for a log.

        Raises:
            ConfigError: the log cannot be split this way, or an amount does not fit the method.
        """
        method = self.method
        if method == "auto":
            method = "given" if has_split else "leave_last_out" if has_times else "random"
        if method == "given" and not has_split:
            raise ConfigError(
                "split method 'given' needs a split column or folder, and the log has none; choose another"
            )
        if method == "time" and not has_times:
            raise ConfigError("split method 'time' needs timestamps, and the log has none; choose random")
        default = {"leave_last_out": 1, "given": 0}.get(method, 0.1)
        valid = default if self.valid is None else self.valid
        test = default if self.test is None else self.test
        if method == "leave_last_out" and (valid % 1 or test % 1):
            raise ConfigError(f"leave_last_out holds out whole events per user, got valid {valid} and test {test}")
        if method != "leave_last_out" and valid + test >= 1:
            raise ConfigError(f"{method}: valid + test must be shares below 1 together, got {valid} + {test}")
        return self.model_copy(update={"method": method, "valid": valid, "test": test})


def split(
    settings: SplitSettings,
    user: np.ndarray,
    item: np.ndarray,
    timestamp: np.ndarray | None,
    target: np.ndarray,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Assign every event to a side.

    Args:
        settings: resolved settings.
        user, item: codes of the events (E,), any integer dtype.
        timestamp: int64 µs (E,), `NO_TIME` where missing, or None.
        target: bool (E,), whether the event is of the target behaviour.
        given: uint8 sides (E,) of a given split.

    Returns:
        uint8 (E,) of TRAIN, VALID and TEST.
    """
    rng = np.random.default_rng(settings.seed)
    if settings.method == "leave_last_out":
        side = leave_last_out(user, timestamp, target, int(settings.valid), int(settings.test))
    elif settings.method == "time":
        side = by_time(timestamp, target, settings.valid, settings.test)
    elif settings.method == "random":
        side = at_random(user, item, target, settings.valid, settings.test, rng)
    else:
        side = given.copy()
        if settings.valid > 0 and not (side[target] == VALID).any():
            train = side == TRAIN
            side[train] = at_random(user[train], item[train], target[train], settings.valid, 0.0, rng)
    if settings.hide_pairs and not target.all():
        _hide_pairs(side, _pair_keys(user, item), target)
    return side


def leave_last_out(
    user: np.ndarray, timestamp: np.ndarray | None, target: np.ndarray, valid: int, test: int
) -> np.ndarray:
    """Hold out the last `test` target events of each user, and the `valid` events before them.

    A user always keeps one target event in training: with two events there is a test event and no validation event,
    with one event there is neither. Equal timestamps are ordered as in the source, missing ones come first. Without any
    timestamps the order of the source is the order in time. Events of other behaviours from the instant of the first
    held-out event on are held out with it.
    """
    side = np.zeros(len(user), dtype=np.uint8)
    clock = np.arange(len(user), dtype=np.int64) if timestamp is None else timestamp
    rows = np.flatnonzero(target)
    order = rows[np.lexsort((clock[rows], user[rows]))]  # stable: ties stay in source order
    size, from_end = _group_positions(user[order])
    kept_back = np.minimum(test, size - 1)
    is_test = from_end < kept_back
    is_valid = ~is_test & (from_end < kept_back + np.minimum(valid, size - 1 - kept_back))
    side[order[is_test]] = TEST
    side[order[is_valid]] = VALID
    if not target.all():
        others = np.flatnonzero(~target)
        for which, value in ((is_valid, VALID), (is_test, TEST)):
            cutoff = np.full(int(user.max()) + 1, np.iinfo(np.int64).max)
            np.minimum.at(cutoff, user[order[which]], clock[order[which]])
            side[others[clock[others] >= cutoff[user[others]]]] = value
    return side


def by_time(timestamp: np.ndarray, target: np.ndarray, valid: float, test: float) -> np.ndarray:
    """Hold out everything from an instant on: the last `test` share of target events, and the `valid` share before.

    Events with equal timestamps stay together, on the later side.

    Raises:
        StoreError: some events have no timestamp.
    """
    missing = int((timestamp == NO_TIME).sum())
    if missing:
        raise StoreError(
            f"split method 'time' needs a timestamp for every event, and {missing:,} of {len(timestamp):,} have none; "
            "choose leave_last_out or random"
        )
    instants = np.sort(timestamp[target])
    side = np.zeros(len(timestamp), dtype=np.uint8)
    for share, value in ((valid + test, VALID), (test, TEST)):
        held_out = int(np.floor(len(instants) * share + 0.5))
        if held_out:
            side[timestamp >= instants[-held_out]] = value
    return side


def at_random(
    user: np.ndarray, item: np.ndarray, target: np.ndarray, valid: float, test: float, rng: np.random.Generator
) -> np.ndarray:
    """Hold out a share of the distinct target items of each user, rounded, with at least one left for training.

    A repeated event of a held-out (user, item) pair goes with it. The draw depends on the ids and the generator, not on the
    order of the rows. Other behaviours stay in training.
    """
    side = np.zeros(len(user), dtype=np.uint8)
    user, item = user[target], item[target]
    key = _pair_keys(user, item)
    pairs = distinct(key)
    pair_user = pairs // (int(item.max()) + 1) if len(item) else pairs
    order = np.lexsort((rng.random(len(pairs)), pair_user))
    size, from_end = _group_positions(pair_user[order])
    num_test = np.minimum(np.floor(size * test + 0.5), size - 1)
    num_held = np.minimum(np.floor(size * (valid + test) + 0.5), size - 1)
    pair_side = np.zeros(len(pairs), dtype=np.uint8)
    pair_side[order[from_end < num_held]] = VALID
    pair_side[order[from_end < num_test]] = TEST
    side[target] = pair_side[np.searchsorted(pairs, key)]
    return side


def _pair_keys(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """One int64 per event that says its (user, item) pair; ascending with the user."""
    num_items = int(item.max()) + 1 if len(item) else 1
    return user.astype(np.int64) * num_items + item


def _hide_pairs(side: np.ndarray, key: np.ndarray, target: np.ndarray) -> None:
    """Move training events of other behaviours to the side where their pair is held out; test wins over valid."""
    others = np.flatnonzero(~target & (side == TRAIN))
    for value in (VALID, TEST):
        held = distinct(key[target & (side == value)])
        if len(held):
            position = np.minimum(np.searchsorted(held, key[others]), len(held) - 1)
            side[others[held[position] == key[others]]] = value


def _group_positions(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sorted `groups`: the size of each element's group, and how many of its group come after it."""
    if len(groups) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(groups)]]))
    size = np.repeat(sizes, sizes)
    ends = np.repeat(starts + sizes, sizes)
    return size, ends - np.arange(len(groups)) - 1
