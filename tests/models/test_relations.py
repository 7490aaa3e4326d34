"""Models of several relations: what they say where a relation is missing, and what they report."""

from __future__ import annotations

import pytest

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.training import journal
from graphrec.training.train import train
from tests.models.conftest import checkerboard, make_store, named

SOCIAL = ["social-lightgcn", "diffnet", "mhcn"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The checkerboard without links and without views."""
    return make_store(tmp_path_factory.mktemp("stores") / "plain", *map(named, checkerboard()))


@pytest.mark.parametrize("name", SOCIAL)
def test_a_store_without_links_is_refused_with_what_there_is(name, plain, tmp_path):
    with pytest.raises(ConfigError, match=r"needs the relation 'follows'.* it has interaction \(user to item, \d+ edges\)"):
        train(plain, name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", SOCIAL)
def test_weights_of_relations_reach_summary_and_journal(name, board, tmp_path):
    run = train(board, name, tmp_path / "run", {"epochs": 2, "batch_size": 64})
    shares = run.model.relation_weights()
    assert {"follows to user", "interaction to user"} <= set(shares) or "social channel to user" in shares
    assert sum(value for name, value in shares.items() if name.endswith("user")) == pytest.approx(1)
    assert run.summary()["relations"] == pytest.approx(shares, abs=1e-4)
    assert journal.read(run.folder)[-1]["relations"] == run.summary()["relations"]


def test_shares_of_modalities_are_reported_where_they_are_learned(board, tmp_path):
    settings = {"epochs": 2, "batch_size": 64, "learning_rate": 0.05}
    run = train(board, create("freedom", graph="learned", frozen_share=0.2), tmp_path / "run", settings)
    shares = run.model.relation_weights()
    assert list(shares) == ["audio neighbours to item", "image neighbours to item"]
    assert sum(shares.values()) == pytest.approx(1) and shares["image neighbours to item"] != 0.5
    assert run.summary()["relations"] == pytest.approx(shares, abs=1e-4)
    frozen = create("freedom")
    frozen.prepare(board)
    assert frozen.relation_weights() == {}


def test_a_model_of_one_relation_reports_none(board, tmp_path):
    run = train(board, "lightgcn", tmp_path / "run", {"epochs": 1})
    assert run.model.relation_weights() == {} and "relations" not in run.summary()


def test_links_change_what_a_user_gets(board):
    def vectors(weight):
        model = create("social-lightgcn", social_weight=weight)
        model.prepare(board, seed=0)
        model.finish()
        return model.embeddings()["user"]

    assert abs(vectors(1.0) - vectors(4.0)).max() > 1e-3
