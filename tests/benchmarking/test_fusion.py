"""Sums of two models: the formula, the choice of the share, and that the test items have no say in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphrec
from graphrec.benchmarking.fusion import SHARES, best_share, choose_share
from graphrec.errors import RunError
from graphrec.evaluation.validation import validator
from graphrec.models import create
from graphrec.models.base import Recommender
from graphrec.models.score_sum import ScoreSum
from tests.training.conftest import checkerboard, make_store


class Told(Recommender):
    """Scores as it is told, for data where the right answer is known."""

    name = "told"

    def __init__(self, catalogue, scores: np.ndarray) -> None:
        super().__init__()
        self.catalogue, self._scores = catalogue, torch.from_numpy(scores.astype(np.float32))

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return self._scores[torch.from_numpy(users)]

    def _state(self):
        return {}

    def _restore(self, state) -> None:
        return None


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "board", checkerboard())


def of_own_colour(store) -> np.ndarray:
    """1 where user and item are both even or both odd, by original id."""
    users = store.ids("user").gather(np.arange(store.num_users)).to_numpy()
    items = store.ids("item").gather(np.arange(store.num_items)).to_numpy()
    return (users[:, None] % 2 == items[None, :] % 2).astype(float)


def test_the_scores_are_added_in_units_of_their_spread(store):
    rng = np.random.default_rng(0)
    a, b = rng.normal(5.0, 100.0, (2, store.num_users, store.num_items)) * np.array([1.0, 1e-4])[:, None, None]
    first, second = Told(store.catalogue(), a), Told(store.catalogue(), b)
    users = np.arange(store.num_users)
    for share in (0.0, 0.3, 1.0):
        got = ScoreSum.of((first, second), (1 - share, share)).score(users).numpy()
        wanted = (1 - share) * a / a.std() + share * b / b.std()
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_any_number_of_models_is_added(store):
    parts = np.random.default_rng(0).normal(size=(3, store.num_users, store.num_items))
    got = ScoreSum.of([Told(store.catalogue(), part) for part in parts], (0.2, 0.3, 0.5)).score(np.arange(store.num_users)).numpy()
    wanted = sum(weight * part / part.std() for weight, part in zip((0.2, 0.3, 0.5), parts, strict=True))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_the_share_is_the_one_that_the_validation_items_prefer(store):
    right = of_own_colour(store)
    noise = np.random.default_rng(1).normal(size=right.shape)
    good, bad = Told(store.catalogue(), right + 0.01 * noise), Told(store.catalogue(), -right)
    values = choose_share(bad, good, store, "ndcg@5")
    assert tuple(values) == SHARES and values[1.0] > 0.5 and values[0.0] == 0.0
    assert best_share(values) >= 0.6
    assert best_share(choose_share(good, bad, store, "ndcg@5")) <= 0.4


def test_each_share_is_measured_as_a_model_is(store):
    models = [create(name).fit(store) for name in ("item-knn", "popularity")]
    values = choose_share(*models, store, "ndcg@5")
    check = validator(store, "ndcg@5")
    for share in (0.0, 0.5, 1.0):
        assert values[share] == pytest.approx(check(ScoreSum.of(models, (1 - share, share)))["ndcg@5"], abs=1e-12)
    assert values[0.0] == pytest.approx(check(models[0])["ndcg@5"], abs=1e-12)


def test_of_equal_values_the_smallest_share_is_taken():
    assert best_share({0.0: 0.1, 0.5: 0.3, 1.0: 0.3}) == 0.5


def test_models_of_another_store_are_refused(store, tmp_path):
    other = make_store(tmp_path / "other", checkerboard()[:-1])  # a training row less
    models = [create(name).fit(other) for name in ("item-knn", "popularity")]
    with pytest.raises(RunError, match="trained on"):
        choose_share(*models, store, "ndcg@5")


def test_the_row_of_a_sum_is_that_of_the_finished_models_with_the_share_chosen_on_train(board, tmp_path, measured):
    result = graphrec.benchmark(board, "popularity,sum:item-knn+popularity", tmp_path / "out", k=5)
    by_row = {cell.row: cell for cell in result.cells}
    assert list(by_row) == ["popularity", "item-knn", "sum:item-knn+popularity"]
    told = by_row["sum:item-knn+popularity"].result
    assert set(map(float, told["shares"])) == set(SHARES)
    assert told["share"] == max(SHARES, key=lambda share: (told["shares"][f"{share:g}"], -share))
    store = graphrec.GraphStore.open(tmp_path / "out" / "stores" / "board")
    models = [graphrec.load(by_row[name].folder / "run").model for name in ("item-knn", "popularity")]
    by_hand = graphrec.evaluate(ScoreSum.of(models, (1 - told["share"], told["share"])), store, k=5, metrics=("recall", "ndcg"))
    assert told["metrics"] == by_hand.metrics
    assert told["fit_seconds"] > by_row["item-knn"].result["fit_seconds"]
    (selection,) = (tmp_path / "out" / "stores").glob("board-selection-*/manifest.json")
    chosen_on = graphrec.GraphStore.open(selection.parent)
    assert chosen_on.splits == ["train", "valid"]
    train = {(u, i) for u, i, side in checkerboard() if side in ("train", "valid")}
    held = chosen_on.events("valid")
    assert set(zip(held["user_id"], held["item_id"], strict=True)) < train
    assert not (by_row["sum:item-knn+popularity"].folder / "scratch").exists()
