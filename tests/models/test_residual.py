"""The residual: a formula worked out by hand, and a training that does not see it. `test_contract` has one among its models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError, RunError
from graphrec.evaluation.ranking import rank_users
from graphrec.evaluation.user_items import UserItems
from graphrec.models import create, load_model
from graphrec.models.graph_filter import GraphFilter
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.training.train import train
from tests.models.conftest import NUM_ITEMS, NUM_USERS, TRAINING, make_store

ALL_USERS = np.arange(NUM_USERS)
SHAPED = {"rank": 8, "cutoff": 0.05, "smooth_share": 0.4, "gain_exponent": 0.3, "sharpening": 0.5}


def learn(name, store, folder, residual):
    training = {**TRAINING, "epochs": 5, "seed": 0}
    return train(store, name, folder, training, model_settings={"residual": residual}).model


@pytest.fixture(scope="module", params=["bpr-mf", "lightgcn"])
def pair(request, board, tmp_path_factory):
    """The same training without and with a residual."""
    folder = tmp_path_factory.mktemp("runs")
    return [learn(request.param, board, folder / str(i), r) for i, r in enumerate((None, {"weight": 0.7}))]


def test_the_score_is_the_sum_of_both_in_standard_deviations(tmp_path):
    histories = {0: [0, 1], 1: [1, 2], 2: [2, 3, 0], 3: [4]}
    store = make_store(tmp_path / "store", [(user, item) for user, row in histories.items() for item in row], [])
    model = create("bpr-mf", {"embedding_dim": 3, "residual": {"weight": 0.7, "filter": SHAPED}})
    model.prepare(store, seed=1)
    model.finish()
    vectors = model.embeddings()
    trained = vectors["user"].astype(np.float64) @ vectors["item"].T.astype(np.float64)
    filtered = GraphFilter(SHAPED).fit(store, seed=1).score(np.arange(4)).double().numpy()
    expected = trained / trained.std() + 0.7 * filtered / filtered.std()
    np.testing.assert_allclose(model.score(np.arange(4)), expected, rtol=1e-5, atol=1e-6)
    z_scores = [(part - part.mean()) / part.std() for part in (trained, filtered)]
    shift = model.score(np.arange(4)).numpy() - (z_scores[0] + 0.7 * z_scores[1])
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-5)  # a constant, which no ranking sees


def test_users_given_by_vectors_have_the_trained_part_of_the_score(pair):
    plain, model = pair
    vectors, users = plain.embeddings()["user"], np.arange(NUM_USERS)
    filtered = model._residual.filter.score(users) * (0.7 / model._residual._filter_spread)
    torch.testing.assert_close(model.score_vectors(vectors) + filtered, model.score(users), rtol=1e-4, atol=1e-5)


def test_the_training_does_not_see_it(pair):
    plain, model = pair
    for side in ("user", "item"):
        np.testing.assert_array_equal(model.embeddings()[side], plain.embeddings()[side])
    items = model.catalogue.items.ids_of(np.arange(NUM_ITEMS))
    assert model.similar(items, 4).equals(plain.similar(items, 4))
    assert plain.scores_are_dot_products and not model.scores_are_dot_products
    assert plain.settings.residual is None
    assert plain._state().keys() == {"user", "item"}, "models without a residual are saved as ever"


def test_lists_follow_the_sum_not_the_dot_products(pair):
    """The ranker multiplies vectors where it may; here it may not."""
    model = pair[1]
    catalogue = model.catalogue
    seen = UserItems(catalogue.seen_indptr, catalogue.seen_indices, NUM_ITEMS)
    scores = model.score(ALL_USERS).numpy().copy()
    for user in ALL_USERS:
        scores[user, catalogue.seen_indices[slice(*catalogue.seen_indptr[user : user + 2])]] = -np.inf
    listed = rank_users(model, ALL_USERS, 5, seen)
    np.testing.assert_array_equal(listed, np.argsort(-scores, axis=1, kind="stable")[:, :5])


def test_a_vanishing_weight_gives_the_plain_ranking(board):
    orders = []
    for residual in (None, {"weight": 1e-9, "filter": SHAPED}):
        model = create("lightgcn", {"residual": residual})
        model.prepare(board, seed=2)
        model.finish()
        orders.append(model.score(ALL_USERS).argsort(dim=1, descending=True, stable=True))
    assert torch.equal(*orders)


def test_the_same_seed_gives_the_same_residual(board):
    first, second, other = (Residual(ResidualSettings()) for _ in range(3))
    for residual, seed in ((first, 3), (second, 3), (other, 4)):
        residual.fit(board, seed=seed)
        residual.measure(lambda users: torch.ones(len(users), NUM_ITEMS))
    states = [residual.state() for residual in (first, second, other)]
    for key, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][key], err_msg=key)
    assert states[0]["residual.spreads"][0] == 1.0, "scores that are all alike are left as they are"


@pytest.mark.parametrize(
    ("residual", "message"),
    [
        ({"weight": -1}, "model lightgcn residual weight: input should be greater than 0, got -1"),
        ({"weight": 0}, "model lightgcn residual weight: input should be greater than 0, got 0"),
        ({"weight": float("nan")}, "model lightgcn residual weight: .*got nan"),
        ({"wieght": 1}, "model lightgcn residual wieght: unknown key; .*did you mean 'weight'"),
        ({"filter": {"rank": 0}}, "model lightgcn residual filter rank: .*got 0"),
        ({"filter": "eese"}, "model lightgcn residual filter: unknown model 'eese'.*did you mean 'ease'"),
        ({"filter": "bpr-mf"}, '"bpr-mf" learns by gradient steps; take "graph-filter", "ease" or "social-ease"'),
        (0.5, "model lightgcn residual: input should be a valid dictionary, got 0.5"),
    ],
)
def test_a_bad_residual_is_refused(residual, message):
    with pytest.raises(ConfigError, match=message):
        create("lightgcn", {"residual": residual})


def test_a_model_without_its_residual_is_refused(pair, board, tmp_path):
    pair[0].save(tmp_path / "model")
    header = tmp_path / "model" / "model.json"
    values = json.loads(header.read_text())
    values["settings"]["residual"] = {"weight": 0.7}
    header.write_text(json.dumps(values))
    with pytest.raises(RunError, match="does not fit the model"):
        load_model(tmp_path / "model")


def test_a_residual_added_later_scores_and_saves_like_one_of_the_settings(pair, board, tmp_path):
    """The trained part does not depend on the residual, so it may come after training."""
    plain, whole = pair
    again = load_model(_saved(plain, tmp_path / "plain"))
    residual = Residual(ResidualSettings(weight=0.7))
    residual.fit(board, seed=0)
    again.add_residual(residual)
    torch.testing.assert_close(again.score(ALL_USERS), whole.score(ALL_USERS))
    loaded = load_model(_saved(again, tmp_path / "sum"))
    assert torch.equal(loaded.score(ALL_USERS), again.score(ALL_USERS))


def _saved(model, folder):
    model.save(folder)
    return folder
