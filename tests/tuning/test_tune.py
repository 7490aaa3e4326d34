"""Searching finds what is better, ends what lags behind, keeps within its time, and never looks at the test split."""

from __future__ import annotations

import re
import sys

import optuna
import pytest

from graphrec.config import load_config
from graphrec.errors import ConfigError, MissingExtraError, RunError, StoreError
from graphrec.training.settings import TrainSettings
from graphrec.tuning import tune as module
from graphrec.tuning.tune import tune

TRAIN = {"epochs": 6, "eval_every": 1, "batch_size": 64, "metric": "ndcg@5"}


def of_rates(*rates: float, **settings):
    space = {"train.learning_rate": list(rates)}
    return {"trials": 8, "startup_trials": 3, "defaults": False, "space": space, **settings}


def test_a_trial_that_lags_behind_is_pruned_and_leaves_nothing(board, tmp_path):
    rates = of_rates(0.1, 0.09, 0.08, 1e-9, trials=12)
    result = tune(board, "bpr-mf", tmp_path / "study", rates, train_settings=TRAIN)
    pruned = [trial for trial in result.trials if trial["state"] == "pruned"]
    assert 1e-9 in [trial["params"]["train.learning_rate"] for trial in pruned]
    assert all(trial["epochs"] < TRAIN["epochs"] for trial in pruned)
    assert result.best["params"]["train.learning_rate"] > 1e-9 and result.best["epochs"] == TRAIN["epochs"]
    assert not list((tmp_path / "study" / "trials").iterdir())
    assert (tmp_path / "study" / "history.png").read_bytes().startswith(b"\x89PNG")
    kept = tune(board, "bpr-mf", tmp_path / "all", {**rates, "pruner": "none"}, train_settings=TRAIN)
    assert set(kept.counts()) == {"complete"}


def test_the_test_split_is_never_read(board, tmp_path, monkeypatch):
    from graphrec.graph.store import GraphStore

    read = GraphStore.interactions

    def guarded(self, split="train", behavior=None):
        assert split != "test"
        return read(self, split, behavior)

    monkeypatch.setattr(GraphStore, "interactions", guarded)
    tune(board, "bpr-mf", tmp_path / "study", of_rates(0.1, trials=1), train_settings=TRAIN)


def test_a_closed_form_model_is_tuned_and_the_best_run_file_gives_its_value(board, tmp_path):
    from graphrec.evaluation.validation import watch
    from graphrec.models import create

    settings = {"trials": 6, "startup_trials": 3}
    result = tune(board, "item-knn", tmp_path / "study", settings, train_settings={"metric": "ndcg@5"})
    assert result.counts() == {"complete": 6} and repr(result) == str(result)
    config = load_config(result.best_file)
    assert (config.model.name, config.paths.store) == ("item-knn", str(board.folder))
    model = create("item-knn", config.model.settings).fit(board, seed=config.train.seed)
    assert watch(board, TrainSettings(metric="ndcg@5"))(model)["ndcg@5"] == result.best["value"]
    with pytest.raises(RunError, match="train.valid_users is None there, not 5"):
        tune(board, "item-knn", tmp_path / "study", settings, train_settings={"metric": "ndcg@5", "valid_users": 5})


def test_the_same_seed_draws_the_same_settings(board, tmp_path):
    found = [
        tune(
            board, "item-knn", tmp_path / str(number), {"trials": 3}, train_settings={"metric": "ndcg@5", "seed": seed}
        )
        for number, seed in enumerate((1, 1, 2))
    ]
    params = [[trial["params"] for trial in result.trials] for result in found]
    assert params[0] == params[1] != params[2]


def test_the_time_ends_the_session_and_its_trial_is_tried_again(board, tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    measure = module.measure

    def slow(*arguments):
        def report(*told):
            clock[0] += 100.0
            arguments[-1](*told)

        return measure(*arguments[:-1], report)

    monkeypatch.setattr(module, "measure", slow)
    settings = of_rates(0.1, 0.01, trials=3, minutes=4)
    with pytest.raises(RunError, match="no trial is complete yet, .*study keeps 1 that were cut short.*--minutes"):
        tune(board, "bpr-mf", tmp_path / "study", settings, train_settings=TRAIN)
    settings = of_rates(0.1, 0.01, trials=3, minutes=13)  # a trial of six validations takes ten minutes
    first = tune(board, "bpr-mf", tmp_path / "study", settings, train_settings=TRAIN)
    assert [trial["state"] for trial in first.trials] == ["interrupted", "complete", "interrupted"]
    second = tune(board, "bpr-mf", tmp_path / "study", {**settings, "minutes": None}, train_settings=TRAIN)
    assert [trial["state"] for trial in second.trials] == ["interrupted", "complete", "interrupted", "complete", "complete"]
    assert second.trials[3]["params"] == second.trials[2]["params"]


def test_an_interrupt_is_passed_on_and_the_trial_is_tried_again(board, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(board, "bpr-mf", tmp_path / "study", of_rates(0.1, trials=1), train_settings=TRAIN)
    assert ",interrupted," in (tmp_path / "study" / "trials.csv").read_text()
    result = tune(board, "bpr-mf", tmp_path / "study", of_rates(0.1, trials=1), train_settings=TRAIN)
    assert result.counts() == {"interrupted": 1, "complete": 1}


def test_a_setting_that_fails_counts_and_the_others_go_on(board, tmp_path):
    result = tune(board, "lightgcn", tmp_path / "study", {**of_rates(0.1, trials=4), "space": {"model.loss": ["bpr", "ccl"]}},
                  train_settings={**TRAIN, "epochs": 1})  # fmt: skip
    assert set(result.counts()) == {"complete", "failed"}
    assert all('set head = "cosine"' in trial["error"] for trial in result.trials if trial["state"] == "failed")
    assert re.search(r"failed,.*cosine", (tmp_path / "study" / "trials.csv").read_text())


def test_a_setting_that_does_not_fit_into_memory_counts_too(board, tmp_path, monkeypatch):
    measure, calls = module.measure, []

    def greedy(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return measure(*arguments)

    monkeypatch.setattr(module, "measure", greedy)
    result = tune(board, "item-knn", tmp_path / "study", {"trials": 2}, train_settings={"metric": "ndcg@5"})
    assert [(trial["state"], trial["error"]) for trial in result.trials] == [
        ("failed", "MemoryError"),
        ("complete", ""),
    ]


def test_a_search_where_nothing_works_says_why(board, tmp_path):
    settings = {**of_rates(0.1, trials=2), "space": {"model.loss": ["ccl"]}}
    with pytest.raises(RunError, match="none of 2 trials is complete; the last failure: .*cosine"):
        tune(board, "lightgcn", tmp_path / "study", settings, train_settings=TRAIN)


def test_an_empty_name_is_no_model(board, tmp_path):
    with pytest.raises(ConfigError, match="unknown model ''"):
        tune(board, "", tmp_path / "study", of_rates(0.1), train_settings=TRAIN)


@pytest.mark.filterwarnings("error")
def test_a_folder_with_signs_of_addresses_in_its_name_holds_its_study(board, tmp_path):
    folder = tmp_path / "t1?x=%41#1"
    for trials in (1, 2):
        result = tune(board, "item-knn", folder, {"trials": trials}, train_settings={"metric": "ndcg@5"})
        assert len(result.trials) == trials
    assert (folder / "study.db").is_file() and [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_a_store_without_validation_split_is_refused_with_the_mend(no_valid, tmp_path):
    with pytest.raises(StoreError, match=r"no validation split.*graphrec build --valid 0.1"):
        tune(no_valid, "bpr-mf", tmp_path / "study", of_rates(0.1), train_settings=TRAIN)
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_extra_is_named(board, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'graphrec\[tune\]'"):
        tune(board, "bpr-mf", tmp_path / "study", of_rates(0.1), train_settings=TRAIN)
    assert not (tmp_path / "study").exists()


def test_optuna_says_nothing_meanwhile_and_is_left_as_it_was(board, tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        tune(board, "bpr-mf", tmp_path / "study", of_rates(0.1, trials=1), train_settings={**TRAIN, "epochs": 1})
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert "[I " not in capfd.readouterr().err
