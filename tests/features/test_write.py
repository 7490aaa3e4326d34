"""From the [features] section to files in the store: provenance, new items, histories, and the same vectors later."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from graphrec.errors import ConfigError
from graphrec.features.nodes import as_inputs
from graphrec.features.settings import FeaturesSettings, TextFeature
from graphrec.features.write import add_features, encode_new, node_texts
from graphrec.graph.sides import NEW_ITEMS
from graphrec.graph.store import GraphStore
from graphrec.settings import parse
from tests.features.conftest import NEW, NUM_ITEMS


def section(tmp_path, **values) -> FeaturesSettings:
    return parse(FeaturesSettings, {"cache": str(tmp_path / "cache"), **values}, "[features]")


def test_what_is_written_and_where_it_comes_from(store, tmp_path):
    written = add_features(store, section(tmp_path, item={"text": {"template": "{title}: {text}", "keywords": 3}}))
    assert [(one.feature, one.rows, one.given) for one in written] == [
        ("item.text", NUM_ITEMS, NUM_ITEMS),
        ("item-new.text", 3, 2),
    ]
    again = GraphStore.open(store.folder)  # the manifest's checksums still hold
    array, provenance = again.feature("item", "text")
    assert array.shape == (NUM_ITEMS, 256) and provenance["encoder"]["name"] == "wordllama"
    assert provenance["template"] == "{title}: {text}" and provenance["rows_zero"] == 0
    assert provenance["table_sha256"] == again.manifest.files["tables/item.parquet"].sha256
    near = array @ array.T
    assert near[0, 2] > near[0, 1]  # two cats' things are nearer than a cat's and a dog's
    new, provenance = again.feature(NEW_ITEMS, "text")
    assert provenance["rows_zero"] == 1 and not new[again.new_items()[0].index_of(["new-blank"])].any()
    words = pl.read_parquet(store.folder / "profiles" / "item.text.parquet")
    assert words["id"].to_list()[0] == "i00" and {"kitten", "whiskers", "purring", "cat"} & set(words["keywords"][0])


def test_the_section_may_be_a_mapping(store, tmp_path):
    written = add_features(store, {"item": {"text": {"columns": ["title"], "encoder": "tfidf"}}, "cache": str(tmp_path)})
    assert [one.feature for one in written] == ["item.text", "item-new.text"]
    with pytest.raises(ConfigError, match=r"\[features\] itm: unknown key.*did you mean 'item'"):
        add_features(store, {"itm": {}})
    with pytest.raises(ConfigError, match=r"\[features\] item.text.colums: unknown key"):
        add_features(store, {"item": {"text": {"colums": ["title"]}}})


def test_the_line_that_reads_features_is_one_that_is_taken():
    assert as_inputs({"item": ["text"]}) == 'inputs = {name = "id+features", item = ["text"]}'
    assert as_inputs({"user": ["taste"]}) == 'inputs = {name = "id+features", item = ["..."], user = ["taste"]}'


def test_the_second_time_nothing_is_encoded(store, tmp_path):
    wanted = section(
        tmp_path, item={"text": {}}, user={"taste": {"template": "{history}. {likes}", "history_columns": ["text"]}}
    )
    first, second = add_features(store, wanted), add_features(store, wanted)
    assert sum(one.computed for one in first) > 0
    assert [one.computed for one in second] == [0, 0, 0]
    assert [one.cached for one in second] == [one.computed for one in first]


def test_a_history_holds_training_items_alone(store):
    texts, _ = node_texts(store, "user", TextFeature(template="{history}"), "here")
    train, titles = store.train_matrix(), np.array(store.titles())
    for user, text in enumerate(texts):
        assert sorted(text.split("; ")) == sorted(titles[train[user].indices])


@pytest.mark.parametrize("encoder", ["wordllama", {"name": "tfidf", "min_texts": 1}])
def test_new_rows_get_the_vectors_that_the_build_would_give(store, tmp_path, encoder):
    add_features(store, section(tmp_path, item={"text": {"columns": ["text"], "encoder": encoder}}))
    table = pl.DataFrame({"text": list(NEW.values())})
    written, _ = store.feature(NEW_ITEMS, "text")
    order = store.new_items()[0].index_of(list(NEW))
    np.testing.assert_allclose(encode_new(store, "item", "text", table), written[order], atol=1e-6)
    with pytest.raises(ConfigError, match="new items: the template '{text}' names the column 'text'"):
        encode_new(store, "item", "text", pl.DataFrame({"words": ["x"]}))
    with pytest.raises(ConfigError, match="item.image was not made from text"):
        encode_new(store, "item", "image", table)


def test_media_of_the_log_reaches_nodes_and_new_items(store):
    image, _ = store.feature("item", "image")
    new, _ = store.feature(NEW_ITEMS, "image")
    assert image.any(axis=1).sum() == 18 and new.shape == (3, 6)
    assert np.sign(image[0, 0]) == 1 and np.sign(image[1, 0]) == -1 and not image[3].any()


@pytest.mark.parametrize(("values", "said"), [
    ({"item": {"text": {"columns": ["titel"]}}}, "names the column 'titel'.*did you mean 'title'"),
    ({"item": {"text": {"encoder": {"name": "tfidf", "dims": 3}}}}, "dims: unknown key.*did you mean 'dim'"),
    ({"item": {"text": {"columns": ["title"], "template": "{title}"}}}, "either columns or a template"),
    ({"item": {"x": {}}, "media": {"x": {"column": "file", "encoder": {"name": "image", "model": "m"}}}}, "both name a feature 'x'"),
    ({"media": {"cover": {"column": "file", "encoder": {"name": "image"}}}}, "model: required but missing"),
])  # fmt: skip
def test_what_is_wrong_is_named(store, tmp_path, values, said):
    with pytest.raises(ConfigError, match=said):
        add_features(store, section(tmp_path, **values))


def test_the_verb_fills_a_store(store, tmp_path, monkeypatch):
    import json

    from typer.testing import CliRunner

    from graphrec.cli import app

    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["features", str(store.folder), "--set", "features.item.text.encoder=tfidf", "--json"])
    assert done.exit_code == 0, done.output
    assert [row["feature"] for row in json.loads(done.stdout)["features"]] == ["item.text", "item-new.text"]
    assert store.features("item") == ["image", "text"]
    assert runner.invoke(app, ["features", str(store.folder)]).exit_code == 1
