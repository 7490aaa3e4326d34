"""Sums of two models: the formula, the choice of the share, and that the test items have no say in it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import graphrec
from graphrec.benchmarking.data import selection
from graphrec.benchmarking.fusion import SHARES, best_share, choose_share
from graphrec.errors import RunError
from graphrec.evaluation.validation import validator
from graphrec.models import create
from graphrec.models.base import Recommender
from graphrec.models.score_sum import ScoreSum
from tests.benchmarking.conftest import write_run_file
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
    held = selection(store).events("valid")
    train = {(u, i) for u, i, side in checkerboard() if side in ("train", "valid")}
    assert set(zip(held["user_id"], held["item_id"], strict=True)) < train
    assert not (by_row["sum:item-knn+popularity"].folder / "scratch").exists()


def test_the_row_of_a_mean_is_that_of_models_from_seeds_of_their_own(board, tmp_path, measured):
    run_file = write_run_file(tmp_path / "quick.toml")
    result = graphrec.benchmark(board, f"2*{run_file},sum:2*{run_file}+item-knn", tmp_path / "out", k=5, seeds=2)
    assert [row.row for row in result.rows] == ["2*quick", "item-knn", "sum:2*quick+item-knn"] and not result.failures
    cells = {(cell.row, cell.seed): cell for cell in result.cells}
    store = graphrec.GraphStore.open(tmp_path / "out" / "stores" / "board")
    config = graphrec.load_config(run_file)
    train = config.train.model_dump(exclude_unset=True)
    settings = config.model.settings.model_dump(exclude_unset=True)
    for seed, seeds in enumerate(((0, 1), (2, 3))):
        runs = [
            graphrec.train(store, "bpr-mf", tmp_path / f"by-hand-{one}", {**train, "seed": one}, model_settings=settings) for one in seeds
        ]
        mean = graphrec.fuse(runs, tmp_path / f"mean-{seed}", seed=seed)
        by_hand = graphrec.evaluate(mean, store, k=5, metrics=("recall", "ndcg"))
        assert cells["2*quick", seed].result["metrics"] == by_hand.metrics
        kept = cells["2*quick", seed].folder
        assert [place.name for place in kept.iterdir() if place.is_dir()] == ["run"]
        both = cells["sum:2*quick+item-knn", seed]
        models = [graphrec.load(cells[name, seed].folder / "run").model for name in ("2*quick", "item-knn")]
        share = both.result["share"]
        by_hand = graphrec.evaluate(ScoreSum.of(models, (1 - share, share), seed), store, k=5, metrics=("recall", "ndcg"))
        assert both.result["metrics"] == by_hand.metrics
    lines = csv.DictReader(result.files["cells"].read_text().splitlines())
    assert [(line["model"], line["epochs"]) for line in lines if line["epochs"]] == 2 * [("2*quick", "3")]
    table = result.files["markdown"].read_text()
    assert "| `sum:2*quick+item-knn (" in table and "| `2*quick` | `item-knn` |" in table
    assert "A row such as 4*A is the mean of four models of A, each trained from a seed of its own" in table
    again = graphrec.benchmark(board, f"2*{run_file},{run_file}", tmp_path / "out", k=5, seeds=2)
    assert len(measured) == 8 and [row.row for row in again.rows] == ["2*quick", "quick"]


def test_the_mean_of_closed_form_models_is_that_of_their_seeds(board, tmp_path, measured):
    result = graphrec.benchmark(board, "popularity,2*popularity,sum:2*graph-filter+popularity", tmp_path / "out", k=5, seeds=2)
    assert not result.failures
    popular, mean, *_ = result.rows
    assert (popular.row, mean.row, mean.mean) == ("popularity", "2*popularity", popular.mean)
    cells = {(cell.row, cell.seed): cell for cell in result.cells}
    run = graphrec.load(cells["2*graph-filter", 1].folder / "run")
    assert [one["seed"] for one in run.config.train["members"]] == [2, 3] and "epochs" not in cells["2*graph-filter", 1].result
    store = graphrec.GraphStore.open(tmp_path / "out" / "stores" / "board")
    by_hand = ScoreSum.of([create("graph-filter").fit(store, seed=seed) for seed in (2, 3)], (0.5, 0.5), 1)
    users = np.arange(store.num_users)
    torch.testing.assert_close(run.model.score(users), by_hand.score(users))


def test_the_members_of_a_mean_are_learned_again_with_the_epochs_of_each(tmp_path, measured):
    store = make_store(tmp_path / "store", checkerboard())
    run_file = tmp_path / "stopped.toml"
    run_file.write_text(Path(write_run_file(run_file)).read_text().replace("epochs = 3", "epochs = 8\npatience = 1"))
    result = graphrec.benchmark(store.folder, f"sum:item-knn+3*{run_file}", tmp_path / "out", k=5)
    assert not result.failures
    (mean,) = [graphrec.load(cell.folder / "run") for cell in result.cells if cell.row == "3*stopped"]
    assert [one["seed"] for one in mean.config.train["members"]] == [0, 1, 2]
    assert any(one["epochs"] < 8 for one in mean.config.train["members"])
