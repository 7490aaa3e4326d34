"""Leaving relations and features out: what each model reads is found, and without it the model is another one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.models.ablation import ablations
from graphrec.nn.relations import Relations
from tests.models.conftest import NUM_ITEMS, NUM_USERS, checkerboard, make_store, named, neighbours


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
