"""A store and a model small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from graphrec.graph.catalogue import Catalogue
from graphrec.graph.ids import IdMap
from graphrec.graph.manifest import SplitCounts
from graphrec.graph.store import Interactions
from graphrec.models.base import Recommender
from graphrec.training.run import Run, RunRecord

Pairs = list[tuple[int, int]]


@dataclass
class SmallStore:
    """What the evaluation asks of a `GraphStore`, from pairs (user, item)."""

    num_users: int
    num_items: int
    pairs: dict[str, Pairs]
    weights: dict[str, list[float]] = field(default_factory=dict)
    folder: Path = Path("stores/small")
    target_behavior: str = "interaction"

    @property
    def manifest(self) -> SimpleNamespace:
        sizes = {side: len(self.pairs.get(side, [])) for side in ("train", "valid", "test")}
        counts = {side: SplitCounts(events=n, target_events=n, known=n, known_target=n) for side, n in sizes.items()}
        return SimpleNamespace(splits=counts)

    @property
    def splits(self) -> list[str]:
        return [name for name in ("train", "valid", "test") if self.pairs.get(name)]

    def interactions(self, split: str = "train") -> Interactions:
        pairs = np.array(self.pairs.get(split, []), dtype=np.int64).reshape(-1, 2)
        weight = np.array(self.weights.get(split, np.ones(len(pairs))), dtype=np.float32)
        return Interactions(pairs[:, 0], pairs[:, 1], weight, None)

    def catalogue(self) -> Catalogue:
        pairs = np.array(sorted(set(self.pairs["train"])), dtype=np.int64).reshape(-1, 2)
        return Catalogue(
            users=IdMap(pl.Series([f"u{user:04d}" for user in range(self.num_users)]), "user"),
            items=IdMap(pl.Series(range(100, 100 + self.num_items), dtype=pl.Int64), "item"),
            seen_indptr=np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=self.num_users))]),
            seen_indices=pairs[:, 1].astype(np.int32),
            item_counts=np.bincount(pairs[:, 1], minlength=self.num_items),
        )

    def feature(self, ntype: str, name: str) -> tuple[np.ndarray, dict]:
        assert (ntype, name) == ("item", "one-hot")
        return np.eye(self.num_items, dtype=np.float32), {}


class GivenScores(Recommender):
    """A model whose scores, and embeddings if any, are given."""

    name = "given-scores"

    def __init__(self, scores: np.ndarray, store: SmallStore, embeddings: dict | None = None) -> None:
        super().__init__()
        self.scores = torch.as_tensor(np.asarray(scores, dtype=np.float32))
        self.catalogue = store.catalogue()
        self._embeddings = embeddings

    @property
    def predicts_ratings(self) -> bool:
        return self.name == "given-ratings"

    def embeddings(self) -> dict | None:
        return self._embeddings

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return self.scores[users]

    def _state(self) -> dict:
        return {"scores": self.scores}

    def _restore(self, state: dict) -> None:
        self.scores = state["scores"]


def make_random_store(seed: int = 0, num_users: int = 60, num_items: int = 40) -> SmallStore:
    """About a tenth of all pairs in train, a twentieth each in valid and test; some users have no test item."""
    draw = np.random.default_rng(seed).random((num_users, num_items))
    bounds = {"train": (0.0, 0.12), "valid": (0.12, 0.16), "test": (0.16, 0.21)}
    pairs = {
        name: [(int(u), int(i)) for u, i in np.argwhere((draw >= low) & (draw < high))]
        for name, (low, high) in bounds.items()
    }
    return SmallStore(num_users, num_items, pairs)


@pytest.fixture
def small_store() -> type[SmallStore]:
    return SmallStore


@pytest.fixture
def run_of() -> Callable[[Recommender, Path], Run]:
    """`run_of(model, folder)`: a run that no training has written."""

    def make(model: Recommender, folder: Path) -> Run:
        record = RunRecord(model={"name": model.name, "settings": {}}, train={}, store={"path": "stores/small", "fingerprint": ""})
        return Run(folder, model, Path("stores/small"), record)

    return make


@pytest.fixture
def given_scores() -> type[GivenScores]:
    return GivenScores


@pytest.fixture
def random_store():
    return make_random_store


@pytest.fixture
def store() -> SmallStore:
    return make_random_store()


@pytest.fixture
def model(store: SmallStore) -> GivenScores:
    return GivenScores(np.random.default_rng(1).normal(size=(store.num_users, store.num_items)), store)


@pytest.fixture
def hand() -> SimpleNamespace:
    """Three users, six items. The scores fall with the item index, so every list is 0, 1, 2 ... without seen items.

    User 0 saw 0 and is tested on 1 and 5: list 1 2 3 4 5. User 1 saw 1, 2 and is tested on 3: list 0 3 4 5.
    User 2 saw 0 and has no test item.
    """
    store = SmallStore(3, 6, {"train": [(0, 0), (1, 1), (1, 2), (2, 0)], "test": [(0, 5), (0, 1), (1, 3)]})
    scores = np.tile(np.arange(6, 0, -1), (3, 1))
    return SimpleNamespace(store=store, model=GivenScores(scores, store))
