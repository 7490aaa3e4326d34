"""The whole evaluation on small stores: protocol, masks, breakdowns, saving, and messages for bad input."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from math import log2

import numpy as np
import pytest

import graphrec
from graphrec.errors import ConfigError, RunError, StoreError, UnsupportedError
from graphrec.evaluation import METRICS
from graphrec.evaluation.breakdown import by_user_activity
from graphrec.evaluation.compare import compare
from graphrec.evaluation.evaluate import evaluate
from graphrec.evaluation.report import report_html
from graphrec.evaluation.result import Evaluation, left_out
from graphrec.evaluation.settings import EvaluateSettings
from graphrec.evaluation.split_data import read_split
from graphrec.evaluation.validation import validator, watch
from graphrec.models.popularity import Popularity
from graphrec.training.settings import TrainSettings
from tests.notes import Notes
from tests.training.conftest import checkerboard, make_store


def test_protocol_by_hand(hand):
    result = evaluate(hand.model, hand.store, k=(1, 3), metrics=("recall", "ndcg", "precision", "auc"))
    # Lists of three: user 0: 1 2 3, hit at place 1 of two test items; user 1: 0 3 4, hit at place 2 of one.
    expected = {
        "recall@1": (1 / 2 + 0) / 2,
        "recall@3": (1 / 2 + 1) / 2,
        "ndcg@1": (1 + 0) / 2,
        "ndcg@3": (1 / (1 + 1 / log2(3)) + 1 / log2(3)) / 2,
        "precision@1": 1 / 2,
        "precision@3": 1 / 3,
        "auc": ((3 / 6) + (2 / 3)) / 2,
    }
    assert result.metrics == pytest.approx(expected)
    assert result.counts["users"] == 2  # user 2 has no test item and is left out
    assert result.per_user["user_id"].to_list() == ["u0000", "u0001"]
    assert result.per_user["history"].to_list() == [1, 2]
    assert result.per_user["relevant"].to_list() == [2, 1]


def test_valid_items_are_masked_unless_asked(small_store, given_scores):
    store = small_store(1, 3, {"train": [(0, 0)], "valid": [(0, 1)], "test": [(0, 2)]})
    model = given_scores(np.array([[3, 2, 1]]), store)
    assert evaluate(model, store, k=1, metrics="hit").metrics == {"hit@1": 1.0}
    assert evaluate(model, store, k=1, metrics="hit", mask_valid=False).metrics == {"hit@1": 0.0}
    assert evaluate(model, store, split="valid", k=1, metrics="hit").metrics == {"hit@1": 1.0}


def test_repeated_items_and_duplicate_rows_do_not_count(small_store, given_scores):
    store = small_store(2, 3, {"train": [(0, 0), (1, 0)], "test": [(0, 0), (0, 1), (0, 1), (1, 0)]})
    result = evaluate(given_scores(np.array([[3, 2, 1]] * 2), store), store, k=1, metrics="recall")
    assert result.metrics == {"recall@1": 1.0}
    counts = {
        name: result.counts[name] for name in ("users", "left_out_users", "left_out_repeats", "test_interactions")
    }
    assert counts == {"users": 1, "left_out_users": 1, "left_out_repeats": 2, "test_interactions": 1}


def test_what_training_does_not_know_is_counted_and_said(tmp_path):
    known = [(0, 0, "train"), (0, 1, "train"), (1, 2, "train"), (0, 2, "test"), (1, 2, "test")]
    unknown = [(0, 9, "test"), (0, 9, "test"), (7, 0, "test"), (7, 9, "test"), (8, 1, "test"), (1, 9, "test")]
    store = make_store(tmp_path / "store", known + unknown)
    result = evaluate(Popularity().fit(store), store, k=1, metrics="recall")
    assert result.metrics == {"recall@1": 1.0}  # item 9 is no test item of user 0
    names = ("users", "test_interactions", "left_out_users", "left_out_repeats", "left_out_unknown", "left_out_unknown_users")
    assert [result.counts[name] for name in names] == [1, 1, 1, 1, 5, 2]
    said = "5 of 7 held-out interactions, whose user or item training does not know; users who have no others: 2"
    assert said in str(result) and said in report_html(result)
    whole = make_store(tmp_path / "whole", known)
    assert "does not know" not in str(evaluate(Popularity().fit(whole), whole, k=1, metrics="recall"))


def test_ratings(small_store, given_scores):
    weights = {"test": [4.0, 1.0, 3.0]}
    store = small_store(2, 3, {"train": [(0, 0), (1, 0)], "test": [(1, 2), (0, 1), (0, 2)]}, weights)
    model = given_scores(np.array([[0, 2.0, 3.0], [0, 0, 3.0]]), store)
    with pytest.raises(UnsupportedError, match="the scores of given-scores order items and are no ratings, so rmse and mae"):
        evaluate(model, store, k=1, metrics=("rmse", "mae"))
    beside = evaluate(model, store, k=1, metrics=("rmse", "hit"))
    assert beside.metrics == {"hit@1": 1.0} and "no rmse: the scores of given-scores order items" in str(beside)
    model.name = "given-ratings"
    found = evaluate(model, store, k=1, metrics=("rmse", "mae"))
    assert found.metrics == pytest.approx({"rmse": math.sqrt((1 + 0 + 1) / 3), "mae": 2 / 3})
    assert not found.notes()


def test_what_cannot_be_measured_shows_before_users_are_ranked(store, model, monkeypatch):
    monkeypatch.setattr("graphrec.evaluation.evaluate.rank_users", None)
    model.name = "given-ratings"
    with pytest.raises(ConfigError, match="every test interaction has the weight 1"):
        evaluate(model, store, metrics=["rmse", "recall"])


def test_all_metrics_are_in_bounds_and_have_intervals(store, model):
    result = evaluate(model, store, metrics=[name for name in METRICS if name not in ("rmse", "mae")])
    for name, (low, high) in result.intervals.items():
        assert low < result.metrics[name] < high, name
    assert set(result.intervals) == set(result.user_metrics)
    assert {"coverage@10", "gini@20"} <= set(result.metrics) - set(result.intervals)
    assert 0.4 < result.metrics["auc"] < 0.6  # random scores
    assert evaluate(model, store, diversity_by="one-hot", metrics="diversity").metrics["diversity@10"] == 1.0


def test_breakdowns_add_up(store, model):
    result = evaluate(model, store, k=10)
    users = [group["users"] for group in result.by_user_activity]
    assert sum(users) == result.counts["users"]
    total = sum(group["users"] * group["metrics"]["recall@10"] for group in result.by_user_activity)
    assert total / sum(users) == pytest.approx(result.metrics["recall@10"])
    bounds = [(group["min_history"], group["max_history"]) for group in result.by_user_activity]
    assert all(before[1] < after[0] for before, after in pairwise(bounds))
    items = result.by_item_popularity
    assert [group["label"] for group in items] == ["head", "mid", "tail"]
    assert sum(group["items"] for group in items) == store.num_items
    assert sum(group["share_of_places@10"] for group in items) == pytest.approx(1)
    assert items[0]["items"] < items[2]["items"]
    hits = sum(group["test_interactions"] * group["recall@10"] for group in items)
    assert hits == pytest.approx((result.values("recall@10") * result.per_user["relevant"].to_numpy()).sum())
    for name, curve in result.concentration.items():
        assert (curve[0], curve[-1]) == (0, pytest.approx(1)), name
        assert np.all(np.diff(curve) >= 0), name


def test_activity_groups_by_hand():
    history = np.array([5, 1, 1, 1, 2, 9, 3, 2])
    groups = by_user_activity(history, {"hit@1": np.array([1.0, 0, 0, 1, 1, 1, 0, np.nan])}, 2)
    # The middle lies between 2 and 2: users at the edge are not parted, and open the upper group.
    assert [(g["label"], g["users"], g["metrics"]["hit@1"]) for g in groups] == [("1", 3, 1 / 3), ("2–9", 5, 3 / 4)]
    assert [g["label"] for g in by_user_activity(np.full(4, 7), {}, 4)] == ["7"]


def test_any_block_gives_the_same_and_the_same_seed_the_same_intervals(store, model):
    whole, parts = evaluate(model, store), evaluate(model, store, block=7)
    assert whole.metrics == parts.metrics
    assert whole.intervals == parts.intervals
    assert whole.per_user.equals(parts.per_user)


def test_run_is_saved_and_read_back(store, model, run_of, tmp_path):
    run = run_of(model, tmp_path)
    result = evaluate(run, store)
    loaded = Evaluation.load(tmp_path)
    assert loaded.to_dict() == result.to_dict()
    assert loaded.per_user.equals(result.per_user)
    assert json.loads((tmp_path / "evaluation.json").read_text())["metrics"] == result.metrics
    evaluate(run, store, split="valid")
    assert Evaluation.load(tmp_path).metrics == result.metrics  # another split has its own files
    assert Evaluation.load(tmp_path, "valid").split == "valid"
    assert "recall@20" in str(result) and f"{result.metrics['recall@20']:.4f}" in str(result)


def test_a_run_on_read_only_storage_is_measured_and_says_before_the_work_that_nothing_is_kept(
    store, model, run_of, tmp_path, monkeypatch
):
    class Course(Notes):
        def task(self, *arguments, **keywords):
            self.note("work")
            return super().task(*arguments, **keywords)

    course = Course()
    run = run_of(model, tmp_path)
    monkeypatch.setattr("graphrec.atomic.os.access", lambda *_: False)  # what the system says of a read-only mount
    assert evaluate(run, store, progress=course).metrics == evaluate(model, store).metrics
    assert course.lines[0] == f"{tmp_path} cannot be written, so the result is shown and not kept there" and "work" in course.lines
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_missing_evaluations(store, model, tmp_path):
    with pytest.raises(RunError, match="graphrec evaluate"):
        Evaluation.load(tmp_path)
    evaluate(model, store).save(tmp_path)
    table, description = tmp_path / "evaluation.parquet", tmp_path / "evaluation.json"
    whole = table.read_bytes()
    table.write_bytes(whole[:-10])
    with pytest.raises(RunError, match="cut off or edited"):
        Evaluation.load(tmp_path)
    table.write_bytes(whole)
    text = description.read_text()
    description.write_text(text[: len(text) // 2])
    with pytest.raises(RunError, match="damaged"):
        Evaluation.load(tmp_path)
    description.write_text(text.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(RunError, match="newer"):
        Evaluation.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 41}, r"k must lie in 1\.\.40.*41"),
        ({"k": 0}, "at least 1"),
        ({"metrics": "recal"}, "unknown metric 'recal'.*did you mean 'recall'"),
        ({"split": "train"}, "'valid' or 'test'"),
        ({"bootstrap": -1}, "bootstrap"),
        ({"boostrap": 10}, "unknown key.*did you mean 'bootstrap'"),
    ],
)
def test_bad_settings(store, model, arguments, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(model, store, **arguments)


def test_what_a_metric_asks_for_is_checked_before_users_are_ranked(store, model, monkeypatch):
    def hit(hits, k, user):
        return 1.0

    monkeypatch.setattr("graphrec.evaluation.metrics.hit", hit)
    monkeypatch.setattr("graphrec.evaluation.evaluate.rank_users", lambda *_, **__: pytest.fail("ranked"))
    model.name, store.weights["test"] = "given-ratings", np.arange(len(store.pairs["test"])).tolist()
    with pytest.raises(ConfigError, match="the metric hit asks for 'user'"):
        evaluate(model, store, k=1, metrics=["rmse", "hit"])


def test_a_notebook_shows_what_print_does(store, model):
    found = evaluate(model, store, k=10)
    assert repr(found) == str(found) and "recall@10" in repr(found) and len(repr(found)) < 1200
    both = graphrec.compare(found, found, resamples=100)
    assert repr(both) == str(both)


def test_a_metric_of_the_candidates_alone_is_given_them(store, model, monkeypatch):
    monkeypatch.setattr("graphrec.evaluation.metrics.auc", lambda candidates: candidates)
    assert evaluate(model, store, k=1, metrics="auc").values("auc").max() <= store.num_items


def test_store_without_test_part(small_store, given_scores):
    store = small_store(2, 2, {"train": [(0, 0), (1, 1)]})
    model = given_scores(np.ones((2, 2)), store)
    with pytest.raises(StoreError, match="has no test interactions"):
        evaluate(model, store, k=1)
    repeated = small_store(2, 2, {"train": [(0, 0), (1, 1)], "test": [(0, 0)]})
    with pytest.raises(StoreError, match="repeats an item"):
        evaluate(model, repeated, k=1)
    with pytest.raises(ConfigError, match="evaluate\\(model, store\\)"):
        evaluate(model)


def test_model_of_another_store(store, model, random_store):
    with pytest.raises(RunError, match="60 users and 40 items"):
        evaluate(model, random_store(num_users=50), k=1)
    with pytest.raises(RunError, match="other interactions"):
        evaluate(model, random_store(seed=9), k=1)


def test_settings_accept_one_value_or_many():
    settings = EvaluateSettings(k=20, metrics="ndcg")
    assert (settings.k, settings.metrics) == ((20,), ("ndcg",))
    assert EvaluateSettings(k=[20, 10, 20]).k == (10, 20)


def test_validator_agrees_with_evaluate(store, model):
    validate = validator(store, ("ndcg@20", "recall@5"))
    full = evaluate(model, store, split="valid", k=(5, 20), metrics=("recall", "ndcg"))
    assert validate(model) == {name: full.metrics[name] for name in ("ndcg@20", "recall@5")}


def test_a_sample_of_validation_users_is_always_the_same_and_is_told(store, model):
    notes, taken = Notes(), TrainSettings(metric="ndcg@5", valid_users=7)
    values = [watch(store, taken, notes)(model) for _ in range(2)]
    full = evaluate(model, store, split="valid", k=5, metrics=("recall", "ndcg"))
    users = len(full.per_user)
    assert notes.lines == [f"validation ranks 7 of {users} users, always the same"] * 2
    part = read_split(store, "valid", mask_valid=False).sample(7)
    assert len(part.users) == 7 and (np.diff(part.users) > 0).all() and len(part.ratings) == len(part.truth.indices)
    ids = part.catalogue.users.ids_of(part.users).tolist()
    own = full.per_user.filter(full.per_user["user_id"].is_in(ids))
    assert values == [{name: pytest.approx(own[name].mean()) for name in ("ndcg@5", "recall@5")}] * 2
    whole = watch(store, TrainSettings(metric="ndcg@5", valid_users=users), notes)(model)
    assert whole["ndcg@5"] == full.metrics["ndcg@5"] and len(notes.lines) == 2


def test_an_evaluation_of_some_users_says_so_and_is_not_compared_with_a_whole_one(store, model, tmp_path):
    whole, part = evaluate(model, store, k=5), evaluate(model, store, k=5, users=6)
    own = whole.per_user.filter(whole.per_user["user_id"].is_in(part.per_user["user_id"].to_list()))
    assert own.equals(part.per_user) and part.counts["users"] == 6
    assert part.notes()[0].startswith(f"a random sample of 6 of {len(whole.per_user)} users")
    assert part.notes()[0] in report_html(part).replace("A random", "a random")
    assert not any("sample" in note for note in evaluate(model, store, k=5, users=len(whole.per_user)).notes())
    with pytest.raises(RunError, match="were tested on other users.* with the same mask_valid and users"):
        compare(whole, part)
    part.save(tmp_path)
    again = evaluate(model, store, k=5, users=6)
    both = compare(Evaluation.load(tmp_path), again, resamples=100)
    assert both.users == 6 and both.notes() == [f"both on a random sample of 6 of {len(whole.per_user)} users"]
    assert not compare(whole, whole, resamples=100).notes()
    both = {**again.counts, "left_out_unknown": 2, "left_out_unknown_users": 1}
    held_out = 2 + both["left_out_repeats"] + whole.counts["test_interactions"]
    assert f"2 of {held_out} held-out interactions" in left_out(both)


def test_validator_refuses(store, small_store, monkeypatch):
    assert validator(small_store(1, 30, {"train": [(0, 0)]})) is None
    for bad in ("gini@20", "auc", "rmse", "ndgc@20", "ndcg@41", "diversity@10"):
        with pytest.raises(ConfigError):
            validator(store, bad)
    monkeypatch.setattr("graphrec.evaluation.metrics.hit", lambda hits, ranks, k: 1.0)
    for bad in ("rmse", "hit@20"):
        with pytest.raises(ConfigError, match=f"nothing can be chosen on validation items by '{bad}'; choose an accuracy metric"):
            watch(store, TrainSettings(metric=bad))


def test_a_run_that_is_replaced_while_it_is_measured_keeps_no_result(tmp_path, monkeypatch):
    rows = [(user, item, "train" if item < 4 else "test") for user in range(6) for item in range(5)] + [(6, 4, "train")]
    store = make_store(tmp_path / "store", rows)
    run, notes = graphrec.train(store, "popularity", tmp_path / "run"), Notes()

    def late(*arguments, **options):
        graphrec.train(store, "item-knn", run.folder, overwrite=True)
        return rank_users(*arguments, **options)

    module = sys.modules["graphrec.evaluation.evaluate"]  # the package's attribute of that name is the function
    rank_users = module.rank_users
    monkeypatch.setattr(module, "rank_users", late)
    evaluate(run, k=2, progress=notes)
    assert any("was replaced meanwhile" in line for line in notes.lines) and not (run.folder / "evaluation.json").exists()
    monkeypatch.undo()
    evaluate(run, k=2)  # the object is still the run that was replaced before
    assert not (run.folder / "evaluation.json").exists()


def test_a_training_validates_on_the_users_that_its_settings_ask_for(tmp_path):
    store, notes = make_store(tmp_path / "store", checkerboard()), Notes()
    settings = {"epochs": 1, "eval_every": 1, "metric": "recall@2", "valid_users": 5}
    run = graphrec.train(store, "bpr-mf", tmp_path / "run", settings, progress=notes)
    assert "validation ranks 5 of 24 users, always the same" in notes.lines
    assert run.summary()["valid"] == watch(store, TrainSettings.model_validate(settings))(run.model)
    with pytest.raises(ConfigError, match="train.valid_users is 5 in the run, not 6"):
        graphrec.train(store, None, run.folder, {"valid_users": 6}, resume=True)
