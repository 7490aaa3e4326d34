"""Opening, reading and checking a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from graphrec.errors import ConfigError, StoreError
from graphrec.features.nodes import load_features
from graphrec.graph.arrays import write_feature
from graphrec.graph.build import build
from graphrec.graph.manifest import SCHEMA_VERSION, Manifest
from graphrec.graph.store import GraphStore
from graphrec.logs.read import read_log


@pytest.fixture
def copy(shop, tmp_path) -> Path:
    return Path(shutil.copytree(shop.folder, tmp_path / "copy"))


def test_an_opened_store_says_what_the_built_one_says(shop):
    opened = GraphStore.open(shop.folder)
    assert opened.manifest == shop.manifest
    assert opened.node_types == ["entity", "item", "user"]
    assert ("item", "rev_buy", "user") in opened.canonical_etypes
    assert {tuple(etype) for etype in opened.graph().canonical_etypes} == set(opened.canonical_etypes)
    assert (opened.train_matrix() != shop.train_matrix()).nnz == 0


def test_the_train_matrix_holds_the_weights(shop):
    matrix, train = shop.train_matrix(), shop.interactions()
    assert matrix.shape == (12, 12) and matrix.dtype == np.float32 and matrix.has_sorted_indices
    dense = np.zeros((12, 12))
    np.add.at(dense, (train.user, train.item), train.weight)
    assert (matrix.toarray() == dense).all() and dense.max() == 2
    assert shop.train_matrix("view").max() == 1


def test_the_catalogue_holds_the_training_items_of_the_target(shop):
    catalogue, train = shop.catalogue(), shop.interactions("train", "buy")
    indptr, indices = catalogue.seen(np.arange(12))
    for user in range(12):
        assert indices[indptr[user] : indptr[user + 1]].tolist() == train.item[train.user == user].tolist()
    assert catalogue.item_counts.tolist() == np.bincount(train.item, minlength=12).tolist()
    assert catalogue.titles[0] == "Zero"


def test_unknown_names_list_the_choices(shop):
    for call, message in (
        (lambda: shop.ids("itm"), "node type 'itm'.*entity, item, user.*did you mean 'item'"),
        (lambda: shop.interactions("tset"), "unknown split 'tset'.*did you mean 'test'"),
        (lambda: shop.interactions("train", "cart"), "unknown behaviour 'cart'; choose one of buy, view"),
        (lambda: shop.feature("item", "image"), "unknown item feature 'image'"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    assert shop.table("entity") is None


FILES = ["graph.dgl", "splits/train.parquet", "splits/test.parquet", "ids/user.parquet", "tables/item.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_edited_or_missing_file_is_named(copy, name):
    path = copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(StoreError, match=f"{name} was truncated"):
        GraphStore.open(copy)
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(StoreError, match=f"{name} was changed"):
        GraphStore.open(copy)
    path.unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        GraphStore.open(copy)
    path.write_bytes(whole)
    GraphStore.open(copy)


def test_without_verification_a_damaged_file_still_gives_a_readable_error(copy):
    for name in ("graph.dgl", "splits/train.parquet", "ids/item.parquet"):
        (copy / name).write_bytes((copy / name).read_bytes()[:64])
    store = GraphStore.open(copy, verify=False)
    for read, name in ((store.graph, "graph.dgl"), (store.train_matrix, "train.parquet"), (store.catalogue, "parquet")):
        with pytest.raises(StoreError, match=f"{name} is missing or damaged"):
            read()


def test_a_newer_schema_asks_for_an_upgrade(copy):
    values = json.loads((copy / "manifest.json").read_text())
    values["schema_version"] = SCHEMA_VERSION + 1
    (copy / "manifest.json").write_text(json.dumps({**values, "surprise": 1}))
    with pytest.raises(StoreError, match=f"schema version {SCHEMA_VERSION + 1}.*upgrade graphrec"):
        GraphStore.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"digest": 1, "schema_version": null}'])
def test_a_damaged_manifest_is_named(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="manifest.json is damaged"):
        GraphStore.open(copy)


def test_an_edited_manifest_is_noticed(copy):
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"target_behavior": "buy"', '"target_behavior": "view"'))
    with pytest.raises(StoreError, match="manifest.json was edited"):
        GraphStore.open(copy)


def test_what_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="there is no graph store at .*nowhere.*graphrec build"):
        GraphStore.open(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="holds no manifest.json"):
        GraphStore.open(tmp_path)


def test_the_manifest_survives_writing(shop, tmp_path):
    shop.manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == shop.manifest


def test_features_are_added_replaced_and_checked(copy):
    store = GraphStore.open(copy)
    array = np.arange(24, dtype=np.float16).reshape(12, 2)
    store.add_feature("item", "text-mini", array, {"kind": "text", "model": "mini"})
    store.add_feature("item", "text-mini", array + 1, {"kind": "text", "model": "mini", "dim": 2})
    store.add_feature("user", "bag", np.zeros((12, 1), dtype=np.float32))
    reopened = GraphStore.open(copy)
    assert reopened.features("item") == ["text-mini"] and reopened.features("user") == ["bag"]
    read, provenance = reopened.feature("item", "text-mini")
    assert (read == array + 1).all() and read.dtype == np.float16 and provenance["dim"] == 2
    assert reopened.feature("user", "bag")[1] == {}
    wanted = r"item.short must have a row for each of 12 nodes, got 3; give a row of numbers for each of store.ids\('item'\)"
    with pytest.raises(ConfigError, match=wanted):
        store.add_feature("item", "short", array[:3], {})
    with pytest.raises(ConfigError, match="a feature name has letters"):
        store.add_feature("item", "../escape", array, {})
    path = copy / "features" / "item.text-mini.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match="item.text-mini.safetensors was changed"):
        store.feature("item", "text-mini")
    path.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match="item.text-mini.safetensors is missing or damaged"):
        store.feature("item", "text-mini")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(12), r"must be numbers of shape \(12, F\), got float64 \(12,\)"),
        (np.zeros((12, 0)), r"must be numbers of shape \(12, F\), got float64 \(12, 0\)"),
        (np.zeros((12, 2), bool), r"must be numbers of shape \(12, F\), got bool \(12, 2\)"),
        (np.full((12, 2), np.nan), "must be finite, got NaN or infinity in 12 of 12 rows, the first is row 0"),
        (np.full((12, 2), 1e300), "must be finite"),
    ],
)
def test_an_array_that_no_model_reads_is_refused_when_it_is_added(copy, array, said):
    store = GraphStore.open(copy)
    with pytest.raises(ConfigError, match=f"the feature user.face {said}.*; give a row of numbers for each of store.ids.*zeros for none"):
        store.add_feature("user", "face", array, {})
    with pytest.raises(TypeError, match="provenance must be a mapping, such as .*, got 'mine'"):
        store.add_feature("user", "face", np.ones((12, 2)), "mine")
    assert store.features("user") == []


def test_a_feature_of_an_earlier_graphrec_without_provenance_is_read(copy):
    write_feature(copy, "user", "face", np.ones((12, 2), np.float32), None)
    store = GraphStore.open(copy)
    assert store.provenance("user", "face") == {} and load_features(store, "user", ["face"]).encoders == (None,)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.train_matrix(),
        lambda store: store.graph(),
        lambda store: store.ids("user"),
        lambda store: store.titles(),
        lambda store: store.events("test"),
        lambda store: store.has_timestamps,
        lambda store: store.features("item"),
        lambda store: store.catalogue(),
        lambda store: store.add_feature("item", "new", np.zeros((12, 1)), {}),
    ],
)
def test_a_store_that_was_built_anew_is_not_mixed_with_the_opened_one(copy, tmp_path, read):
    store, unread = GraphStore.open(copy), GraphStore.open(copy)
    store.ids("item")
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(f"u{n},i{n % 7}\n" for n in range(20)))
    build(read_log(tmp_path / "log.csv"), copy, split={"method": "random", "valid": 0, "test": 0}, overwrite=True)
    for opened in (store, unread):
        with pytest.raises(StoreError, match="copy was built anew since it was opened; open it again"):
            read(opened)
    assert GraphStore.open(copy).train_matrix().shape[0] == 20
