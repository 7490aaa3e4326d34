"""A predictor that is saved and read back scores as it did, and a damaged folder is never read."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from graphrec.errors import RunError
from graphrec.graph.links import split_links
from graphrec.link import LINK_MODELS
from graphrec.link.base import HEADER, LinkModel
from graphrec.link.evaluate import create
from graphrec.link.suggest import suggest, write_vectors
from graphrec.models.saved import WEIGHTS
from tests.link.conftest import SIZE, cliques

FAST = {"epochs": 4, "embedding_dim": 8, "out_dim": 8}
PAIRS = np.stack(np.meshgrid(np.arange(2 * SIZE), np.arange(2 * SIZE), indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture(scope="module")
def named():
    ids = pl.Series([f"n{node:02d}" for node in range(2 * SIZE)])
    return split_links(cliques(), 2 * SIZE, valid_share=0.1, test_share=0.2, seed=3, ids=ids)


@pytest.fixture(scope="module")
def fitted(named):
    closed = ("common-neighbours", "adamic-adar", "resource-allocation")
    return {name: create(name, None if name in closed else FAST).fit(named) for name in LINK_MODELS}


@pytest.mark.parametrize("name", sorted(LINK_MODELS))
def test_a_saved_predictor_answers_as_it_did(name, fitted, tmp_path):
    model = fitted[name]
    model.save(tmp_path / "one")
    again = LinkModel.load(tmp_path / "one")
    assert type(again) is type(model) and again.settings == model.settings
    np.testing.assert_array_equal(again.score(PAIRS), model.score(PAIRS))
    assert suggest(again, ["n03", "n25"], 4).equals(suggest(model, ["n03", "n25"], 4))
    if model.embeddings() is not None:
        np.testing.assert_array_equal(again.embeddings(), model.embeddings())
        write_vectors(again, tmp_path / "vectors.parquet")
        assert pl.read_parquet(tmp_path / "vectors.parquet")["node_id"].to_list() == model.known.ids.to_list()
    again.save(tmp_path / "two")  # and it can be saved again
    np.testing.assert_array_equal(LinkModel.load(tmp_path / "two").score(PAIRS), model.score(PAIRS))


def test_the_mlp_decoder_and_a_directed_graph_come_back(tmp_path):
    graph = split_links(cliques(), 2 * SIZE, directed=True, seed=3)
    model = create("gae", {**FAST, "decoder": "mlp"}).fit(graph)
    model.save(tmp_path / "one")
    again = LinkModel.load(tmp_path / "one")
    assert again.known.directed and again.known.ids.to_list() == list(range(2 * SIZE))
    np.testing.assert_array_equal(again.known.train, graph.train)
    np.testing.assert_array_equal(again.score(PAIRS), model.score(PAIRS))


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:-8]), "bytes, .* were written"),
        (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"), "was changed after it was written"),
        (WEIGHTS, lambda path: path.unlink(), "is missing"),
        ("nodes/edges.parquet", lambda path: path.write_bytes(path.read_bytes()[:-8]), "bytes, .* were written"),
        ("nodes/ids.parquet", lambda path: path.unlink(), "is missing"),
        (HEADER, lambda path: path.write_text(path.read_text()[:40]), "is damaged"),
        (HEADER, lambda path: path.unlink(), "holds no model"),
        (HEADER, lambda path: _edit(path, schema_version=99), "schema version 99"),
        (HEADER, lambda path: _edit(path, name="no-such"), "unknown predictor 'no-such'"),
        (HEADER, lambda path: _edit(path, settings={"out_dim": 3}), "does not fit the predictor gae"),
    ],
    ids=[
        "truncated",
        "edited",
        "no-weights",
        "edges-truncated",
        "no-ids",
        "header-truncated",
        "no-header",
        "newer",
        "name",
        "size",
    ],
)
def test_a_damaged_folder_is_named(file, damage, words, fitted, tmp_path):
    fitted["gae"].save(tmp_path / "one")
    damage(tmp_path / "one" / file)
    with pytest.raises(RunError, match=words):
        LinkModel.load(tmp_path / "one")


def _edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_there_is_not_replaced_unasked_and_nothing_learned_is_not_saved(fitted, tmp_path):
    fitted["mf"].save(tmp_path / "one")
    with pytest.raises(RunError, match="already exists"):
        fitted["gae"].save(tmp_path / "one")
    fitted["gae"].save(tmp_path / "one", overwrite=True)
    assert LinkModel.load(tmp_path / "one").name == "gae"
    with pytest.raises(RunError, match="holds a gae predictor, not mf"):
        type(fitted["mf"]).load(tmp_path / "one")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(RunError):
        fitted["gae"].save(tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "letter.txt").read_text() == "dear"
    with pytest.raises(RunError, match="has not learned anything yet"):
        create("gae").save(tmp_path / "none")
    assert not (tmp_path / "none").exists()
