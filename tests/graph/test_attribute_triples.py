"""Triples from attributes: one for each value, and nothing that could be taken for an item."""

from __future__ import annotations

import polars as pl
import pytest

from graphrec.errors import ConfigError
from graphrec.graph.attribute_triples import attribute_triples
from graphrec.graph.build import build
from graphrec.logs.table import InteractionLog

ITEMS = pl.DataFrame(
    {
        "item_id": [1, 2, 3],
        "genre": ["drama|war", "drama", None],
        "year": [1, 2, 1],  # as numbers they would be items
        "tags": [["old"], [], ["old", "new"]],
        "price": [1.5, 2.0, None],
        "empty": pl.Series([None, " ", ""], dtype=pl.String),
    }
)


def test_every_value_is_a_triple():
    found = attribute_triples(ITEMS, ["genre", "tags", "year"])
    assert found.rows() == [
        (1, "genre", "genre=drama"), (1, "genre", "genre=war"), (2, "genre", "genre=drama"),
        (1, "tags", "tags=old"), (3, "tags", "tags=old"), (3, "tags", "tags=new"),
        (1, "year", "year=1"), (2, "year", "year=2"), (3, "year", "year=1"),
    ]  # fmt: skip
    assert attribute_triples(ITEMS, ["genre"], separators="")["tail"].to_list() == ["genre=drama|war", "genre=drama"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("genres", r"no attribute 'genres'; it has genre, year.*genre"),
        ("price", r"'price' must hold categories or lists of them, got Float64"),
        ("empty", r"'empty' is empty for all 3 items"),
    ],
)
def test_columns_that_are_no_categories_are_refused(column, message):
    with pytest.raises(ConfigError, match=message):
        attribute_triples(ITEMS, [column])


def log(**parts) -> InteractionLog:
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b", "b"],
            "item_id": [1, 2, 1, 3, 2],
            "behavior": "interaction",
            "timestamp": pl.Series([None] * 5, dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series([1.0] * 5, dtype=pl.Float32),
            "split": ["train"] * 4 + ["test"],
        }
    )
    return InteractionLog(events.lazy(), **parts)


def test_build_makes_them_beside_those_of_the_log(tmp_path):
    known = pl.DataFrame({"head": [1, 77], "relation": ["by", "by"], "tail": [77, 3]})
    store = build(
        log(items=ITEMS, triples=known), tmp_path / "store", split="given", attribute_triples=["genre", "year"]
    )
    edges = {(edge.source, edge.relation, edge.target): edge.edges for edge in store.manifest.edges}
    assert edges["item", "genre", "entity"] == 3 and edges["item", "year", "entity"] == 3
    assert edges["item", "by", "entity"] == edges["entity", "by", "item"] == 1
    assert store.ids("entity").series.to_list() == ["77", "genre=drama", "genre=war", "year=1", "year=2"]


def test_build_says_what_it_cannot_make(tmp_path):
    with pytest.raises(ConfigError, match=r"needs a table of items.*\[log\] items"):
        build(log(), tmp_path / "store", split="given", attribute_triples=["genre"])
    known = pl.DataFrame({"head": [1], "relation": ["genre"], "tail": [3]})
    with pytest.raises(ConfigError, match=r"already have 1 relation\(s\) of that name, such as 'genre'"):
        build(log(items=ITEMS, triples=known), tmp_path / "store", split="given", attribute_triples=["genre"])
