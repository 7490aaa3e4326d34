"""Training that starts from a finished run: rows by original id, layers as they are, and clear errors for what does not fit."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import graphrec
from graphrec import checkpoints
from graphrec.errors import ConfigError, RunError
from graphrec.training.run import load
from graphrec.training.train import train
from tests.notes import Notes
from tests.training.conftest import NUM_ITEMS, checkerboard, make_store

FAST = {"epochs": 2, "batch_size": 32, "device": "cpu"}
STILL = {**FAST, "epochs": 1, "learning_rate": 1e-20}  # ends where it starts


@pytest.fixture(scope="module")
def today(tmp_path_factory):
    """The board a day later: users 0 and 1 are gone, 90 and 91 have come, and each user's number has become its negative."""
    kept = [(-user, item, side) for user, item, side in checkerboard() if user > 1]
    return make_store(tmp_path_factory.mktemp("today") / "store", kept + [(90 + user % 2, item, "train") for user, item, _ in checkerboard()[:20]])


def parameters(run) -> dict[str, torch.Tensor]:
    return {name: value for name, value in checkpoints.load(run.folder / "checkpoints" / "last")[0].items() if name.startswith("parameter.")}


@pytest.mark.parametrize("model", ["lightgcn", "ngcf"])
def test_rows_are_found_by_original_id_and_layers_are_taken_over(model, tmp_path, today):
    yesterday = make_store(tmp_path / "store", [(-user, item, side) for user, item, side in checkerboard()])
    old = train(yesterday, model, tmp_path / "old", FAST)
    notes = Notes()
    warm = train(today, model, tmp_path / "new", {**STILL, "start_from": str(old.folder)}, progress=notes)
    cold = train(today, model, tmp_path / "cold", STILL)
    before, after, without = parameters(old), parameters(warm), parameters(cold)
    ids, old_ids = today.ids("user").series.to_list(), yesterday.ids("user").series.to_list()
    for place, user in enumerate(ids):
        expected = before["parameter.inputs.user"][old_ids.index(user)] if user in old_ids else without["parameter.inputs.user"][place]
        assert torch.equal(after["parameter.inputs.user"][place], expected)
    assert len(set(ids) & set(old_ids)) == len(ids) - 2
    for name in before.keys() - {"parameter.inputs.user"}:
        assert torch.equal(after[name], before[name])
    assert any(f"22 of 24 users, {NUM_ITEMS} of {NUM_ITEMS} items" in line for line in notes.lines)


def test_a_run_can_be_replaced_by_one_that_starts_from_it(board, tmp_path):
    old = train(board, "bpr-mf", tmp_path / "run", FAST)
    before = parameters(old)["parameter.inputs.item"]
    train(board, "bpr-mf", tmp_path / "run", {**STILL, "start_from": str(old.folder)}, overwrite=True)
    run = load(tmp_path / "run")
    assert torch.equal(parameters(run)["parameter.inputs.item"], before)
    assert run.config.train["start_from"] == str(old.folder) and not (run.folder / "replacement").exists()


def test_the_best_weights_are_those_that_a_training_starts_from(board, tmp_path):
    values = iter([0.9, 0.1])
    old = train(board, "bpr-mf", tmp_path / "old", {**FAST, "eval_every": 1}, validation=lambda *_: lambda model: {"ndcg@20": next(values)})
    best = checkpoints.load(old.folder / "checkpoints" / "best")[0]["parameter.inputs.user"]
    new = train(board, "bpr-mf", tmp_path / "new", {**STILL, "start_from": str(old.folder)})
    assert torch.equal(parameters(new)["parameter.inputs.user"], best)
    assert not torch.equal(parameters(old)["parameter.inputs.user"], best)


def test_runs_that_do_not_fit_are_refused_before_anything_is_written(board, tmp_path):
    old = train(board, "bpr-mf", tmp_path / "old", FAST)
    start = {**FAST, "start_from": str(old.folder)}
    with pytest.raises(ConfigError, match="start_from: a run of the model 'lightgcn' is needed, got 'bpr-mf'"):
        train(board, "lightgcn", tmp_path / "new", start)
    with pytest.raises(ConfigError, match=r"inputs.user of .* must have rows of \(8,\), got \(64,\); train with the settings"):
        train(board, "bpr-mf", tmp_path / "new", start, model_settings={"embedding_dim": 8})
    with pytest.raises(RunError, match="holds no run"):
        train(board, "bpr-mf", tmp_path / "new", {**FAST, "start_from": str(tmp_path / "nowhere")})
    shutil.rmtree(old.folder / "checkpoints")
    with pytest.raises(RunError, match="has no checkpoints; a run that others start from keeps that folder"):
        train(board, "bpr-mf", tmp_path / "new", start)
    assert not (tmp_path / "new").exists()


def test_a_closed_form_model_says_that_it_starts_from_nothing(board, tmp_path):
    old, notes = train(board, "popularity", tmp_path / "old"), Notes()
    train(board, "popularity", tmp_path / "new", {"start_from": str(old.folder)}, progress=notes)
    assert any("start_from does nothing here: popularity is fitted in closed form" in line for line in notes.lines)


def test_a_warm_start_is_better_than_a_cold_one_after_the_same_steps(board, tmp_path):
    settings = {**FAST, "epochs": 20, "learning_rate": 0.01}
    old = train(board, "lightgcn", tmp_path / "old", settings)
    losses = [
        train(board, "lightgcn", tmp_path / name, {**settings, "epochs": 1, "start_from": start}).summary()["loss"]
        for name, start in (("cold", None), ("warm", str(old.folder)))
    ]
    assert np.isfinite(losses).all() and losses[1] < 0.7 * losses[0]


def test_a_start_that_has_seen_what_is_held_out_is_told_and_kept(board, tmp_path):
    everything = make_store(tmp_path / "all", [(user, item, "train") for user, item, _ in checkerboard()][:-1] + [(23, 0, "test")])
    old, notes = train(everything, "bpr-mf", tmp_path / "old", FAST), Notes()
    run = train(board, "bpr-mf", tmp_path / "new", {**FAST, "start_from": str(old.folder)}, progress=notes)
    assert [line.split(" were ")[0] for line in notes.lines if "warning" in line] == [
        f"warning: {count} of {total} {split} interactions of {board.folder}" for split, count, total in (("valid", 24, 24), ("test", 48, 48))
    ]
    assert run.config.learned == ["valid", "test"] and graphrec.evaluate(run).learned
    assert not graphrec.evaluate(train(board, "bpr-mf", tmp_path / "cold", FAST)).learned


def test_a_start_that_knows_nobody_is_refused(board, tmp_path):
    other = make_store(tmp_path / "store", [(user + 1000, item + 1000, side) for user, item, side in checkerboard()])
    old = train(other, "bpr-mf", tmp_path / "old", FAST)
    with pytest.raises(ConfigError, match="knows none of the users and items of .*; is it a run on another log"):
        train(board, "bpr-mf", tmp_path / "new", {**FAST, "start_from": str(old.folder)})


def test_a_start_is_recorded_from_wherever_it_is_named(board, tmp_path, monkeypatch):
    train(board, "bpr-mf", tmp_path / "old", FAST)
    monkeypatch.chdir(tmp_path)
    run = train(board, "bpr-mf", "new", {**FAST, "start_from": "old"})
    assert run.config.train["start_from"] == str((tmp_path / "old").resolve())
    shutil.rmtree(tmp_path / "old")  # of no use once there is a checkpoint
    train(board, None, "new", {"epochs": 3}, resume=True)


def test_searches_and_benchmarks_start_from_the_beginning(board, tmp_path):
    with pytest.raises(ConfigError, match="a search trains every trial from the beginning"):
        graphrec.tune(board, "bpr-mf", tmp_path / "study", train_settings={"start_from": "runs/old"})
