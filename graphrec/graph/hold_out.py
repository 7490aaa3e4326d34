"""A store with some training interactions held out once more: what a second stage learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from graphrec.graph.ids import contained, distinct
from graphrec.graph.split import NO_TIME, SIDES
from graphrec.graph.store import GraphStore, Interactions


class HeldOutStore(GraphStore):
    """The training side of `store` without some (user, item) pairs; ids, tables and the other splits stay.

    Events of other behaviours on a held-out pair are left out too, so that a view does not give away the purchase. Arrays that
    were added to the store as features are as they were made.

    Args:
        store: the whole store.
        keys: int64, `user * I + item` of the pairs to leave out.
        as_valid: the events that are left out are the validation side, in place of the store's own.
    """

    def __init__(self, store: GraphStore, keys: np.ndarray, as_valid: bool = False) -> None:
        super().__init__(store.folder, store.manifest)
        self._keys, self._as_valid = pl.Series("key", distinct(keys)), as_valid

    @property
    def splits(self) -> list[str]:
        """The sides that hold events, as `GraphStore.splits`."""
        whole = super().splits
        return [side for side in SIDES if side in whole or side == "valid"] if self._as_valid else whole

    def events(self, split: str = "train") -> pl.DataFrame:
        """Every event of one side, as `GraphStore.events`, without the held-out pairs in training."""
        frame = self._side(split, super().events)
        if split != "valid" or not self._as_valid:
            return frame
        ids = {f"{ntype}_id": self.ids(ntype).gather(frame[ntype].to_numpy()) for ntype in ("user", "item")}
        return frame.with_columns(**ids)

    def graph(self) -> Any:
        """The heterograph without the held-out pairs, in either direction and in every behaviour."""
        graph = super().graph()
        for etype in graph.canonical_etypes:
            if {etype[0], etype[2]} == {"user", "item"}:
                ends = [end.numpy().astype(np.int64) for end in graph.edges(etype=etype)]
                user, item = ends if etype[0] == "user" else ends[::-1]
                gone = np.flatnonzero(contained(user * self.num_items + item, self._keys.to_numpy()))
                graph.remove_edges(gone.tolist(), etype=etype)
        return graph

    def _events(self, split: str, columns: list[str], behavior: str | None) -> pl.DataFrame:
        needed, read = list(dict.fromkeys([*columns, "user", "item", "timestamp"])), super()._events
        return self._side(split, lambda side: read(side, needed, behavior)).select(columns)

    def _side(self, split: str, read: Callable[[str], pl.DataFrame]) -> pl.DataFrame:
        """The events of one side, of those that `read` finds in the whole store."""
        held = self._as_valid and split == "valid"
        if split != "train" and not held:
            return read(split)
        key = pl.col("user").cast(pl.Int64) * self.num_items + pl.col("item").cast(pl.Int64)
        inside = key.is_in(self._keys.implode())
        frame = read("train").filter(inside if held else ~inside)
        return frame.sort("user", "timestamp", maintain_order=True) if held else frame.rechunk()


def choose_pairs(rows: Interactions, num_items: int, share: float, latest: bool, seed: int) -> np.ndarray:
    """Choose the pairs to hold out: a share of each user's items, rounded down, but one where there are two or more.

    Args:
        rows: training events of the target behaviour.
        num_items: I.
        share: of each user's distinct items, in (0, 1).
        latest: the items that the user came to last, instead of random ones.
        seed: of the random choice, and of the order of equal times.

    Returns:
        int64 keys `user * I + item`, ascending. Every user with an interaction keeps at least one.
    """
    keys = distinct(rows.user * num_items + rows.item)
    user = keys // num_items
    order = np.random.default_rng(seed).random(len(keys))
    if latest and rows.timestamp is not None:
        order = np.lexsort((order, _first_times(rows, num_items, keys))).argsort()
    count = np.bincount(user)
    wanted = np.where(count >= 2, np.maximum(1, (count * share).astype(np.int64)), 0)
    ranked = np.lexsort((-order, user))  # by user, those to hold out first
    place = np.arange(len(keys)) - np.repeat(np.cumsum(count) - count, count)
    return np.sort(keys[ranked[place < wanted[user]]])


def _first_times(rows: Interactions, num_items: int, keys: np.ndarray) -> np.ndarray:
    """When each pair came up first; pairs without a time count as the oldest."""
    times = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(times, np.searchsorted(keys, rows.user * num_items + rows.item), rows.timestamp)
    return np.where(times == NO_TIME, np.iinfo(np.int64).min, times)
