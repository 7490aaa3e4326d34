"""The catalogue that models carry."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from graphrec.errors import StoreError
from graphrec.graph.catalogue import Catalogue
from graphrec.graph.ids import IdMap


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        users=IdMap.fit(["a", "b", "c"], "user"),
        items=IdMap.fit([10, 20, 30, 40], "item"),
        seen_indptr=np.array([0, 2, 2, 5]),
        seen_indices=np.array([1, 3, 0, 1, 2], dtype=np.int32),
        item_counts=np.array([1, 2, 1, 1]),
        titles=["ten", "twenty", "", "forty"],
    )


def test_seen_gives_the_rows_in_the_order_asked_for(catalogue):
    indptr, indices = catalogue.seen(np.array([2, 1, 0, 2]))
    assert indptr.tolist() == [0, 3, 3, 5, 8]
    assert indices.tolist() == [0, 1, 2, 1, 3, 0, 1, 2]
    assert indptr.dtype == np.int64 and indices.dtype == np.int32
    assert catalogue.seen(np.array([], dtype=np.int64))[0].tolist() == [0]


@pytest.mark.parametrize("titled", [True, False])
def test_saved_and_loaded(catalogue, titled, tmp_path):
    if not titled:
        catalogue = Catalogue(**{**vars(catalogue), "titles": None})
    catalogue.save(tmp_path / "catalogue")
    loaded = Catalogue.load(tmp_path / "catalogue")
    assert loaded.titles == catalogue.titles
    assert loaded.users.series.to_list() == ["a", "b", "c"] and loaded.items.series.to_list() == [10, 20, 30, 40]
    for name in ("seen_indptr", "seen_indices", "item_counts"):
        assert getattr(loaded, name).tolist() == getattr(catalogue, name).tolist()
        assert getattr(loaded, name).dtype == getattr(catalogue, name).dtype


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", "arrays.safetensors", "titles.parquet"])
def test_a_damaged_file_is_named(catalogue, name, tmp_path):
    catalogue.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(StoreError, match=name):
        Catalogue.load(tmp_path)


def test_shapes_must_fit(catalogue):
    with pytest.raises(ValueError, match="item_counts must have shape"):
        Catalogue(**{**vars(catalogue), "item_counts": np.zeros(3)})
    with pytest.raises(ValueError, match="titles must hold 4"):
        Catalogue(**{**vars(catalogue), "titles": ["one"]})


def test_new_items_take_their_place_among_the_ids():
    users, items = IdMap.fit(["a", "b"], "user"), IdMap.fit([10, 20, 30], "item")
    before = Catalogue(users, items, np.array([0, 2, 3]), np.array([0, 2, 1], np.int32), np.array([1, 1, 1]), ["x", "y", "z"])
    after, old, new = before.with_items(pl.Series([25, 5]), ["q", "p"])
    assert after.items.series.to_list() == [5, 10, 20, 25, 30]
    assert old.tolist() == [1, 2, 4] and new.tolist() == [3, 0]
    assert after.titles == ["p", "x", "y", "q", "z"]
    assert after.item_counts.tolist() == [0, 1, 1, 0, 1]
    assert after.seen_indices.tolist() == [1, 4, 2] and after.seen_matrix().toarray().tolist() == [[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]
