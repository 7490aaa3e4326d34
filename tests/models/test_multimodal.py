"""Multimodal models: new items from named features, and what unsound vectors are told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from graphrec.errors import ConfigError, LogError, UnsupportedError
from graphrec.graph.arrays import write_feature
from graphrec.graph.store import GraphStore
from graphrec.logs.media import read_media
from graphrec.logs.source import MediaTable
from graphrec.logs.table import Media
from graphrec.models import create, load_model
from graphrec.training.train import train
from tests.models.conftest import TRAINING, checkerboard, make_store, named

NAMES = ["vbpr", "freedom", "bm3"]


@pytest.mark.parametrize("name", NAMES)
def test_named_modalities_give_new_items_vectors_of_their_colour(name, board, tmp_path):
    model = train(board, create(name, modalities=["image", "audio"]), tmp_path / "run", TRAINING).model
    assert model.item_features == ("image", "audio")
    image, audio = np.ones((4, 8), np.float32), np.ones((4, 5), np.float32)
    image[:, 0] += [2, -2, 2, 0]
    audio[:, 0] += [2, -2, 0, 0]
    audio[2], image[3], audio[3] = 0, 0, 0  # an item without sound, and one without anything
    added = model.add_items(pl.Series([9001, 9002, 9003, 9004]), {"image": image, "audio": audio})
    assert added == 3 and len(model.catalogue.items) == 33
    colours = model.catalogue.items.index_of([9001, 9002, 9003])
    near = model.similar([9001, 9002, 9003], 5).filter(pl.col("similar_item_id") < 9000)
    parity = (near["similar_item_id"] - 1000) // 7 % 2
    assert ((near["item_id"] == 9002).cast(int) + parity == 1).mean() > 0.9 and len(colours) == 3
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model").recommend(["u001"], 5).equals(model.recommend(["u001"], 5))


@pytest.mark.parametrize("name", NAMES)
def test_without_names_all_features_are_read_and_new_items_refused(name, board, fitted):
    with pytest.raises(UnsupportedError, match="learned nothing from item features"):
        fitted(name, board).item_vectors({})


@pytest.mark.parametrize("name", NAMES)
def test_a_store_without_vectors_is_told_how_to_get_them(name, tmp_path):
    store = make_store(tmp_path / "plain", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match=r"has no item feature; name files with \[log\] media"):
        train(store, name, tmp_path / "run")


def test_vectors_that_match_no_item_and_vectors_of_zeros_are_refused(tmp_path):
    ids = pl.Series(np.arange(30))  # row numbers, and the items are 1000, 1007, ...
    with pytest.raises(LogError, match=r"media image\): none of the 30 rows .*are 0, 1, 2, …, those of the items 1000, 1007, 1014"):
        make_store(tmp_path / "store", *map(named, checkerboard()), media={"image": Media(ids, np.ones((30, 4), np.float32))})
    zeros = {"image": Media(1000 + 7 * ids, np.zeros((30, 4), np.float32))}
    store = make_store(tmp_path / "zeros", *map(named, checkerboard()), media=zeros)
    with pytest.raises(ConfigError, match="item.image is zero, that is not given, in all 30 rows; write it again"):
        train(store, "freedom", tmp_path / "run")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 2), dtype=np.complex64), r"numeric array of shape \(n, F\), got complex64 \(3, 2\)"),
        (np.full((3, 2), "a"), r"numeric array of shape \(n, F\), got <U1 \(3, 2\)"),
        (np.ones(3), r"numeric array of shape \(n, F\), got float64 \(3,\)"),
        (np.ones((4, 2)), r"holds 3 ids but .* 4 vectors; they must be as many, in the same order"),
        (np.array([[1.0, np.nan], [1, 1], [1, 1]]), "row 0 and 0 more hold NaN"),
    ],
)
def test_files_of_another_type_or_length_are_refused(array, message, tmp_path):
    np.save(tmp_path / "image.npy", array)
    (tmp_path / "ids.txt").write_text("1000\n1007\n1014\n")
    with pytest.raises(LogError, match=message):
        read_media("image", MediaTable(path=str(tmp_path / "image.npy"), ids=str(tmp_path / "ids.txt")), pl.Int64())


def test_half_precision_files_are_read(tmp_path):
    np.save(tmp_path / "image.npy", np.array([[1, 2], [3, 4]], dtype=np.float16))
    media = read_media("image", MediaTable(path=str(tmp_path / "image.npy")), pl.Int64())
    assert media.vectors.dtype == np.float32 and media.vectors.tolist() == [[1, 2], [3, 4]]


def test_features_of_a_store_with_another_number_of_rows_are_refused(board, tmp_path):
    store: GraphStore = make_store(tmp_path / "store", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match="a row for each of 30 nodes, got 29"):
        store.add_feature("item", "image", np.ones((29, 3), np.float32), {})
    write_feature(store.folder, "item", "image", np.ones((30, 3), np.complex64), {})  # as an earlier graphrec did
    with pytest.raises(ConfigError, match=r"item.image must be numbers of shape \(30, F\), got complex64 \(30, 3\)"):
        train(store, "bm3", tmp_path / "run")
