"""Two tiny models with known vectors: six users and eight items (or 200), ids as text or as whole numbers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from graphrec.graph.catalogue import Catalogue
from graphrec.graph.ids import IdMap
from graphrec.models.base import Recommender
from graphrec.models.popularity import Popularity


class Factors(Recommender):
    """Scores are the dot products of given vectors."""

    name = "factors"

    def __init__(self, catalogue: Catalogue, user: np.ndarray, item: np.ndarray) -> None:
        super().__init__()
        self.catalogue, self.user, self.item = catalogue, user, item

    def _score(self, users):
        return torch.from_numpy(self.user[users] @ self.item.T)

    def embeddings(self):
        return {"user": self.user, "item": self.item}

    def _state(self):
        return {"user": self.user, "item": self.item}

    def _restore(self, state):
        self.user, self.item = state["user"].numpy(), state["item"].numpy()


def make_catalogue(num_users: int, num_items: int, text_ids: bool) -> Catalogue:
    """User u has seen item u only. Integer ids leave gaps (10·index) so that an index is never an id by chance."""
    users, items = (
        pl.Series([f"{letter}{n:05d}" for n in range(count)] if text_ids else [10 * n + 5 for n in range(count)])
        for letter, count in (("u", num_users), ("i", num_items))
    )
    return Catalogue(
        IdMap(users, "user"),
        IdMap(items, "item"),
        np.arange(num_users + 1, dtype=np.int64),
        np.arange(num_users, dtype=np.int32),
        np.bincount(np.arange(num_users), minlength=num_items).astype(np.int64),
        [f"Title {n}" for n in range(num_items)],
    )


def make_model(num_users: int = 6, num_items: int = 40, dim: int = 4, text_ids: bool = True) -> Factors:
    """A `Factors` model with normal vectors of a fixed seed."""
    rng = np.random.default_rng(3)
    user = rng.standard_normal((num_users, dim)).astype(np.float32)
    item = rng.standard_normal((num_items, dim)).astype(np.float32)
    return Factors(make_catalogue(num_users, num_items, text_ids), user, item)


@pytest.fixture(params=["text", "integer"])
def model(request) -> Factors:
    return make_model(text_ids=request.param == "text")


@pytest.fixture
def popularity() -> Popularity:
    model = Popularity()
    model.catalogue = make_catalogue(6, 40, True)
    model._restore({"counts": torch.arange(40, dtype=torch.float32)})
    return model


@pytest.fixture
def factors():
    """Returns `make_model`, for tests that choose the size."""
    return make_model
