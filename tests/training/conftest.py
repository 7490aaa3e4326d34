"""A checkerboard store with a validation split, and catalogues made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from graphrec.graph.build import build
from graphrec.graph.catalogue import Catalogue
from graphrec.graph.ids import IdMap
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog

NUM_USERS, NUM_ITEMS = 24, 20


def checkerboard() -> list[tuple[int, int, str]]:
    """Even users like even items, odd users odd ones; of each user's ten, one is for validation and two for the test."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(NUM_USERS):
        liked = rng.permutation(np.arange(user % 2, NUM_ITEMS, 2)).tolist()
        sides = ["valid", "test", "test", *["train"] * (len(liked) - 3)]
        rows += [(user, item, side) for item, side in zip(liked, sides, strict=True)]
    return rows


def make_store(folder: Path, rows: list[tuple[int, int, str]], weights: list[float] | None = None) -> GraphStore:
    """Build a store from (user id, item id, side) rows, all of weight 1 unless `weights` says otherwise."""
    events = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "behavior": "interaction",
            "timestamp": pl.Series([None] * len(rows), dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series(weights or [1.0] * len(rows), dtype=pl.Float32),
            "split": [side for _, _, side in rows],
        }
    )
    return build(InteractionLog(events.lazy()), folder, split="given")


def make_catalogue(histories: list[list[int]], num_items: int) -> Catalogue:
    """A catalogue whose user u has chosen `histories[u]`; ids equal indices."""
    rows = [sorted(set(history)) for history in histories]
    indices = np.array([item for row in rows for item in row], dtype=np.int32)
    return Catalogue(
        users=IdMap.fit(np.arange(len(rows)), "user"),
        items=IdMap.fit(np.arange(num_items), "item"),
        seen_indptr=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        seen_indices=indices,
        item_counts=np.bincount(indices, minlength=num_items).astype(np.int64),
    )


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    """The checkerboard; ids equal indices."""
    return make_store(tmp_path_factory.mktemp("stores") / "board", checkerboard())


def check_same_step(model, ours, theirs, rtol: float, atol: float) -> None:
    """Two batches give a model the same loss and gradients, whatever graph each of them works on."""
    losses = []
    for batch in (ours, theirs):
        torch.manual_seed(5)
        losses.append(model.batch_loss(batch, step=5000)[0])
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    sides = [torch.autograd.grad(loss, list(model.network.parameters())) for loss in losses]
    for left, right in zip(*sides, strict=True):
        torch.testing.assert_close(left.to_dense(), right.to_dense(), rtol=rtol, atol=atol)
