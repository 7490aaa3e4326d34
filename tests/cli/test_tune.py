"""`graphrec tune`: options and run file reach the search, and its best setting trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from tests.training.conftest import checkerboard, make_store

FAST = (
    "--set",
    "train.epochs=2",
    "--set",
    "train.eval_every=1",
    "--set",
    "train.batch_size=64",
    "--set",
    "train.metric=ndcg@5",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "board", checkerboard()).folder


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_best_setting_trains_to_the_value_that_was_found(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(
        "tune", store, "--model", "bpr-mf", "--trials", 2, "--out", "study", "--seed", 3, *FAST, "--json", "-q"
    )
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["model"], answer["metric"], answer["best_file"]) == ("bpr-mf", "ndcg@5", "study/best.toml")
    assert sum(answer["trials"].values()) == 2
    trained = invoke("train", "--config", "study/best.toml", "--json", "-q")
    assert trained.exit_code == 0, trained.output
    run = json.loads(trained.stdout)
    assert run["run"] == "study/best"
    assert run["valid"]["ndcg@5"] == answer["best"]["value"]
    config = json.loads(Path("study/best/config.json").read_text())
    assert config["train"]["seed"] == 3 and config["train"]["epochs"] == 2


def test_the_run_file_says_what_is_searched(store, tmp_path):
    (tmp_path / "run.toml").write_text(
        f'[paths]\nstore = "{store}"\n[model]\nname = "item-knn"\n[train]\nmetric = "ndcg@5"\n'
        '[tune]\ntrials = 3\ndefaults = false\n[tune.space]\n"model.neighbours" = [2, 5]\n'
    )
    done = invoke("tune", "--config", tmp_path / "run.toml", "--out", tmp_path / "study")
    assert done.exit_code == 0, done.output
    assert "3 complete" in done.stdout and "model.neighbours" in done.stdout
    assert (
        (tmp_path / "study" / "trials.csv")
        .read_text()
        .startswith("trial,state,ndcg@5,epochs,seconds,model.neighbours,error\n")
    )


def test_small_settings_are_shown_in_significant_digits(store, tmp_path):
    space = '{"train.learning_rate"=[0.0000061234567]}'
    only = ("--set", "tune.defaults=false", "--set", f"tune.space={space}", "--trials", 1)
    done = invoke("tune", store, "--model", "bpr-mf", "--out", tmp_path / "study", *only, *FAST)
    assert done.exit_code == 0, done.output
    assert "6.123e-06" in done.stdout and "0.0000" not in done.stdout


def test_too_short_a_time_is_a_failure_that_says_so(store, tmp_path):
    done = invoke("tune", store, "--model", "bpr-mf", "--out", tmp_path / "study", *FAST, "--minutes", 1e-9, "-q")
    assert done.exit_code == 1 and "no trial is complete yet" in done.stderr and done.stdout == ""
    other = invoke("tune", store, "--out", tmp_path / "other", "--set", "evaluate.k=3")
    assert other.exit_code == 1 and "tune reads [paths], [features], [model], [train], [tune] and not [evaluate]" in other.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[tune.space]\n"train.learning_rte" = [0.1]\n', "did you mean 'train.learning_rate'"),
        ("[tune]\ntrails = 3\n", "did you mean 'trials'"),
        ('[tune.space]\n"train.learning_rate" = {low = 1e-4}\n', "error: tune space train.learning_rate: give low and high with low < high"),
        ('[tune.space]\n"model.loss" = ["bpr", "nope"]\n', "error: tune space model.loss: unknown loss 'nope'; choose"),
        ('[tune.space]\n"train.epochs" = 3\n', "a list of choices or false, got 3"),
    ],
)
def test_mistakes_end_in_one_message(store, tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    done = invoke("tune", store, "--config", tmp_path / "run.toml", "--out", tmp_path / "study")
    assert done.exit_code == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "study").exists()
