"""What every registered recommender must do, on a checkerboard whose right answer is obvious."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError, RunError, UnknownIdError, UnsupportedError
from graphrec.models import MODELS, create, load_model
from tests.models.conftest import (
    HELD_OUT,
    NUM_ITEMS,
    NUM_USERS,
    WITH_RESIDUAL,
    checkerboard,
    is_trained,
    learn,
    make_store,
    neighbours,
)

EVERY = sorted(MODELS)
LEARNED = [*EVERY, WITH_RESIDUAL]
CLOSED_FORM = [name for name in EVERY if not is_trained(create(name))]
ALL_USERS = np.arange(NUM_USERS)


@pytest.mark.parametrize("name", LEARNED)
def test_scores_are_finite_float32_of_all_items(name, board, fitted):
    scores = fitted(name, board).score(ALL_USERS)
    assert scores.shape == (NUM_USERS, NUM_ITEMS)
    assert scores.dtype == torch.float32
    assert bool(torch.isfinite(scores).all())


@pytest.mark.parametrize("name", LEARNED)
def test_same_seed_gives_the_same_weights(name, board, tmp_path):
    states = [learn(name, board, tmp_path / part, epochs=5)._state() for part in ("first", "second")]
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        np.testing.assert_array_equal(states[0][key], states[1][key], err_msg=key)


@pytest.mark.parametrize("name", LEARNED)
def test_saved_and_loaded_scores_are_equal(name, board, fitted, tmp_path):
    model = fitted(name, board)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.settings == model.settings
    assert torch.equal(loaded.score(ALL_USERS), model.score(ALL_USERS))
    assert loaded.recommend(["u003"], 5).equals(model.recommend(["u003"], 5))


def test_a_fresh_process_answers_the_same(board, fitted, tmp_path):
    model = fitted("graph-filter", board)
    model.save(tmp_path / "model")
    code = (
        "import sys; from graphrec.models import load_model; model = load_model(sys.argv[1]);"
        "print(model.recommend(['u003', 'u010'], 4)['item_id'].to_list())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == str(model.recommend(["u003", "u010"], 4)["item_id"].to_list())


@pytest.mark.parametrize("name", LEARNED)
def test_a_batch_equals_its_singles(name, board, fitted):
    model = fitted(name, board)
    users = np.array([5, 0, 17, 5])
    singles = torch.cat([model.score(np.array([user])) for user in users])
    torch.testing.assert_close(model.score(users), singles, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_seen_items_never_come_back(name, board, fitted):
    model = fitted(name, board)
    listed = model.recommend(model.catalogue.users.ids_of(ALL_USERS), NUM_ITEMS)
    train = board.interactions("train")
    seen = set(zip(model.catalogue.users.ids_of(train.user), model.catalogue.items.ids_of(train.item), strict=True))
    assert not seen & set(listed.select("user_id", "item_id").rows())
    assert len(listed) == NUM_USERS * NUM_ITEMS - len(seen)
    everything = model.recommend(["u000"], NUM_ITEMS, exclude_seen=False)
    assert sorted(everything["item_id"]) == model.catalogue.items.ids_of(np.arange(NUM_ITEMS)).tolist()


@pytest.mark.parametrize("name", LEARNED)
def test_recommendations_are_sorted_and_carry_ids_scores_and_titles(name, board, fitted):
    model = fitted(name, board)
    listed = model.recommend(["u007", "u002"], 6)
    assert listed.columns == ["user_id", "rank", "item_id", "score", "title"]
    assert listed["user_id"].to_list() == ["u007"] * 6 + ["u002"] * 6
    assert listed["rank"].to_list() == [1, 2, 3, 4, 5, 6] * 2
    scores = model.score(np.array([7, 2]))
    for row, part in enumerate(listed.partition_by("user_id", maintain_order=True)):
        items = model.catalogue.items.index_of(part["item_id"])
        np.testing.assert_array_equal(part["score"], scores[row, items])
        assert part["score"].is_sorted(descending=True)
    assert listed["title"].to_list() == [f"Title of {item}" for item in listed["item_id"]]


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_relabelling_permutes_the_scores(name, board, tmp_path):
    # The graph filter chooses its shape, and EASE its penalty, on items held out at random, by position; fixed ones leave the model itself.
    shape = {"cutoff": 0.05, "smooth_share": 0.4, "gain_exponent": 0.3, "sharpening": 0.5}
    ridge = {"regularisation": 0.05}
    fixed = {
        "graph-filter": shape,
        "social-graph-filter": {**shape, "social_share": 0.4},
        "ease": ridge,
        "social-ease": {**ridge, "social_share": 0.4},
    }.get(name)
    rng = np.random.default_rng(11)
    new_user, new_item = rng.permutation(NUM_USERS), rng.permutation(NUM_ITEMS)
    train, test = checkerboard()
    renamed = [[(int(new_user[user]), int(new_item[item])) for user, item in pairs] for pairs in (train, test)]
    links = [(int(new_user[left]), int(new_user[right])) for left, right in neighbours()]
    other = create(name, fixed).fit(make_store(tmp_path / "store", *renamed, links=links))
    permuted = other.score(new_user)[:, new_item]
    torch.testing.assert_close(permuted, create(name, fixed).fit(board).score(ALL_USERS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in LEARNED if name != "popularity"])
def test_overfits_a_checkerboard_and_beats_popularity(name, board, fitted):
    recall, baseline = (_recall(fitted(each, board), board) for each in (name, "popularity"))
    assert recall > 0.95, f"all held-out items are of the user's colour, {name} found {recall:.2f}"
    assert baseline < 0.7


@pytest.mark.parametrize("name", LEARNED)
def test_similar_items_share_the_colour_and_never_include_the_item(name, board, fitted):
    model = fitted(name, board)
    items = model.catalogue.items.ids_of(np.arange(NUM_ITEMS))
    try:
        listed = model.similar(items, 5)
    except UnsupportedError as problem:
        assert name in str(problem) and model.embeddings() is None
        return
    assert listed.columns == ["item_id", "rank", "similar_item_id", "score", "title"]
    assert len(listed) == 5 * NUM_ITEMS
    assert not (listed["item_id"] == listed["similar_item_id"]).any()
    colours = [model.catalogue.items.index_of(listed[column]) % 2 for column in ("item_id", "similar_item_id")]
    assert (colours[0] == colours[1]).mean() > 0.95


@pytest.mark.parametrize("name", LEARNED)
def test_embeddings_have_a_row_per_user_and_item_or_are_none(name, board, fitted):
    embeddings = fitted(name, board).embeddings()
    if embeddings is None:
        return
    assert set(embeddings) == {"user", "item"}
    users, items = embeddings["user"], embeddings["item"]
    assert users.dtype == items.dtype == np.float32
    assert len(users) == NUM_USERS and len(items) == NUM_ITEMS and users.shape[1] == items.shape[1]
    assert np.isfinite(users).all() and np.isfinite(items).all()
    before = fitted(name, board).score(ALL_USERS)
    users[:], items[:] = 0, 0
    assert torch.equal(fitted(name, board).score(ALL_USERS), before), "what is done to the arrays is none of the model's business"


@pytest.mark.parametrize("name", LEARNED)
def test_unknown_ids_and_impossible_lengths_are_refused(name, board, fitted):
    model = fitted(name, board)
    with pytest.raises(UnknownIdError, match="u0071"):
        model.recommend(["u007", "u0071"], 3)
    with pytest.raises(ConfigError, match=r"k must lie in 1\.\.30.* got 31"):
        model.recommend(["u007"], 31)
    with pytest.raises(ConfigError, match="got 0"):
        model.recommend(["u007"], 0)
    with pytest.raises(IndexError, match=r"0\.\.39, got 40"):
        model.score(np.array([40]))


@pytest.mark.parametrize("name", EVERY)
def test_unknown_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"model {name} no_such_setting: unknown key"):
        create(name, no_such_setting=1)


@pytest.mark.parametrize("name", EVERY)
def test_a_model_that_has_not_learned_says_so(name, tmp_path):
    model = create(name)
    for use in (
        lambda: model.recommend(["u000"], 1),
        lambda: model.similar([1000], 1),
        lambda: model.score(np.array([0])),
        lambda: model.save(tmp_path / "model"),
    ):
        with pytest.raises(RunError, match="has not learned anything yet"):
            use()
    assert not (tmp_path / "model").exists()


def _recall(model, store) -> float:
    test = store.interactions("test")
    truth = set(zip(model.catalogue.users.ids_of(test.user), model.catalogue.items.ids_of(test.item), strict=True))
    found = total = 0
    for extra in range(
        3
    ):  # users u with u % 3 == extra have HELD_OUT + extra held-out items, all that is left of a colour
        users = model.catalogue.users.ids_of(ALL_USERS[extra::3])
        listed = model.recommend(users, HELD_OUT + extra).select("user_id", "item_id").rows()
        found, total = found + len(truth & set(listed)), total + len(listed)
    assert total == len(truth)
    return found / total
