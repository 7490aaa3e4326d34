"""Neighbourhood models: item-kNN and user-kNN over the training interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, model_validator

from graphrec import settings
from graphrec.models.base import Recommender, training_matrix
from graphrec.models.neighbours import Comparison, keep_largest, nearest_rows
from graphrec.models.saved import csr_arrays, csr_from
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from typing_extensions import Self

    from graphrec.graph.store import GraphStore


class KNNSettings(settings.Settings):
    """Settings of both neighbourhood models; the defaults did best on held-out training items of Gowalla and ml-1m.

    Attributes:
        measure: how two items (or users) are compared; the formulas are at `neighbours.nearest_rows`.
        neighbours: how many nearest items (or users) each one keeps.
        shrinkage: in common users (or items); the larger, the less a similarity built on few of them counts.
        asymmetry: exponent of the own norm in the cosine, 0..1; 0.5 is the plain cosine.
    """

    search: ClassVar[Mapping[str, Any]] = {
        "measure": ["cosine", "jaccard", "bm25"],
        "neighbours": {"low": 10, "high": 500, "log": True},
        "shrinkage": {"low": 0.0, "high": 100.0},
    }

    measure: Literal["cosine", "jaccard", "bm25"] = "bm25"
    neighbours: int = Field(100, ge=1)
    shrinkage: float = Field(0.0, ge=0)
    asymmetry: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _asymmetry_needs_cosine(self) -> Self:
        if self.measure != "cosine" and self.asymmetry != 0.5:
            raise ValueError(
                f"asymmetry applies to the cosine only; leave it out or set measure = 'cosine', not {self.measure!r}"
            )
        return self


class ItemKNNSettings(KNNSettings):
    """Settings of item-kNN."""

    shrinkage: float = Field(10.0, ge=0)


class _KNN(Recommender):
    Settings = KNNSettings

    def _nearest(self, matrix: sp.csr_matrix, progress: Reporter) -> sp.csr_matrix:
        chosen = self.settings
        return nearest_rows(
            matrix,
            chosen.measure,
            chosen.neighbours,
            shrinkage=chosen.shrinkage,
            asymmetry=chosen.asymmetry,
            progress=progress,
            description=f"{self.name} similarities",
        )

    def _state(self) -> dict[str, np.ndarray]:
        return {**csr_arrays("train", self._train), **csr_arrays("similarity", self._similarity)}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        self._train = csr_from(state, "train", self.catalogue.num_items)
        self._similarity = csr_from(state, "similarity", len(state["similarity.indptr"]) - 1)


class ItemKNN(_KNN):
    """Recommends what is similar to what the user has already.

    score(u, j) = sum over items i in the history of u: r_ui s_ij, where s_ij is kept only for the nearest j of each i.

    Source: Deshpande and Karypis (2004), "Item-based top-N recommendation algorithms", section 4.
    """

    name = "item-knn"
    Settings = ItemKNNSettings

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        self._train = training_matrix(store, self.name)
        self._similarity = self._nearest(self._train.T.tocsr(), progress)

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return _dense(self._train[users] @ self._similarity)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        return _dense(histories @ self._similarity)

    def _item_scores(self, items: np.ndarray) -> torch.Tensor:
        scores = _dense(self._similarity[items])
        return torch.where(scores > 0, scores, -torch.inf)


class UserKNN(_KNN):
    """Recommends what similar users have.

    score(u, j) = sum over the nearest users v of u: s_uv r_vj

    A new user is compared with all training users, and what the measure needs to know of the collection is theirs.

    Source: Resnick et al. (1994), "GroupLens", in the form for implicit feedback, without the rating average.
    """

    name = "user-knn"

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        self._train, self._compare = training_matrix(store, self.name), None
        self._similarity = self._nearest(self._train, progress)

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return _dense(self._similarity[users] @ self._train)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        chosen = self.settings
        if self._compare is None:  # when a new user first comes: it holds the training data a second time
            options = {"shrinkage": chosen.shrinkage, "asymmetry": chosen.asymmetry}
            self._compare = Comparison(self._train, chosen.measure, **options)
        return _dense(keep_largest(self._compare(histories), chosen.neighbours) @ self._train)

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        super()._restore(state)
        self._compare = None


def _dense(matrix: sp.csr_matrix) -> torch.Tensor:
    return torch.from_numpy(matrix.toarray().astype(np.float32, copy=False))
