"""The graph filter: a training-free recommender that smooths a user's history over the item graph.

The family of GF-CF, BSPM and ChebyCF in closed form: a linear low-pass filter of the item-item graph plus an ideal
low-pass filter, the projection onto the smoothest directions of the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from graphrec import settings
from graphrec.models.base import Recommender, training_matrix
from graphrec.models.saved import csr_arrays, csr_from
from graphrec.models.spectral import NormalisedInteractions, truncated_svd
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_USERS_AT_ONCE = 64  # narrow enough for the intermediate signals to stay in cache


class GraphFilterSettings(settings.Settings):
    """Settings of the graph filter.

    Attributes:
        user_exponent: a, how strongly long histories are discounted; 0.5 in GF-CF.
        item_exponent: b, how strongly popular items are discounted; 0.5 in GF-CF.
        rank: r, number of smooth directions of the ideal low-pass; at most min(U, I) of them are used.
        ideal_weight: w, weight of the ideal low-pass; 0 leaves the linear one alone.
    """

    user_exponent: float = Field(0.5, ge=0, le=1)
    item_exponent: float = Field(0.5, ge=0, le=1)
    rank: int = Field(256, ge=1)
    ideal_weight: float = Field(0.3, ge=0)


class GraphFilter(Recommender):
    """Scores all items by filtering the user's row of the interaction matrix.

    With R~ = D_u^-a R D_i^-b and Q (I, r) its leading right singular vectors,

        score(u) = r_u (R~^T R~ + w D_i^-b Q Q^T D_i^b)

    The first term is the linear low-pass, evaluated for blocks of users as two sparse products; the second the ideal
    low-pass, two thin dense products. No I x I matrix is ever formed.

    Source: Shen et al. (2021), "How powerful is graph convolution for recommendation?", arXiv 2108.07567, equation 12
        and algorithm 1, generalised from the exponents 1/2 and 1/2 to a and b.
    """

    name = "graph-filter"
    Settings = GraphFilterSettings

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        train = training_matrix(store, self.name)
        interactions = self._normalised(train)
        rank = min(self.settings.rank, *train.shape)
        _, _, directions = truncated_svd(interactions, rank, torch.Generator().manual_seed(seed), progress)
        self._take(train, interactions, directions)

    def _normalised(self, train: sp.csr_matrix) -> NormalisedInteractions:
        return NormalisedInteractions(train, self.settings.user_exponent, self.settings.item_exponent)

    def _take(self, train: sp.csr_matrix, interactions: NormalisedInteractions, directions: torch.Tensor) -> None:
        self._train, self._interactions, self._directions = train, interactions, directions
        scale = interactions.item_scale[:, None]  # D_i^-b
        self._analysis = (self.settings.ideal_weight * scale * directions).numpy()  # (I, r)
        self._synthesis = torch.where(scale > 0, 1 / scale, 0.0) * directions  # (I, r)

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return self._filtered(self._train[users])

    def _item_scores(self, items: np.ndarray) -> torch.Tensor:
        """The answer to a history of the one item."""
        one_each = np.ones(len(items), np.float32), items, np.arange(len(items) + 1)  # values, columns, row starts
        one_item = sp.csr_matrix(one_each, shape=(len(items), self._train.shape[1]))
        return self._filtered(one_item)

    def _filtered(self, histories: sp.csr_matrix) -> torch.Tensor:
        """Apply the filter to histories (B, I)."""
        scores = torch.from_numpy(histories @ self._analysis) @ self._synthesis.T
        for start in range(0, histories.shape[0], _USERS_AT_ONCE):
            block = slice(start, start + _USERS_AT_ONCE)
            signal = torch.from_numpy(histories[block].T.toarray())  # (I, B)
            scores[block] += self._interactions.to_items(self._interactions.to_users(signal)).T
        return scores

    def embeddings(self) -> dict[str, np.ndarray]:
        """The factors of the ideal low-pass: user w r_u D_i^-b Q (U, r) and item D_i^b Q (I, r).

        Their dot product is the second term of the score. The linear low-pass has full rank and is not in it.
        """
        _ = self.catalogue
        return {"user": self._train @ self._analysis, "item": self._synthesis.numpy()}

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        return {**csr_arrays("train", self._train), "directions": self._directions}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        train = csr_from(state, "train", self.catalogue.num_items)
        self._take(train, self._normalised(train), state["directions"])
