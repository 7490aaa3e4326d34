"""Models of several relations: what they say where a relation is missing, and what they report."""

from __future__ import annotations

import numpy as np
import pytest

import graphrec
from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.models.ranker import TwoStage
from graphrec.models.score_sum import ScoreSum
from graphrec.training import journal
from graphrec.training.train import train
from tests.models.conftest import checkerboard, make_store, named

SOCIAL = ["social-lightgcn", "diffnet", "mhcn"]
USERS = ["u000", "u001", "u002", "u003"]


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


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The checkerboard, where u000 to u002 took nothing: they looked at an item, u001 follows u003, u003 follows u002, and u001 has a
    feature."""
    train, test = checkerboard()
    train = [(user, item) for user, item in named(train) if user > "u002"]
    views = [(user, train[0][1]) for user in USERS]
    links = [("u001", "u003"), ("u003", "u002")]
    store = make_store(tmp_path_factory.mktemp("stores") / "quiet", train, named(test), views=views, links=links)
    taste = np.zeros((store.num_users, 2), np.float32)
    taste[store.ids("user").index_of(["u001", "u009"])] = 1, 2
    store.add_feature("user", "taste", taste, {})
    store.add_feature("item", "shape", np.ones((store.num_items, 2), np.float32) * np.arange(store.num_items)[:, None], {})
    return store


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("lightgcn", {}, "0001"),
        ("social-lightgcn", {}, "0111"),
        ("diffnet", {}, "0111"),
        ("mhcn", {}, "0111"),
        ("mhcn", {"without": ["follows"]}, "0001"),
        ("mb-cgcn", {}, "1111"),
        ("composed", {"encoder": {"name": "rgcn", "relations": ["interaction", "follows"]}}, "0111"),
        ("lightgcn", {"inputs": {"name": "id+features", "item": ["shape"]}}, "0001"),
        ("lightgcn", {"inputs": {"name": "id+features", "item": ["shape"], "user": ["taste"]}}, "0101"),
    ],
)
def test_users_are_known_by_what_the_model_reads_of_them(name, settings, expected, quiet, tmp_path):
    run = train(quiet, name, tmp_path / "run", {"epochs": 1, "batch_size": 64}, model_settings=settings)
    users = quiet.ids("user").index_of(USERS)
    for model in (run.model, graphrec.load(run.folder).model):
        assert "".join(str(int(known)) for known in model.knows(users)) == expected
    asked = quiet.ids("user").ids_of(users)
    lists = graphrec.recommend(run.folder, asked, k=2, fallback="popular").group_by("user_id", maintain_order=True).first()
    assert "".join("01"[by == "model"] for by in lists["by"]) == expected


def test_a_user_whom_any_part_knows_is_known(quiet):
    plain, social = create("graph-filter").fit(quiet), create("social-graph-filter", social_share=0.4).fit(quiet)
    users = quiet.ids("user").index_of(USERS)
    alone, known = [False, False, False, True], [False, True, True, True]
    assert plain.knows(users).tolist() == alone and social.knows(users).tolist() == known
    assert ScoreSum.of([plain, social], (1, 0)).knows(users).tolist() == alone
    assert ScoreSum.of([plain, social], (1, 1)).knows(users).tolist() == known
    stages = TwoStage()
    stages.assemble(social, None, social.catalogue)
    assert stages.knows(users).tolist() == known
    trained = create("lightgcn", residual={"filter": {"name": "social-ease", "social_share": 0.4}})
    trained.prepare(quiet)
    trained.finish()
    assert trained.knows(users).tolist() == known


def test_what_was_saved_before_models_kept_whom_they_know_goes_by_events(quiet, tmp_path):
    run = train(quiet, "social-lightgcn", tmp_path / "run", {"epochs": 1, "batch_size": 64})
    users, state = quiet.ids("user").index_of(["u001", "u003"]), run.model._state()
    del state["told"]
    run.model._restore(state)
    assert run.model.knows(users).tolist() == [False, True]
    plain = train(quiet, "lightgcn", tmp_path / "plain", {"epochs": 1, "batch_size": 64})
    assert "told" not in plain.model._state()


def test_links_change_what_a_user_gets(board):
    def vectors(weight):
        model = create("social-lightgcn", social_weight=weight)
        model.prepare(board, seed=0)
        model.finish()
        return model.embeddings()["user"]

    assert abs(vectors(1.0) - vectors(4.0)).max() > 1e-3
