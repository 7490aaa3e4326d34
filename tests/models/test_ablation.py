"""Leaving relations and features out: what each model reads is found, and without it the model is another one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.models.ablation import ablations
from graphrec.nn.relations import Relations
from graphrec.training.train import train
from tests.models.conftest import NUM_ITEMS, NUM_USERS, TRAINING, checkerboard, make_store, named, neighbours


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The checkerboard with views, links and two item features."""
    train, test = checkerboard()
    links = [(f"u{left:03d}", f"u{right:03d}") for left, right in neighbours()]
    folder = tmp_path_factory.mktemp("stores") / "store"
    made = make_store(folder, named(train), named(test), views=named(train)[::2], links=links)
    rng = np.random.default_rng(0)
    for name in ("text", "cover"):
        made.add_feature("item", name, rng.normal(size=(NUM_ITEMS, 6)).astype(np.float32), {"encoder": "test"})
    made.add_feature("user", "taste", rng.normal(size=(NUM_USERS, 6)).astype(np.float32), {"encoder": "test"})
    return made


@pytest.mark.parametrize(
    ("model", "settings", "parts"),
    [
        ("popularity", {}, []),
        ("lightgcn", {}, []),
        ("social-lightgcn", {}, ["interaction", "follows"]),
        ("diffnet", {}, ["follows"]),
        ("mhcn", {}, ["follows"]),
        ("social-graph-filter", {}, ["follows"]),
        ("social-graph-filter", {"social_share": 0.0}, []),
        ("mb-cgcn", {}, ["view"]),
        ("mbgcn", {}, ["view"]),
        ("composed", {"encoder": {"name": "rgcn"}}, ["interaction", "view", "follows"]),
        ("composed", {"encoder": {"name": "fused", "relations": ["view", "target"]}}, ["view", "interaction"]),
        ("composed", {"encoder": {"name": "rgcn", "relations": ["target"]}}, []),
        ("social-lightgcn", {"inputs": {"name": "id+features", "item": ["text", "cover"], "user": ["taste"]}},
         ["interaction", "follows", "item.text", "item.cover", "user.taste"]),
        ("lightgcn", {"inputs": {"init": "features", "item": ["text"]}}, ["item.text"]),
    ],
)  # fmt: skip
def test_what_can_be_left_out_and_what_is_left_trains(store, model, settings, parts):
    found = ablations(create(model, settings), store)
    assert list(found) == parts
    for changes in found.values():
        left = create(model, {**settings, **changes})
        if model == "social-graph-filter":
            continue
        left.prepare(store, seed=0)
        left.finish()
        assert all(np.isfinite(rows).all() for rows in left.embeddings().values())


@pytest.mark.parametrize(
    ("model", "settings", "parts"),
    [
        ("kgat", {}, ["colour", "shape"]),
        ("kgat", {"relations": ["shape"]}, ["shape"]),
        ("kgat", {"without": ["colour"]}, ["shape"]),
        ("kgcn", {}, ["colour", "shape"]),
        ("kgcn", {"relations": ["shape", "colour"]}, ["shape", "colour"]),
        ("kgcn", {"relations": ["colour"]}, []),
        ("kgcn", {"without": ["colour"]}, []),
        ("knowledge-lightgcn", {}, ["colour", "shape"]),
        ("knowledge-lightgcn", {"relations": ["colour"]}, ["colour"]),
        ("vbpr", {}, ["item.audio", "item.image"]),
        ("vbpr", {"modalities": ["image", "audio"]}, ["item.image", "item.audio"]),
        ("bm3", {}, ["item.audio", "item.image"]),
        ("freedom", {}, ["item.audio", "item.image"]),
        ("freedom", {"modality_weights": {"audio": 2.0}}, ["item.audio", "item.image"]),
        ("freedom", {"modalities": ["image"]}, []),
        ("freedom", {"modalities": ["image"], "inputs": {"init": "features", "item": ["audio"]}}, ["item.audio"]),
        ("composed", {"inputs": {"name": "vbpr"}}, ["item.audio", "item.image"]),
        ("composed", {"encoder": {"name": "freedom", "prune": 0.5}}, ["item.audio", "item.image"]),
    ],
)  # fmt: skip
def test_only_what_a_model_reads_is_left_out_and_every_row_is_another_model(board, model, settings, parts, tmp_path):
    found = ablations(create(model, settings), board)
    assert list(found) == parts
    scores = []
    for number, changes in enumerate(({}, *found.values())):
        one = create(model, {**settings, **changes})
        train(board, one, tmp_path / str(number), {**TRAINING, "epochs": 1})
        scores.append(one.score(np.arange(NUM_USERS)))
        assert torch.isfinite(scores[-1]).all()
    assert all(not torch.equal(scores[0], other) for other in scores[1:])


def test_a_modality_left_out_takes_its_weight_along(board):
    found = ablations(create("freedom", modality_weights={"audio": 2.0, "image": 0.5}), board)
    assert found["item.audio"] == {"modalities": ["image"], "modality_weights": {"image": 0.5}}
    found = ablations(create("composed", inputs={"name": "vbpr"}, encoder={"name": "freedom"}), board)
    assert {role: one["modalities"] for role, one in found["item.image"].items()} == {"inputs": ["audio"], "encoder": ["audio"]}
    with pytest.raises(ConfigError, match="unknown item feature 'imag'.*did you mean 'image'"):
        ablations(create("bm3", modalities=["imag", "audio"]), board)


@pytest.mark.parametrize(
    ("model", "without", "message"),
    [
        ("kgat", ["interaction"], "model kgat without: 'interaction' cannot be left out, for it is the target behaviour.*colour, shape"),
        ("kgat", ["target"], "'interaction' cannot be left out"),
        ("kgat", ["follows"], "'follows' cannot be left out, for the model does not read it.*it can do without colour, shape"),
        ("mb-cgcn", ["interaction"], "'interaction' cannot be left out, for it is the target.*can do without view"),
        ("mbgcn", ["shape"], "'shape' cannot be left out, for the model does not read it.*can do without view"),
        ("knowledge-lightgcn", ["interaction"], "'interaction' cannot be left out, for it is the target"),
        ("kgcn", ["colour", "interaction"], "'interaction' cannot be left out, for it is the target"),
        ("diffnet", ["interaction"], "'interaction' cannot be left out, for it is the target.*can do without follows"),
        ("mhcn", ["interaction"], "'interaction' cannot be left out, for it is the target"),
    ],
)  # fmt: skip
def test_what_a_model_needs_or_does_not_read_cannot_be_left_out(board, model, without, message):
    with pytest.raises(ConfigError, match=message):
        create(model, without=without).prepare(board, seed=0)


def test_a_knowledge_model_without_triples_is_what_it_is_without_them(board):
    left = create("knowledge-lightgcn", without=["colour", "shape"], num_layers=2)
    alone = create("lightgcn", num_layers=2)
    for model in (left, alone):
        model.prepare(board, seed=3)
        model.finish()
    assert np.array_equal(left.embeddings()["item"], alone.embeddings()["item"])


def test_a_relation_left_out_reaches_no_encoder(store):
    whole = Relations.from_store(store)
    left = whole.without(["follows"], "test")
    assert left.messages(None, "test") and all(message.etype[1] != "follows" for message in left.messages(None, "test"))
    assert left.social("follows", "test").num_edges == 0 and whole.social("follows", "test").num_edges == 2 * NUM_USERS
    assert whole.without(["view"], "test").behaviors == ["interaction"]
    assert whole.without([], "test") is whole and left.to(torch.device("cpu")).dropped == {"follows"}
    with pytest.raises(ConfigError, match="needs the relation 'folows'.*did you mean 'follows'"):
        whole.without(["folows"], "test")
    with pytest.raises(ConfigError, match="no relation is left once follows, interaction, view is left out"):
        whole.without(["follows", "target", "view"], "test").messages(None, "test")


def test_social_lightgcn_without_links_is_the_graph_of_interactions_alone(store):
    left = create("social-lightgcn", without=["follows"])
    alone = create("composed", encoder={"name": "joint-lightgcn", "num_layers": 2, "relations": ["target"]})
    for model in (left, alone):
        model.prepare(store, seed=3)
        model.finish()
    assert np.array_equal(left.embeddings()["user"], alone.embeddings()["user"])


def test_the_last_feature_leaves_ids(store):
    inputs = {"name": "id+features", "item": ["text"], "scale": 0.2}
    found = ablations(create("lightgcn", inputs=inputs), store)
    assert found == {"item.text": {"inputs": {"name": "id", "scale": 0.2}}}


def test_mistakes_name_what_there_is(store):
    with pytest.raises(ConfigError, match="unknown relation 'trusts'; choose one of"):
        ablations(create("diffnet", social="trusts"), store)
    with pytest.raises(ConfigError, match="unknown item feature 'txt'.*did you mean 'text'"):
        ablations(create("lightgcn", inputs={"name": "id+features", "item": ["txt"]}), store)
    with pytest.raises(ConfigError, match="reads the target behaviour alone; take that setting away"):
        create("lightgcn", without=["follows"])
