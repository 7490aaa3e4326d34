"""EASE against the least-squares problem it solves, and friends' votes worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.errors import ConfigError
from graphrec.models import create, ease, load_model
from graphrec.models.ablation import ablations
from graphrec.models.ease import EASE, REGULARISATIONS
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.models.social_ease import SHARES, _normalised
from graphrec.nn.relations import Relations
from tests.models.conftest import NUM_ITEMS, NUM_USERS, checkerboard, make_store, named

ALL_USERS = np.arange(NUM_USERS)


def constrained_ridge(rows, penalty):
    """Column by column: the other columns predict this one, and its own weight is left out of the problem."""
    num_items = rows.shape[1]
    weights = np.zeros((num_items, num_items))
    for item in range(num_items):
        others = np.delete(np.arange(num_items), item)
        x = rows[:, others]
        weights[others, item] = np.linalg.solve(x.T @ x + penalty * np.eye(len(others)), x.T @ rows[:, item])
    return weights


@pytest.mark.parametrize("shape", [(9, 6), (6, 9)], ids=["more users", "more items"])
@pytest.mark.parametrize(("user_exponent", "item_exponent"), [(0.0, 0.0), (0.25, 0.5)])
def test_scores_solve_the_ridge_regression_without_the_items_themselves(shape, user_exponent, item_exponent):
    rng = np.random.default_rng(3)
    dense = (rng.random(shape) < 0.5).astype(np.float64)
    dense[0], dense[:, 0] = 1, 1  # no empty row or column
    model = EASE(user_exponent=user_exponent, item_exponent=item_exponent)
    train = sp.csr_matrix(dense, dtype=np.float32)
    model._solve(train, 0.1)
    to_items = dense.sum(axis=0) ** -item_exponent
    scaled = dense * (dense.sum(axis=1) ** -user_exponent)[:, None] * to_items
    weights = constrained_ridge(scaled, 0.1 * np.linalg.svd(scaled, compute_uv=False)[0] ** 2)
    expected = (dense * to_items) @ weights / to_items
    model._train = train
    np.testing.assert_allclose(model._score(np.arange(shape[0])), expected, rtol=1e-3, atol=1e-4)


def test_long_columns_and_tall_matrices_are_taken_in_blocks(monkeypatch):
    train = sp.csr_matrix((np.random.default_rng(3).random((9, 12)) < 0.6).astype(np.float32))
    whole, blocks = EASE(), EASE()
    whole._solve(train, 0.1)
    monkeypatch.setattr(ease, "_ROWS_AT_ONCE", 2)
    blocks._solve(train, 0.1)
    torch.testing.assert_close(blocks._score(np.arange(9)), whole._score(np.arange(9)))


def test_a_user_without_items_scores_nothing():
    train = sp.csr_matrix(np.array([[1, 1, 0, 1], [0, 0, 0, 0]], np.float32))
    model = EASE()
    model._solve(train, 0.1)
    assert not model._score(np.array([1])).any()


def test_a_penalty_below_float32_is_named():
    twins = sp.csr_matrix(np.ones((2, 3), np.float32))
    with pytest.raises(
        ConfigError, match="with regularisation = 1e-30 the matrix cannot be inverted in float32; take a larger"
    ):
        EASE(user_exponent=0, item_exponent=0)._solve(twins, 1e-30)


@pytest.mark.parametrize("thinner", [0, 1_000_000], ids=["sparse", "dense"])
def test_a_new_user_with_a_known_history_scores_as_the_known_one(thinner, tmp_path, monkeypatch):
    monkeypatch.setattr(ease, "_THINNER", thinner)
    pairs = [pair for pair in named(checkerboard()[0]) if pair[0] < "u024"]  # fewer users than items
    model = create("ease", regularisation=0.05).fit(board := make_store(tmp_path / "store", pairs, named(checkerboard()[1])))
    assert model._by_users
    histories = [model.catalogue.items.ids_of(board.train_matrix()[user].indices) for user in (3, 4)]
    torch.testing.assert_close(model.fold_in(histories), model.score(np.array([3, 4])))
    torch.testing.assert_close(model.fold_in(histories[:1])[0], model.score(np.array([3]))[0])


@pytest.mark.parametrize("name", ["ease", "social-ease"])
def test_the_penalty_is_chosen_told_and_kept(name, board, tmp_path):
    model = create(name).fit(board, seed=3)
    assert model.regularisation in REGULARISATIONS
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model").regularisation == model.regularisation


def test_friends_vote_by_both_degrees(board):
    """In the checkerboard everyone has four friends, of the own colour, and each has the degree four too."""
    fixed = {"regularisation": 0.05, "item_exponent": 0.0}
    own, joined = (create(name, fixed).fit(board).score(ALL_USERS) for name in ("ease", "social-ease"))
    social = create("social-ease", fixed, social_share=0.4).fit(board)
    train, step = board.train_matrix().toarray(), np.arange(NUM_USERS)
    votes = sum(train[(step + away) % NUM_USERS] for away in (-2, 2)) / 2
    expected = own.numpy() / own.numpy().std() + 0.4 * votes / votes.std()
    np.testing.assert_allclose(social.score(ALL_USERS), expected, rtol=1e-4, atol=1e-4)
    assert create("social-ease", fixed).fit(board).social_share in SHARES
    assert joined.shape == own.shape


def test_a_friend_of_many_has_less_to_say(tmp_path):
    links = [("u000", "u001"), ("u002", "u000"), ("u002", "u001"), ("u003", "u000")]  # degrees 3, 2, 2, 1
    store = make_store(tmp_path / "store", *map(named, checkerboard()), links=links)
    found = _normalised(Relations.from_store(store), "follows").toarray()
    expected = np.zeros((NUM_USERS, NUM_USERS))
    for (left, right), product in {(0, 1): 6, (0, 2): 6, (1, 2): 4, (0, 3): 3}.items():
        expected[left, right] = expected[right, left] = product**-0.5
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_share_of_zero_ranks_as_ease(board):
    plain = create("ease", regularisation=0.05).fit(board).score(ALL_USERS)
    social = create("social-ease", regularisation=0.05, social_share=0.0).fit(board).score(ALL_USERS)
    torch.testing.assert_close(social, plain / plain.std(correction=0), rtol=1e-4, atol=1e-5)


def test_a_user_without_own_items_gets_those_of_friends(tmp_path):
    train, test = checkerboard()
    pairs = [(user, item) for user, item in named(train) if user != "u004"]
    views = [next(pair for pair in named(train) if pair[0] == "u004")]  # so that training knows the user
    links = [("u004", "u006"), ("u004", "u008")]
    store = make_store(tmp_path / "store", pairs, named(test), views=views, links=links)
    listed = create("social-ease", regularisation=0.05, social_share=0.4).fit(store).recommend("u004", 8)
    assert all((item - 1000) // 7 % 2 == 0 for item in listed["item_id"])  # all of the friends' colour


def test_too_large_a_log_and_one_without_links_are_refused(board, tmp_path, monkeypatch):
    store = make_store(tmp_path / "store", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match="model social-ease needs the relation 'follows'"):
        create("social-ease").fit(store)
    monkeypatch.setattr(ease, "LARGEST", NUM_ITEMS - 1)
    with pytest.raises(ConfigError, match="takes at most 29 of them, got 40 users and 30 items; take graph-filter"):
        create("ease").fit(board)


def test_as_a_residual_it_is_added_in_standard_deviations(board):
    model = create("bpr-mf", residual={"weight": 0.7, "filter": {"name": "ease", "regularisation": 0.05}})
    assert model.settings.residual["filter"]["item_exponent"] == 0.25, "the settings name every default"
    model.prepare(board, seed=1)
    model.finish()
    trained = model.embeddings()["user"] @ model.embeddings()["item"].T
    added = create("ease", regularisation=0.05).fit(board).score(ALL_USERS).numpy()
    expected = trained / trained.std() + 0.7 * added / added.std()
    np.testing.assert_allclose(model.score(ALL_USERS), expected, rtol=1e-4, atol=1e-4)


def test_friends_can_be_left_out_of_the_model_and_of_a_residual(board):
    assert ablations(create("social-ease"), board) == {"follows": {"social_share": 0.0}}
    model = create("social-lightgcn", residual={"filter": "social-ease"})
    [(name, settings)] = [(key, value) for key, value in ablations(model, board).items() if key == "follows"]
    assert name == "follows" and settings["without"] == ["follows"]
    assert settings["residual"]["filter"]["social_share"] == 0.0
    assert Residual(ResidualSettings(**settings["residual"])).filter.settings.social_share == 0.0
