"""Popularity: every user gets the same list, the items with the most training interactions first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from graphrec import settings
from graphrec.graph.recency import edge_ages, half_life_of
from graphrec.models.base import Recommender
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class PopularitySettings(settings.Settings):
    """Popularity has nothing to set."""


class Popularity(Recommender):
    """Ranks items by their number of training interactions; the baseline every other model must beat.

    score(u, i) = number of training interactions of item i, each counting 0.5^(age / half-life) where the store was built with
    `half_life_days`.
    """

    name = "popularity"
    Settings = PopularitySettings

    @property
    def personal(self) -> bool:
        """Whether the scores depend on the user: they do not."""
        return False

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        catalogue, days = store.catalogue(), half_life_of(store)
        counts = catalogue.item_counts
        if days is not None and store.interactions("train").timestamp is not None:
            weight = np.exp2(-edge_ages(store, days, "popularity"))
            counts = np.bincount(catalogue.seen_indices, weight, minlength=catalogue.num_items)
        self._counts = torch.from_numpy(counts.astype(np.float32))

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return self._counts.repeat(len(users), 1)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        return self._counts.repeat(histories.shape[0], 1)

    def _state(self) -> dict[str, torch.Tensor]:
        return {"counts": self._counts}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        self._counts = state["counts"]
