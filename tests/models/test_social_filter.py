"""The social graph filter: friends' items join the history, by a share that the training data choose."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.errors import ConfigError
from graphrec.models import create, load_model
from graphrec.models.social_filter import SHARES, with_friends
from tests.models.conftest import NUM_USERS, checkerboard, make_store, named

FIXED = {"cutoff": 0.05, "smooth_share": 0.4, "gain_exponent": 0.3, "sharpening": 0.5}


def test_friends_add_their_share_of_the_users_own_mass():
    train = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2], [0, 0, 0, 0]], np.float32))
    links = sp.csr_matrix(np.array([[0, 0.5, 0.5, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], np.float32))
    found = with_friends(train, links, 0.5).toarray()
    expected = [[1, 1, 0.5, 0.5], [0, 0, 1, 0], [0, 0, 0, 2], [0, 0, 0, 0.5]]  # mass 2 gains 0.5 * 2 * 1/2 from each friend
    np.testing.assert_allclose(found, expected)
    assert with_friends(train, links, 0.0) is train


def test_a_share_of_zero_is_the_graph_filter(board):
    plain = create("graph-filter", FIXED).fit(board)
    social = create("social-graph-filter", FIXED, social_share=0.0).fit(board)
    users = np.arange(NUM_USERS)
    assert torch.equal(plain.score(users), social.score(users))
    other = create("social-graph-filter", FIXED, social_share=0.8).fit(board)
    assert not torch.allclose(plain.score(users), other.score(users))


def test_a_user_without_own_items_gets_those_of_friends(tmp_path):
    train, test = checkerboard()
    pairs = [(user, item) for user, item in named(train) if user != "u004"]
    links = [("u004", "u006"), ("u004", "u008")]
    views = [next(pair for pair in named(train) if pair[0] == "u004")]  # so that training knows the user
    store = make_store(tmp_path / "store", pairs, named(test), views=views, links=links)
    model = create("social-graph-filter", FIXED, social_share=0.4).fit(store)
    listed = model.recommend("u004", 8)
    assert all((item - 1000) // 7 % 2 == 0 for item in listed["item_id"])  # all of the friends' colour
    users = store.ids("user").index_of(["u004", "u006"])
    assert model.knows(users).all() and create("social-ease", social_share=0.4).fit(store).knows(users).all()
    for other in (("graph-filter", {}), ("social-graph-filter", {"social_share": 0.0}), ("social-ease", {"social_share": 0.0})):
        assert create(other[0], **other[1]).fit(store).knows(users).tolist() == [False, True]
    assert float(create("graph-filter", FIXED).fit(store).score(store.ids("user").index_of(["u004"])).abs().sum()) == 0


def test_the_share_is_chosen_kept_and_loaded(board, tmp_path):
    model = create("social-graph-filter", FIXED).fit(board, seed=3)
    assert model.social_share in SHARES
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.social_share == model.social_share
    assert torch.equal(loaded.score(np.arange(5)), model.score(np.arange(5)))
    users, items = (model.embeddings()[ntype] for ntype in ("user", "item"))
    assert users.shape[1] == items.shape[1]


def test_a_store_without_links_is_refused(tmp_path):
    store = make_store(tmp_path / "store", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match="model social-graph-filter needs the relation 'follows'"):
        create("social-graph-filter").fit(store)
