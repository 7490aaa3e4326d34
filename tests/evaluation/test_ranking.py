"""Full-catalogue ranking: masks, ties, any block size, both paths, and positions against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from graphrec.errors import ConfigError, RunError
from graphrec.evaluation import metrics
from graphrec.evaluation.ranking import rank_positions, rank_users
from graphrec.evaluation.split_data import read_split
from graphrec.evaluation.user_items import UserItems


def dense(items: UserItems) -> np.ndarray:
    mask = np.zeros((items.num_users, items.num_items), bool)
    mask[np.repeat(np.arange(items.num_users), items.sizes), items.indices] = True
    return mask


def test_lists_hold_the_best_unseen_items(store, model):
    data = read_split(store, "test", mask_valid=True)
    topk = rank_users(model, data.users, 8, data.seen)
    masked = np.where(dense(data.seen), -np.inf, model.scores.numpy())[data.users]
    np.testing.assert_array_equal(topk, np.argsort(-masked, axis=1, kind="stable")[:, :8])
    assert not data.seen.rows(data.users).contains(topk).any()


@pytest.mark.parametrize("block", [1, 7, 59, 1000])
def test_any_block_size_gives_the_same(store, model, block):
    data = read_split(store, "test", mask_valid=True)
    whole, parts = (rank_users(model, data.users, 5, data.seen, block=size) for size in (None, block))
    np.testing.assert_array_equal(whole, parts)
    one, many = (rank_positions(model, data.users, data.truth, data.seen, block=size) for size in (None, block))
    np.testing.assert_array_equal(one.ranks, many.ranks)
    np.testing.assert_array_equal(one.predicted, many.predicted)


def test_embeddings_that_reproduce_the_scores_rank_alike(store, monkeypatch, given_scores):
    rng = np.random.default_rng(0)
    user_x, item_x = rng.normal(size=(60, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32)
    scores = user_x @ item_x.T + rng.normal(size=(60, 1))  # a constant per user changes no list
    embeddings = {"user": user_x, "item": item_x}
    data = read_split(store, "test", mask_valid=True)
    slow = rank_users(given_scores(scores, store), data.users, 6, data.seen)
    fast_model = given_scores(scores, store, embeddings)
    asked = []
    monkeypatch.setattr(fast_model, "_score", lambda users: asked.append(len(users)) or fast_model.scores[users])
    np.testing.assert_array_equal(rank_users(fast_model, data.users, 6, data.seen), slow)
    assert sum(asked) < len(data.users)  # only the sample that checks the embeddings was scored


def test_embeddings_that_do_not_reproduce_the_scores_are_not_used(store, model, given_scores):
    wrong = {"user": np.ones((60, 3), np.float32), "item": np.ones((40, 3), np.float32)}
    data = read_split(store, "test", mask_valid=True)
    other = given_scores(model.scores.numpy(), store, wrong)
    expected = rank_users(model, data.users, 6, data.seen)
    np.testing.assert_array_equal(rank_users(other, data.users, 6, data.seen), expected)


def test_ties_break_to_the_lower_index_and_short_lists_are_padded(small_store, given_scores):
    store = small_store(1, 4, {"train": [(0, 1), (0, 2)], "test": [(0, 3)]})
    data = read_split(store, "test", mask_valid=True)
    model = given_scores(np.zeros((1, 4)), store)
    np.testing.assert_array_equal(rank_users(model, data.users, 4, data.seen), [[0, 3, -1, -1]])


@pytest.mark.parametrize("sort_from", [1, 64])  # by sorting, and by counting
@pytest.mark.parametrize("decimals", [8, 0])  # without ties, and with many
def test_positions_against_scipy_and_scikit_learn(store, decimals, sort_from, given_scores, monkeypatch):
    monkeypatch.setattr("graphrec.evaluation.ranking._SORT_FROM", sort_from)
    scores = np.round(np.random.default_rng(3).normal(size=(60, 40)) * 2, decimals).astype(np.float32)
    data = read_split(store, "test", mask_valid=True)
    found = rank_positions(given_scores(scores, store), data.users, data.truth, data.seen)
    auc = metrics.auc(found.ranks, data.truth.indptr, found.candidates)
    seen, true = dense(data.seen)[data.users], dense(data.truth)
    for row, user in enumerate(data.users):
        places = slice(data.truth.indptr[row], data.truth.indptr[row + 1])
        free, items = ~seen[row], data.truth.indices[places]
        ranks = np.full(40, np.nan)
        ranks[free] = rankdata(-scores[user][free])
        np.testing.assert_array_equal(found.ranks[places], ranks[items])
        np.testing.assert_array_equal(found.predicted[places], scores[user][items])
        assert found.candidates[row] == free.sum()
        assert auc[row] == pytest.approx(roc_auc_score(true[row][free], scores[user][free]))


def test_minus_infinity_from_the_model_is_the_worst_candidate_not_a_mask(small_store, given_scores):
    store = small_store(1, 4, {"train": [(0, 0)], "test": [(0, 3)]})
    data = read_split(store, "test", mask_valid=True)
    scores = np.array([[9, 1, -np.inf, -np.inf]])
    found = rank_positions(given_scores(scores, store), data.users, data.truth, data.seen)
    np.testing.assert_array_equal(found.ranks, [2.5])


@pytest.mark.parametrize("k", [0, -3, 41])
def test_list_length_must_fit_the_catalogue(store, model, k):
    data = read_split(store, "test", mask_valid=True)
    with pytest.raises(ConfigError, match=rf"1\.\.40.*got {k}"):
        rank_users(model, data.users, k, data.seen)


def test_nan_scores_are_refused(store, model):
    data = read_split(store, "test", mask_valid=True)
    model.scores[data.users[-1], 3] = np.nan
    with pytest.raises(RunError, match="NaN"):
        rank_users(model, data.users, 5, data.seen)


def test_relabelled_items_give_the_same_lists(small_store, given_scores, random_store):
    store = random_store(5)
    scores = np.random.default_rng(6).normal(size=(60, 40))
    to_new = np.random.default_rng(7).permutation(40)
    pairs = {name: [(u, int(to_new[i])) for u, i in given] for name, given in store.pairs.items()}
    moved = small_store(60, 40, pairs)
    first, second = read_split(store, "test", True), read_split(moved, "test", True)
    lists = rank_users(given_scores(scores, store), first.users, 5, first.seen)
    moved_lists = rank_users(given_scores(scores[:, np.argsort(to_new)], moved), second.users, 5, second.seen)
    np.testing.assert_array_equal(to_new[lists], moved_lists)
