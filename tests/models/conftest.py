"""Tiny stores with an obvious right answer, and every registered model fitted on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog, Media
from graphrec.models import create
from graphrec.models.base import Recommender
from graphrec.registry import resolve

NUM_USERS, NUM_ITEMS, HELD_OUT = 40, 30, 4
WITH_RESIDUAL = "lightgcn+residual"  # not a registered name: a trained model that adds the graph filter's scores
RATES = {"pinsage": 0.01, "kgat": 0.01, "gat": 0.01}  # dense layers with ReLU die at the rate that suits tables
LONGER = {"directau": {"epochs": 60}, "ultragcn": {"epochs": 60}, "kgcn": {"epochs": 100}}  # these are not done at 30
TRAINING = {"epochs": 30, "batch_size": 64, "learning_rate": 0.05, "weight_decay": 0.1}


def make_store(
    folder: Path,
    train: list[tuple],
    test: list[tuple],
    *,
    titles: bool = False,
    weights: list[float] | None = None,
    days: list[float] | None = None,
    views: list[tuple] = (),
    links: list[tuple] = (),
    triples: list[tuple] = (),
    media: dict[str, Media] | None = None,
    **settings: object,
) -> GraphStore:
    """Build a real store from (user id, item id) pairs; beside them views, links between users, triples and item vectors.

    `days` are the times of the training pairs, and of the views where there are as many; `settings` are of the build.
    """
    rows, time = train + test, pl.Datetime("us", "UTC")
    times = None if days is None else pl.Series([round(day * 86_400e6) for day in days], dtype=pl.Int64).cast(time)
    events = pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_id": [item for _, item in rows],
            "behavior": "interaction",
            "timestamp": pl.Series([*([None] * len(train) if times is None else times), *[None] * len(test)], dtype=time),
            "weight": pl.Series([*(weights or [1.0] * len(train)), *[1.0] * len(test)], dtype=pl.Float32),
            "split": ["train"] * len(train) + ["test"] * len(test),
        }
    )
    if views:
        columns = {"user_id": [user for user, _ in views], "item_id": [item for _, item in views]}
        viewed = pl.DataFrame(columns).with_columns(behavior=pl.lit("view"), split=pl.lit("train"))
        viewed = viewed if times is None else viewed.with_columns(timestamp=times)
        events = pl.concat([events, viewed], how="diagonal").with_columns(pl.col("weight").fill_null(1.0))
    social = pl.DataFrame([(*link, 1.0)[:3] for link in links], schema=["src", "dst", "weight"], orient="row") if links else None
    known = pl.DataFrame(triples, schema=["head", "relation", "tail"], orient="row") if triples else None
    ids = sorted({item for _, item in rows})
    items = pl.DataFrame({"item_id": ids, "title": [f"Title of {item}" for item in ids]}) if titles else None
    log = InteractionLog(events.lazy(), items=items, social=social, triples=known, media=media or {})
    return build(log, folder, split="given", target_behavior="interaction", **settings)


def checkerboard() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Even users like even items, odd users odd ones; a few random pairs per user are held out. Popularity cannot tell."""
    rng = np.random.default_rng(7)
    train, test = [], []
    for user in range(NUM_USERS):
        liked = rng.permutation(np.arange(user % 2, NUM_ITEMS, 2)).tolist()
        held_out = HELD_OUT + user % 3  # histories of different lengths
        test += [(user, item) for item in liked[:held_out]]
        train += [(user, item) for item in liked[held_out:]]
    return train, test


def neighbours() -> list[tuple[int, int]]:
    """Users follow the two nearest of their colour."""
    return [(user, (user + step) % NUM_USERS) for user in range(NUM_USERS) for step in (-2, 2)]


def colour_triples() -> list[tuple[int, str, str]]:
    """Every item has its colour, and one of three shapes that say nothing of it."""
    colours = [(1000 + 7 * item, "colour", ("white", "black")[item % 2]) for item in range(NUM_ITEMS)]
    return colours + [(1000 + 7 * item, "shape", f"shape {item // 2 % 3}") for item in range(NUM_ITEMS)]


def colour_media() -> dict[str, Media]:
    """Two vectors of an item that show its colour through noise; each is missing for some items, and two items have none."""
    rng = np.random.default_rng(5)
    items, found = np.arange(NUM_ITEMS), {}
    for name, width, missing in (("image", 8, [3, 4, 10, 11]), ("audio", 5, [4, 8, 11, 20])):
        vectors = rng.standard_normal((NUM_ITEMS, width)) * 0.3 + 1
        vectors[:, 0] += np.where(items % 2, 2.0, -2.0)
        kept = np.setdiff1d(items, missing)
        found[name] = Media(pl.Series(1000 + 7 * kept), vectors[kept].astype(np.float32))
    return found


def named(pairs: list[tuple[int, int]]) -> list[tuple[str, int]]:
    """User ids as text, item ids as integers with gaps."""
    return [(f"u{user:03d}", 1000 + 7 * item) for user, item in pairs]


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    """The checkerboard with titles: user index = number of the user, item index = number of the item.

    Users follow the two nearest of their colour, and have viewed what they took, so that models of several relations learn;
    items have triples and vectors that tell their colours.
    """
    return make_board(tmp_path_factory.mktemp("stores") / "board", *checkerboard())


def make_board(folder: Path, train: list[tuple[int, int]], test: list[tuple[int, int]], **more: object) -> GraphStore:
    """Build a store of the users and items of `board`, with all that goes with them; `more` as of `make_store`."""
    links = [(f"u{left:03d}", f"u{right:03d}") for left, right in neighbours()]
    return make_store(folder, named(train), named(test), titles=True, views=named(train), links=links,
                      triples=colour_triples(), media=colour_media(), **more)  # fmt: skip


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recommender]:
    """`fitted(name, store, seed=0)`: the registered model after learning from the store; each is made once."""
    made: dict[tuple, Recommender] = {}

    def get(name: str, store: GraphStore, seed: int = 0) -> Recommender:
        key = name, store.folder, seed
        if key not in made:
            made[key] = learn(name, store, tmp_path_factory.mktemp("runs"), seed)
        return made[key]

    return get


def learn(name: str, store: GraphStore, folder: Path, seed: int = 0, **settings: object) -> Recommender:
    """Fit a closed-form model, or run the training loop for a trained one; `settings` are of the loop."""
    model = create("lightgcn", residual={"weight": 0.5}) if name == WITH_RESIDUAL else create(name)
    if not is_trained(model):
        return model.fit(store, seed=seed)
    from graphrec.training.train import train

    own = {"learning_rate": RATES.get(name, 0.05), **LONGER.get(name, {}), "seed": seed}
    return train(store, model, folder / "run", {**TRAINING, **own, **settings}).model


def is_trained(model: Recommender) -> bool:
    """Whether gradient steps make the model."""
    return isinstance(model, resolve("model", {"base": "graphrec.models.trained:TrainedRecommender"}, "base"))
