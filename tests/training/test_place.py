"""A finished run answers until the one that replaces it is finished, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from graphrec.errors import RunError
from graphrec.training import train as training
from graphrec.training.place import REPLACEMENT, locked
from graphrec.training.run import Run, load
from graphrec.training.train import train
from graphrec.tuning.fuse import fuse

FAST = {"epochs": 2, "batch_size": 32, "device": "cpu", "eval_every": 1, "checkpoint_every": 0}


def failing(store, settings, progress):
    """A validation that fails when it is called for the second time."""
    calls = []

    def validate(model):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {settings.metric: 0.5}

    return validate


def steady(store, settings, progress):
    """A validation that does not."""
    return lambda model: {settings.metric: 0.5}


@pytest.fixture
def old(board, tmp_path) -> Run:
    run = train(board, "popularity", tmp_path / "run")
    (run.folder / "evaluation.json").write_text("{}")
    return run


def test_the_old_run_answers_until_the_new_one_is_finished(board, old):
    with pytest.raises(KeyboardInterrupt):
        train(board, "bpr-mf", old.folder, FAST, validation=failing, overwrite=True)
    assert load(old.folder).model.name == "popularity" and (old.folder / "evaluation.json").exists()
    assert (old.folder / REPLACEMENT / "checkpoints" / "last").is_dir()
    run = train(board, None, old.folder, validation=steady, resume=True)
    assert run.folder == old.folder and load(old.folder).model.name == "bpr-mf"
    names = {path.name.split(".out")[0] for path in old.folder.iterdir()} - {".lock"}
    assert names == {"config.json", "model", "checkpoints", "metrics.jsonl", "events"}
    again = train(board, "bpr-mf", old.folder.parent / "again", FAST, validation=steady)
    weights = [(run.folder / "model" / "model.safetensors").read_bytes() for run in (run, again)]
    assert weights[0] == weights[1]


def test_a_folder_with_nothing_but_what_a_kill_left_of_its_first_file_is_free(board, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def killed(*names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("graphrec.atomic.os.replace", killed)
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # nobody cleans up behind a killed process
        with pytest.raises(KeyboardInterrupt):
            train(board, "popularity", run)
    left = sorted(path.name for path in run.iterdir())
    assert len(left) == 2 and left[0].startswith(".config.json.") and left[1] == ".lock"
    with pytest.raises(RunError, match=f"holds no run .*; train one with: graphrec train --out {run}$"):
        train(None, None, run, resume=True)
    (run / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and holds no run"):
        train(board, "popularity", run)
    (run / "notes.txt").unlink()
    train(board, "popularity", run)
    assert load(run).model.name == "popularity" and left[0] not in [path.name for path in run.iterdir()]


@pytest.mark.parametrize("left", ["replaced-model", "replacement/replaced-model"])
def test_what_a_kill_left_of_a_replaced_model_is_in_nobodys_way(board, old, left):
    (old.folder / left).mkdir(parents=True)
    (old.folder / left / "model.safetensors").write_text("old")
    train(board, "item-knn", old.folder, overwrite=True)
    train(board, "popularity", old.folder, overwrite=True)
    assert load(old.folder).model.name == "popularity"
    assert {path.name for path in old.folder.iterdir()} <= {"config.json", "model", "metrics.jsonl", ".lock", left} | {
        path.name for path in old.folder.glob("events.*")
    }


def test_a_take_over_that_was_cut_short_is_finished_by_whoever_reads_the_run(board, old, monkeypatch):
    from graphrec.training import place

    def dying(source, target):
        if str(target) == str(old.folder / "model"):
            raise KeyboardInterrupt
        replace(source, target)

    replace = place.os.replace
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(place.os, "replace", dying)
        train(board, "item-knn", old.folder, overwrite=True)
    assert not (old.folder / "model").exists()
    assert load(old.folder).model.name == "item-knn" and not (old.folder / REPLACEMENT).exists()


def test_overwriting_again_starts_the_replacement_anew(board, old):
    with pytest.raises(KeyboardInterrupt):
        train(board, "bpr-mf", old.folder, FAST, validation=failing, overwrite=True)
    with pytest.raises(RunError, match="already holds a run"):
        train(board, "bpr-mf", old.folder, FAST)
    train(board, "bpr-mf", old.folder, {**FAST, "epochs": 1}, overwrite=True)
    assert len(load(old.folder).metrics()) == 1 and not (old.folder / REPLACEMENT).exists()


def test_an_unfinished_run_is_replaced_in_its_place(board, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(board, "bpr-mf", tmp_path / "run", FAST, validation=failing)
    with pytest.raises(KeyboardInterrupt):
        train(board, "bpr-mf", tmp_path / "run", FAST, validation=failing, overwrite=True)
    assert not (tmp_path / "run" / REPLACEMENT).exists() and (tmp_path / "run" / "checkpoints").is_dir()


def test_what_is_made_of_runs_does_not_take_the_old_one_away_first(board, old, tmp_path, monkeypatch):
    members = [train(board, name, tmp_path / name) for name in ("popularity", "item-knn")]

    class Full(training.Journal):
        def record(self, step, values):
            raise RunError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(RunError, match="disk is full"):
        patched.setattr(training, "Journal", Full)
        fuse(members, old.folder, overwrite=True)
    assert load(old.folder).model.name == "popularity"
    fuse(members, old.folder, overwrite=True)
    assert load(old.folder).model.name == "sum" and not (old.folder / REPLACEMENT).exists()


def test_a_training_that_another_process_has_overtaken_stops(board, old, monkeypatch):
    def overtaken(path: Path):
        shutil.rmtree(path / "model")  # as if the other had begun anew
        return locked(path)

    monkeypatch.setattr(training, "locked", overtaken)
    with pytest.raises(RunError, match="another process has finished a training in .* meanwhile"):
        train(board, "popularity", old.folder, overwrite=True)


def test_a_run_that_is_replaced_while_it_is_read_is_not_mixed(board, old, monkeypatch):
    from graphrec.training import run as runs

    def late(folder):
        model = load_model(folder)
        train(board, "item-knn", old.folder, overwrite=True)
        return model

    load_model = runs.load_model
    monkeypatch.setattr(runs, "load_model", late)
    with pytest.raises(RunError, match="was replaced while it was read"):
        load(old.folder)
