"""How `cold_start.py` measures: Recall@20 among items without any event, among all, and of histories that are folded in."""

from __future__ import annotations

from typing import Any

import cold_split
import numpy as np
import polars as pl
import torch

from graphrec import ops
from graphrec.graph.ids import IdMap
from graphrec.graph.store import GraphStore

K = 20


class Judge:
    """Ranks for every user with held-out items; a score for warm items, and one for cold items or none."""

    def __init__(self, store: GraphStore, split: cold_split.ColdSplit, cold: pl.Series) -> None:
        self.catalogue = store.catalogue()
        self.num_cold = len(cold)
        warm = index_pairs(split.warm_test, self.catalogue.users, self.catalogue.items.series)
        held = index_pairs(split.cold_test, self.catalogue.users, cold)
        self.truth = {"cold": group(held), "warm": group(warm)}
        held[:, 1] += store.num_items
        self.truth["overall"] = group(np.concatenate([warm, held]))

    def __call__(self, warm: Any, cold: Any) -> dict[str, float]:
        """Return Recall@20 among cold items, among all, and among warm items alone."""
        generator = torch.Generator().manual_seed(1)
        sums = {name: [] for name in self.truth}
        everyone = np.array(sorted(set().union(*self.truth.values())), dtype=np.int64)
        for start in range(0, len(everyone), 512):
            users = everyone[start : start + 512]
            scores = warm(users)
            if cold is None:  # nothing is known of them: in a random order below everything
                unknown = -1 - torch.rand(len(users), self.num_cold, generator=generator)
            else:
                unknown = cold(torch.from_numpy(users))
            seen = self.catalogue.seen(users)
            lists = {
                "warm": ops.select_topk(scores, K, *seen)[1],
                "cold": ops.select_topk(unknown.contiguous(), min(K, self.num_cold))[1],
                "overall": ops.select_topk(torch.cat([scores, unknown], dim=1), K, *seen)[1],
            }
            for name, found in lists.items():
                for user, items in zip(users, found.tolist(), strict=True):
                    if (truth := self.truth[name].get(int(user))) is not None:
                        sums[name].append(len(truth.intersection(items)) / len(truth))
        return {name: round(float(np.mean(values)), 4) for name, values in sums.items()}


def recall(scores: torch.Tensor, find: Any, histories: list[list[Any]], truth: list[set[int]]) -> float:
    """Mean Recall@20 of histories' users, their own events masked."""
    seen = [np.sort(find(history)) for history in histories]
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in seen])])
    found = ops.select_topk(scores, K, indptr, np.concatenate(seen).astype(np.int32))[1].tolist()
    hits = [len(true & set(items)) / len(true) for true, items in zip(truth, found, strict=True)]
    return round(float(np.mean(hits)), 4)


def index_pairs(events: pl.DataFrame, users: Any, items: pl.Series) -> np.ndarray:
    """Return (E, 2) user and item indices of the events that have both."""
    pairs = np.stack([users.find(events["user_id"]), IdMap(items.rename("id"), "item").find(events["item_id"])], axis=1)
    return pairs[(pairs >= 0).all(axis=1)]


def group(pairs: np.ndarray) -> dict[int, set[int]]:
    """Return user to its items."""
    found: dict[int, set[int]] = {}
    for user, item in pairs.tolist():
        found.setdefault(user, set()).add(item)
    return found
