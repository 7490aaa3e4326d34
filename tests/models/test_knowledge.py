"""KGAT as a recommender: new items by their triples, what it says without any, and what it reports."""

from __future__ import annotations

import polars as pl
import pytest

import graphrec
from graphrec.errors import ConfigError, UnsupportedError
from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog
from graphrec.models import create, load_model
from graphrec.training.train import train
from tests.models.conftest import NUM_ITEMS, TRAINING, checkerboard, make_store, named

FEW = {**TRAINING, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def growing(tmp_path_factory) -> GraphStore:
    """The checkerboard, and an item table with two items more: 9000 is white and 9001 black, and nobody has chosen them."""
    pairs = [named(side) for side in checkerboard()]
    rows = pairs[0] + pairs[1]
    events = pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_id": [item for _, item in rows],
            "behavior": "interaction",
            "timestamp": pl.Series([None] * len(rows), dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series([1.0] * len(rows), dtype=pl.Float32),
            "split": ["train"] * len(pairs[0]) + ["test"] * len(pairs[1]),
        }
    )
    ids = [*range(1000, 1000 + 7 * NUM_ITEMS, 7), 9000, 9001, 9002]
    colours = [*(("white", "black")[item % 2] for item in range(NUM_ITEMS)), "white", "black", None]
    items = pl.DataFrame({"item_id": ids, "colour": colours, "title": [f"Title of {item}" for item in ids]})
    log = InteractionLog(events.lazy(), items=items)
    folder = tmp_path_factory.mktemp("stores") / "growing"
    return build(log, folder, split="given", attribute_triples=["colour"])


def test_new_items_get_the_vectors_of_their_colour(growing, tmp_path):
    ids, links = growing.new_links()
    assert ids.series.to_list() == [9000, 9001]
    assert links.select("relation", "item_is_head", "item").rows() == [("colour", True, 0), ("colour", True, 1)]
    run = train(growing, "kgat", tmp_path / "run", FEW)
    model, added = graphrec.with_new_items(graphrec.load(tmp_path / "run").model, store=growing)
    assert added == 2 and type(model) is type(run.model)
    near = model.similar([9000, 9001], 5)
    parity = (near["similar_item_id"] - 1000) // 7 % 2
    assert ((near["item_id"] == 9001).cast(int) == parity).all()
    listed = model.recommend(["u001"], 5, exclude_seen=False)
    assert "Title of 9000" not in listed["title"].to_list()
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model").recommend(["u001"], 5).equals(model.recommend(["u001"], 5))


def test_a_store_without_new_items_is_told_so(board, fitted, tmp_path):
    with pytest.raises(UnsupportedError, match=r"vectors of 0 new items.*tie 0 to entities"):
        fitted("kgat", board).add_linked_items(board)


def test_a_store_without_triples_is_told_how_to_get_them(tmp_path):
    store = make_store(tmp_path / "plain", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match=r"needs triples, and the store has none.*attribute_triples"):
        train(store, "kgat", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_relations_can_be_restricted_and_unknown_ones_are_named(board, tmp_path):
    run = train(board, create("kgat", relations=["colour"]), tmp_path / "run", {"epochs": 1, "batch_size": 64})
    assert set(run.model.relation_weights()) == {
        "interaction to user", "interaction to item", "colour to item", "colour to entity"
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"needs the relation 'color'.*colour \(item to entity, 30 edges\).*colour"):
        train(board, create("kgat", relations=["color"]), tmp_path / "other")
