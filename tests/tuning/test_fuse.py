"""Runs added up: the weights, the run folder, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import graphrec
from graphrec.cli import app
from graphrec.errors import ConfigError, RunError, StoreError
from graphrec.evaluation.validation import validator
from graphrec.training.run import Run
from tests.notes import Notes
from tests.training.conftest import checkerboard, make_store

NAMES = ("popularity", "item-knn", "graph-filter")


@pytest.fixture(scope="module")
def runs(board, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [graphrec.train(board, name, folder / name) for name in NAMES]


def test_the_mean_is_a_run_as_every_other(board, runs, tmp_path):
    made = graphrec.fuse([run.folder for run in runs], tmp_path / "sum")
    assert made.model.settings.weights == pytest.approx([1 / 3] * 3)
    again = graphrec.load(tmp_path / "sum")
    users = np.arange(board.num_users)
    assert np.array_equal(again.model.score(users), made.model.score(users))
    assert again.config.train["runs"] == [str(run.folder) for run in runs] and "train_seconds" in again.summary()
    measured = graphrec.evaluate(again, k=5, metrics=("ndcg",), bootstrap=0)
    assert measured.metrics == graphrec.evaluate(made.model, board, k=5, metrics=("ndcg",), bootstrap=0).metrics
    assert graphrec.recommend(again, [0], k=2).height == 2


def test_given_weights_count_in_proportion(runs, tmp_path):
    made = graphrec.fuse(runs, tmp_path / "sum", [2, 0, 6])
    assert made.model.settings.weights == [0.25, 0.0, 0.75]


def test_validation_chooses_weights_that_are_no_worse_than_the_best_member(board, runs, tmp_path):
    made = graphrec.fuse(runs, tmp_path / "sum", "valid", metric="ndcg@5")
    check = validator(board, "ndcg@5")
    members = [check(run.model)["ndcg@5"] for run in runs]
    assert check(made.model)["ndcg@5"] >= max(members) - 1e-9
    assert sum(made.model.settings.weights) == pytest.approx(1) and made.model.learned_splits == ("valid",)


def test_a_sum_has_learned_what_its_members_have_and_says_so(board, no_valid, runs, tmp_path):
    fast = {"epochs": 1, "batch_size": 32}
    old = graphrec.train(no_valid, "bpr-mf", tmp_path / "old", fast)  # whose training data hold the valid interactions
    warm = graphrec.train(board, "bpr-mf", tmp_path / "warm", {**fast, "start_from": str(old.folder)})
    assert warm.config.learned == ["valid"]
    for weights, count in (("equal", 1), ("valid", 2)):
        notes = Notes()
        made = graphrec.fuse([runs[0], warm.folder], tmp_path / weights, weights, metric="ndcg@5", progress=notes)
        told = [line for line in notes.lines if line.startswith("warning: ")]
        assert f"warning: {warm.folder} has learned from valid interactions" in told[0] and len(told) == count
        assert (f"weights chosen on the valid split give {warm.folder} too much" in told[-1]) == (weights == "valid")
        measured = graphrec.evaluate(made.folder, split="valid", k=5, metrics="ndcg", bootstrap=0)
        assert measured.learned and "sum has learned from the valid split" in str(measured)
        assert not graphrec.evaluate(made.folder, k=5, metrics="ndcg", bootstrap=0).learned
    notes = Notes()
    clean = graphrec.fuse(runs[:2], tmp_path / "clean", progress=notes)
    assert "learned" not in json.loads((clean.folder / "config.json").read_text()) and not any("warning" in line for line in notes.lines)
    assert not graphrec.evaluate(clean, split="valid", k=5, metrics="ndcg", bootstrap=0).learned


def test_what_does_not_fit_is_refused_and_nothing_is_written(board, no_valid, runs, tmp_path):
    other = graphrec.train(no_valid, "popularity", tmp_path / "other")
    same = [graphrec.train(no_valid, name, tmp_path / f"no-valid-{name}") for name in NAMES[:2]]
    mean = graphrec.fuse(runs, tmp_path / "mean")
    ranked = graphrec.train_ranker(runs[0], tmp_path / "ranked", {"epochs": 1})
    out = tmp_path / "out"
    for given, more, kind, message in (
        (runs[:1], {}, ConfigError, "two runs or more, got 1"),
        ([*runs, runs[0].folder], {}, ConfigError, "is given more than once"),
        (runs, {"weights": [1, 2]}, ConfigError, r"weights must be 3 numbers .* got \[1, 2\]"),
        (runs, {"weights": [1, -1, 1]}, ConfigError, "of at least 0"),
        (runs, {"weights": [0, 0, 0]}, ConfigError, "not all 0"),
        (runs, {"weights": [1, float("nan"), 1]}, ConfigError, "of at least 0"),
        (runs, {"weights": "best"}, ConfigError, '"equal", "valid" or a number for each run, got "best"'),
        ([*runs, other], {}, RunError, "training data of .* differ"),
        ([runs[0], mean], {}, ConfigError, "is a sum of runs itself; give these runs"),
        ([runs[0], ranked], {}, ConfigError, "has two stages, .* put a second stage onto the sum: graphrec train --stage rank"),
        (runs, {"weights": "valid", "metric": "popularity@5"}, ConfigError, "nothing can be chosen .* by 'popularity@5'"),
        (runs, {"weights": "valid", "metric": "auc"}, ConfigError, "choose an accuracy metric"),
        (runs, {"weights": "valid", "metric": "ndcg@99"}, ConfigError, "more items than the 20"),
        (same, {"weights": "valid"}, StoreError, "valid"),
        ([runs[0], tmp_path / "nowhere"], {}, RunError, "holds no run"),
    ):
        with pytest.raises(kind, match=message):
            graphrec.fuse(given, out, **more)
        assert not out.exists()
    with pytest.raises(ConfigError, match="a folder of its own"):
        graphrec.fuse(runs, runs[0].folder, overwrite=True)
    with pytest.raises(RunError, match="already holds a run"):
        graphrec.fuse(runs, mean.folder)
    assert graphrec.fuse(runs, mean.folder, [1, 1, 2], overwrite=True).model.settings.weights[2] == 0.5


def test_members_may_go_away(runs, tmp_path):
    copies = []
    for run in runs[:2]:
        shutil.copytree(run.folder, tmp_path / run.folder.name)
        copies.append(tmp_path / run.folder.name)
    made = graphrec.fuse(copies, tmp_path / "sum")
    for copy in copies:
        shutil.rmtree(copy)
    assert np.array_equal(Run.load(tmp_path / "sum").model.score(np.arange(3)), made.model.score(np.arange(3)))


def test_from_the_command_line(runs, tmp_path):
    folders = [str(run.folder) for run in runs]
    done = CliRunner().invoke(app, ["fuse", *folders, "--out", str(tmp_path / "sum"), "--weights", "1,1,2", "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["weights"] == [0.25, 0.25, 0.5]
    refused = CliRunner().invoke(app, ["fuse", *folders, "--out", str(tmp_path / "other"), "--weights", "some"])
    assert refused.exit_code == 1 and "equal, valid or numbers" in refused.stderr and "Traceback" not in refused.stderr
    resumed = CliRunner().invoke(app, ["train", "--resume", "--out", str(tmp_path / "sum")])
    assert resumed.exit_code == 1 and "graphrec fuse" in resumed.stderr


def test_models_of_a_store_that_has_gone_are_told(tmp_path):
    store = make_store(tmp_path / "store", checkerboard())
    runs = [graphrec.train(store, name, tmp_path / name) for name in NAMES[:2]]
    shutil.rmtree(tmp_path / "store")
    assert graphrec.fuse(runs, tmp_path / "mean").model.name == "sum"  # needs no store
    with pytest.raises(StoreError):
        graphrec.fuse(runs, tmp_path / "valid", "valid")
