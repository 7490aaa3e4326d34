"""A feature that a run file configures must be one that the model reads, as the store holds it."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from graphrec.api import check_features
from graphrec.errors import ConfigError
from graphrec.features.settings import FeaturesSettings
from graphrec.features.write import add_features
from graphrec.models import create
from graphrec.settings import parse
from tests.notes import Notes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def wanted(tmp_path):
    def wanted(**values) -> FeaturesSettings:
        return parse(FeaturesSettings, {"cache": str(tmp_path / "cache"), **values}, "[features]")

    return wanted


READS = {"name": "id+features", "item": ["text"]}


def test_features_that_the_model_reads_pass(store, wanted):
    features = wanted(item={"text": {"columns": ["text"]}}, user={"taste": {"template": "{history}"}})
    add_features(store, features)
    inputs = {**READS, "user": ["taste"]}
    check_features(features, store.folder, "lightgcn", {"inputs": inputs})
    check_features(wanted(), store.folder, "item-knn", {})
    # keywords, device and batches change no vector
    spec = {"columns": ["text"], "keywords": 5}
    check_features(wanted(item={"text": spec}), store.folder, "lightgcn", {"inputs": READS})


@pytest.mark.parametrize(("model", "settings"), [("lightgcn", {}), ("mb-cgcn", {}), ("lightgcn", {"inputs": {**READS, "item": ["other"]}})])
def test_a_feature_that_is_not_used_is_refused(store, wanted, model, settings):
    with pytest.raises(ConfigError, match=rf"\[features.item.text\] is configured, and the model {model} does not use it.*inputs"):
        check_features(wanted(item={"text": {}}), store.folder, model, settings)


@pytest.mark.parametrize("model", ["item-knn", "graph-filter", "popularity"])
def test_a_model_that_can_read_none_is_trained_with_a_note(store, wanted, model):
    notes = Notes()
    features = wanted(item={"text": {}}, user={"taste": {"template": "{history}"}})
    check_features(features, store.folder, model, {}, notes)
    assert notes.lines == [f"{model} reads no features: [features.item.text], [features.user.taste] of the run file does not count here"]


def test_the_advice_for_an_unused_feature_can_be_followed(store, wanted):
    """What the message names is taken by the model's settings."""
    taste = {"user": {"taste": {"template": "{history}"}}}
    for model, values in (("lightgcn", {"item": {"text": {}}}), ("lightgcn", taste), ("freedom", {"item": {"text": {}}})):
        store.add_feature("item", "other", np.ones((store.num_items, 2), np.float32), {"kind": "array"})
        settings = {"modalities": ["other"]} if model == "freedom" else {}
        with pytest.raises(ConfigError, match="such as .*, or take the section out") as refused:
            check_features(wanted(**values), store.folder, model, settings)
        advice = re.search(r"such as (.*), or take the section out", str(refused.value))[1].replace('"..."', '"text"')
        made = create(model, tomllib.loads(advice))
        assert made.features_used(store) >= {f"{ntype}.{name}" for ntype, names in values.items() for name in names}


def test_one_unused_beside_a_used_one_is_refused(store, wanted):
    features = wanted(item={"text": {}}, user={"taste": {"template": "{history}"}})
    with pytest.raises(ConfigError, match=r"\[features.user.taste\] is configured"):
        check_features(features, store.folder, "lightgcn", {"inputs": READS})


def test_a_feature_that_the_store_made_otherwise_is_refused(store, wanted):
    add_features(store, wanted(item={"text": {"columns": ["text"]}}))
    for other, said in (
        ({"template": "{title}"}, r"columns is \['text'\] there; template is None there"),
        ({"columns": ["text"], "encoder": "tfidf"}, "encoder.name is 'wordllama' there"),
    ):
        with pytest.raises(ConfigError, match=rf"\[features.item.text\] is not how the store.*{said}.*graphrec features"):
            check_features(wanted(item={"text": other}), store.folder, "lightgcn", {"inputs": READS})


def test_models_of_modalities_read_all_items_features_or_those_named(store):
    store.add_feature("item", "image", np.eye(store.num_items, 4, dtype=np.float32) + 1, {"kind": "array"})
    store.add_feature("item", "sound", np.eye(store.num_items, 4, dtype=np.float32) + 1, {"kind": "array"})
    for name in ("vbpr", "freedom", "bm3"):
        assert {"item.image", "item.sound"} <= create(name).features_used(store)
        model = create(name, {"modalities": ["image"], "embedding_dim": 8})
        assert model.features_used(store) == {"item.image"}
        model.prepare(store)
        assert any("item.image (4 columns" in text for text in model.origins.values())
    assert create("popularity").features_used(store) == set()


@pytest.mark.parametrize(
    "values",
    [{"item": {"text": {"history_columns": ["title"]}}}, {"item": {"text": {"history_items": 3}}},
     {"user": {"taste": {"template": "{likes}", "history_items": 3}}}],
)  # fmt: skip
def test_settings_of_histories_where_none_is_read_are_refused(wanted, values):
    with pytest.raises(ConfigError, match=r"is read only by a template of users with \{history\}"):
        wanted(**values)
