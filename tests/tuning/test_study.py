"""A study outlives its processes: killed ones are noticed, their trials tried again, and two share the work."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest

from graphrec.errors import RunError
from graphrec.tuning.tune import tune
from tests.tuning import sessions

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def studies(board, tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of the four studies, and how each session ended."""
    folder = tmp_path_factory.mktemp("studies")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, HERE / "sessions.py", board.folder, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def outcome(folder: Path) -> list[dict[str, str]]:
    """What the trials that count found, in order: everything but their numbers and seconds."""
    kept = [row for row in rows(folder) if row["state"] not in ("killed", "interrupted")]
    return [{name: value for name, value in row.items() if name not in ("trial", "seconds")} for row in kept]


def test_a_killed_search_goes_on_to_what_an_unbroken_one_finds(studies):
    folder, said = studies
    assert said[:4] == ["exit 0", "killed", "1 run folders left by the kill", "exit 0"]
    assert [row["state"] for row in rows(folder / "cut")].count("killed") == 1
    assert len(outcome(folder / "whole")) == sessions.SETTINGS["trials"]
    assert outcome(folder / "cut") == outcome(folder / "whole")
    settings = [(folder / name / "best.toml").read_text().split("\n[model]")[1] for name in ("cut", "whole")]
    assert settings[0] == settings[1]
    assert not list((folder / "cut" / "trials").iterdir())


def test_a_setting_that_kills_its_process_twice_is_given_up_and_counts(studies):
    folder, said = studies
    assert said[4:7] == ["killed", "killed", "exit 0"]
    found = rows(folder / "deadly")
    assert [row["state"] for row in found[:2]] == ["killed", "given up"]
    assert found[0]["train.learning_rate"] == found[1]["train.learning_rate"]
    assert "died twice" in found[1]["error"]
    assert len(outcome(folder / "deadly")) == 3


def test_two_processes_share_a_study(studies):
    folder, said = studies
    assert said[7:] == ["exit 0", "exit 0"]
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'shared' / 'study.db'}")
    trials = optuna.load_study(study_name=None, storage=storage).trials
    assert len(trials) == sessions.SETTINGS["trials"]
    assert all(trial.state.is_finished() and trial.state.name != "FAIL" for trial in trials)
    assert len(Counter(trial.user_attrs["worker"] for trial in trials)) == 2
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == len(trials)
    assert len(rows(folder / "shared")) == len(trials)
    assert not list((folder / "shared" / "workers").iterdir())


def again(store, folder, **changes):
    given = {"model": "lightgcn", "settings": {**sessions.SETTINGS}, "model_settings": sessions.MODEL}
    return tune(store, folder=folder, **{**given, "train_settings": sessions.TRAIN, **changes})


def test_a_finished_study_answers_at_once_and_more_trials_go_on(studies, board, monkeypatch):
    folder, _ = studies
    monkeypatch.setattr("graphrec.tuning.tune.measure", lambda *_: pytest.fail("nothing is left to try"))
    result = again(board, folder / "shared")
    assert result.best["value"] == max(float(row["ndcg@5"]) for row in rows(folder / "shared"))
    monkeypatch.setattr("graphrec.tuning.tune.measure", lambda *_: 2.0)
    more = again(board, folder / "shared", settings={**sessions.SETTINGS, "trials": 8})
    assert len(more.trials) == 8 and more.best["value"] == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "bpr-mf", "model_settings": {}}, "model is lightgcn there, not bpr-mf"),
        (
            {"train_settings": {**sessions.TRAIN, "metric": "recall@5"}},
            "settings train.metric is ndcg@5 there, not recall@5",
        ),
        (
            {"settings": {**sessions.SETTINGS, "space": {"model.embedding_dim": [4, 8, 16]}}},
            "space model.embedding_dim is {'log': False, 'choices': [4, 8]} there",
        ),
        (
            {"settings": {**sessions.SETTINGS, "pruner": "none", "startup_trials": 1, "warmup_epochs": 9}},
            "search pruner is median there, not none; search startup_trials is 3 there, not 1; search warmup_epochs is 0 there, not 9",
        ),
    ],
)
def test_another_search_is_refused(studies, board, change, message):
    with pytest.raises(RunError) as refused:
        again(board, studies[0] / "whole", **change)
    assert message in str(refused.value) and "choose another folder" in str(refused.value)


def test_a_study_that_does_not_say_how_it_searched_goes_on(board, tmp_path):
    given = {"settings": {"trials": 1, "startup_trials": 3}, "train_settings": {"metric": "ndcg@5"}}
    tune(board, "item-knn", tmp_path, **given)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        (text,) = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'contract'").fetchone()
        old = {name: value for name, value in json.loads(text).items() if name != "search"}
        assert len(old) == len(json.loads(text)) - 1
        database.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'contract'", (json.dumps(old),))
    assert len(tune(board, "item-knn", tmp_path, **{**given, "settings": {"trials": 2, "startup_trials": 3}}).trials) == 2


def test_a_study_of_other_data_is_refused(studies, tmp_path):
    from tests.training.conftest import checkerboard, make_store

    other = make_store(tmp_path / "other", checkerboard()[1:])
    with pytest.raises(RunError, match="study of other data than .*other.*: of .*board"):
        again(other, studies[0] / "whole")


def test_a_folder_with_other_things_is_left_alone(board, tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(RunError, match="holds no study"):
        again(board, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious.txt"]


def test_a_damaged_study_is_named(board, tmp_path):
    (tmp_path / "study.db").write_text("not a database, whatever its name says" * 50)
    with pytest.raises(RunError, match=r"study.db cannot be used: [^\n]*file is not a database; choose another folder, [^\n]*$"):
        again(board, tmp_path)
