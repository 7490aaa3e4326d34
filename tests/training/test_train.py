"""Run folders: what is written, what is refused, and going on with a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from graphrec import checkpoints
from graphrec.errors import ConfigError, RunError
from graphrec.models import create
from graphrec.training.run import Run, load
from graphrec.training.settings import TrainSettings
from graphrec.training.train import train
from tests.notes import Notes
from tests.training.conftest import NUM_ITEMS, NUM_USERS, checkerboard, make_store

FAST = {"epochs": 2, "batch_size": 32, "device": "cpu"}
ALL_USERS = np.arange(NUM_USERS)


@pytest.fixture(scope="module")
def finished(board, tmp_path_factory) -> Run:
    return train(board, "bpr-mf", tmp_path_factory.mktemp("runs") / "run", FAST)


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run", finished.model, finished.store_path, finished.config)


def test_the_folder_holds_what_the_page_says(finished, board):
    names = {path.name.split(".out")[0] for path in finished.folder.iterdir()} - {".lock"}
    assert names == {"config.json", "model", "checkpoints", "metrics.jsonl", "events"}
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["train"] == TrainSettings(**FAST).model_dump()
    assert config["model"]["settings"]["loss"] == {"name": "bpr", "num_negatives": 1}
    assert finished.store_path == board.folder.resolve()
    assert [record["epoch"] for record in finished.metrics()] == [1, 2]
    assert set(finished.summary()) == {"epochs", "steps", "loss", "train_seconds", "valid_seconds"}


def test_what_was_measured_goes_with_the_weights(copy, board):
    def measured() -> list[str]:
        return sorted(path.name for path in copy.folder.iterdir() if path.name.startswith(("evaluation", "friends")))

    for name in ("evaluation.json", "evaluation.parquet", "evaluation-valid.json", "friends.json"):
        (copy.folder / name).write_text("{}")
    train(board, None, copy.folder, resume=True)
    assert len(measured()) == 4, "the finished training went on with nothing, so the results still hold"
    train(board, None, copy.folder, {"epochs": 3}, resume=True)
    assert measured() == []
    (copy.folder / "evaluation.json").write_text("{}")
    train(board, "popularity", copy.folder, overwrite=True)
    assert measured() == []


def test_events_hold_the_losses(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.folder)).Reload()
    losses = [event.value for event in events.Scalars("loss")]
    np.testing.assert_allclose(losses, [record["loss"] for record in finished.metrics()], rtol=1e-6)


def test_a_loaded_run_scores_the_same(finished):
    loaded = load(finished.folder)
    assert torch.equal(loaded.model.score(ALL_USERS), finished.model.score(ALL_USERS))
    assert loaded.config == finished.config


@pytest.mark.parametrize("name", ["popularity", "item-knn", "graph-filter"])
def test_closed_form_models_go_the_same_way(board, tmp_path, name):
    run = train(board, name, tmp_path / "run")
    assert torch.equal(load(run.folder).model.score(ALL_USERS), create(name).fit(board).score(ALL_USERS))
    assert set(run.summary()) == {"train_seconds"}
    again = train(board, None, tmp_path / "run", resume=True)
    assert torch.equal(again.model.score(ALL_USERS), run.model.score(ALL_USERS))


def test_model_names_instances_and_store_folders_are_equivalent(board, finished, tmp_path):
    run = train(str(board.folder), create("bpr-mf"), tmp_path / "run", TrainSettings(**FAST))
    assert torch.equal(run.model.score(ALL_USERS), finished.model.score(ALL_USERS))
    with pytest.raises(ConfigError, match="already has its settings"):
        train(board, create("bpr-mf"), tmp_path / "other", model_settings={"embedding_dim": 2})


@pytest.mark.parametrize("name", ["popularity", "bpr-mf"])
def test_a_model_that_belongs_to_a_run_is_not_trained_again(board, tmp_path, name):
    model = create(name)
    run = train(board, model, tmp_path / "run", FAST)
    before = run.model.score(ALL_USERS)
    for again in (model, load(run.folder).model):
        with pytest.raises(ConfigError, match=rf"this {name} model has learned already.*train a new one.*create\('{name}'.*resume"):
            train(board, again, tmp_path / "other", FAST)
    assert not (tmp_path / "other").exists() and torch.equal(run.model.score(ALL_USERS), before)
    assert torch.equal(train(board, model, run.folder, FAST, resume=True).model.score(ALL_USERS), before)


def test_the_folder_defaults_to_the_model_name(board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(train(board, "popularity").folder) == "runs/popularity"


@pytest.mark.parametrize(
    ("settings", "model_settings", "message"),
    [
        ({"epochs": -1}, {}, "train epochs: .* greater than or equal to 1, got -1"),
        ({"learning_rate": float("nan")}, {}, "train learning_rate"),
        ({"sampler": "uniform-users"}, {}, "train sampler: choose one of .*did you mean 'uniform-user'"),
        ({"epoch": 3}, {}, "train epoch: unknown key; .*did you mean 'epochs'"),
        ({"device": "tpu"}, {}, "train device: choose auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"device": "cuda:99"}, {}, "train device: cuda:99 is not there"),
        ({}, {"embedding_dim": 0}, "embedding_dim"),
        ({}, {"loss": "bprr"}, "model lightgcn loss: unknown loss 'bprr'; .*did you mean 'bpr'"),
        ({}, {"loss": {"name": "bpr", "margin": 1}}, "model lightgcn loss margin: unknown key"),
        ({}, {"loss": "ccl"}, 'loss "ccl" compares cosines.*set head = "cosine"'),
        ({}, {"loss": 3}, "loss: give a name, or a table"),
        ({}, {"num_layers": 0}, "num_layers"),
        ({}, {"auxiliary": {"name": "sgl", "weight": float("inf")}}, "auxiliary sgl: weight must be a finite number above 0, got inf"),
        ({}, {"auxiliary": {"name": "sgl", "weight": float("nan")}}, "weight must be a finite number above 0, got nan"),
        ({}, {"loss": {"name": "bpr", "num_negatives": 257}}, 'loss "bpr" num_negatives = 257 for each pair, but the store has 20 items'),
        ({}, {"loss": {"name": "sampled-softmax", "negatives": "shared", "num_negatives": 10**9}}, "1,000,000,000 for each batch, .* 20 items; .* 65,536"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(board, tmp_path, settings, model_settings, message):
    with pytest.raises(ConfigError, match=message):
        train(board, "lightgcn", tmp_path / "run", {**FAST, **settings}, model_settings=model_settings)
    assert not (tmp_path / "run").exists()


def test_an_empty_name_is_no_model(board, tmp_path):
    with pytest.raises(ConfigError, match="unknown model ''"):
        train(board, "", tmp_path / "run", FAST)


def test_model_settings_in_other_places_are_named(board, tmp_path):
    with pytest.raises(ConfigError, match=r"num_layers: a setting of the model lightgcn, .* give it in model_settings"):
        train(board, "lightgcn", tmp_path / "run", {"num_layers": 2})
    with pytest.raises(ConfigError, match="model must be a name or a model, got dict; give its settings as model_settings"):
        train(board, {"name": "lightgcn"}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_kept_unless_asked(board, copy):
    before = (copy.folder / "config.json").read_bytes()
    with pytest.raises(RunError, match="already holds a run; .*--resume.*--overwrite"):
        train(board, "bpr-mf", copy.folder, FAST)
    with pytest.raises(ConfigError, match="exclude each other"):
        train(board, "bpr-mf", copy.folder, FAST, resume=True, overwrite=True)
    with pytest.raises(ConfigError, match="epochs"):
        train(board, "bpr-mf", copy.folder, {"epochs": 0}, overwrite=True)
    assert (copy.folder / "config.json").read_bytes() == before and load(copy.folder)
    (copy.folder / "notes.txt").write_text("mine")
    run = train(board, "popularity", copy.folder, overwrite=True)
    assert load(run.folder).model.name == "popularity" and not (copy.folder / "checkpoints").exists()
    assert (copy.folder / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(board, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and holds no run"):
        train(board, "popularity", tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_more_epochs_go_on_as_if_asked_for_at_once(board, copy, tmp_path):
    longer = train(board, None, copy.folder, {"epochs": 4}, resume=True)
    at_once = train(board, "bpr-mf", tmp_path / "at-once", {**FAST, "epochs": 4})
    assert torch.equal(longer.model.score(ALL_USERS), at_once.model.score(ALL_USERS))
    assert [record["epoch"] for record in longer.metrics()] == [1, 2, 3, 4]
    assert load(copy.folder).config.train["epochs"] == 4


def test_resuming_a_complete_run_changes_nothing(board, copy, finished):
    again = train(board, None, copy.folder, resume=True)
    assert torch.equal(again.model.score(ALL_USERS), finished.model.score(ALL_USERS))
    assert [record["epoch"] for record in again.metrics()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": {"learning_rate": 0.5}}, r"train.learning_rate is 0.001 in the run, not 0.5"),
        ({"model": "lightgcn"}, "trains the model 'bpr-mf', not 'lightgcn'"),
        ({"model": "bpr-mf", "model_settings": {"embedding_dim": 8}}, "embedding_dim is 64 in the run, not 8"),
    ],
)
def test_a_resumed_run_keeps_its_settings(board, copy, arguments, message):
    with pytest.raises(ConfigError, match=message):
        train(board, folder=copy.folder, resume=True, **arguments)


def test_a_resumed_run_keeps_its_store(copy, tmp_path):
    other = make_store(tmp_path / "other", checkerboard()[:-5])
    with pytest.raises(RunError, match="whose training data differ"):
        train(other, folder=copy.folder, resume=True)


def test_there_must_be_a_run_to_resume(board, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        train(board, folder=tmp_path / "none", resume=True)
    with pytest.raises(ConfigError, match="needs a graph store"):
        train(None, "bpr-mf", tmp_path / "none")


@pytest.mark.parametrize("damage", ["truncated", "edited", "metrics"])
def test_damage_is_named_on_resume(board, copy, damage):
    last = copy.folder / "checkpoints" / "last"
    file = next(last.glob("*.safetensors")) if damage != "metrics" else copy.folder / "metrics.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"#" if damage == "edited" else content[: len(content) // 2])
    with pytest.raises(RunError, match=str(file)):
        train(board, folder=copy.folder, settings={"epochs": 3}, resume=True)


def test_a_checkpoint_of_another_shape_is_refused(board, copy):
    tensors, state = checkpoints.load(copy.folder / "checkpoints" / "last")
    tensors["parameter.inputs.user"] = torch.zeros(3, 64)
    checkpoints.save(copy.folder / "checkpoints" / "last", tensors, state)
    with pytest.raises(RunError, match=r"does not fit the model \(inputs.user has shape \(3, 64\)"):
        train(board, folder=copy.folder, resume=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is damaged"), ('{"schema_version": 9}', "upgrade"), ('{"schema_version": 1}', "model")],
)
def test_a_damaged_config_is_refused(copy, content, message):
    (copy.folder / "config.json").write_text(content)
    with pytest.raises(RunError, match=message):
        load(copy.folder)


def test_an_incomplete_run_says_how_to_go_on(copy):
    shutil.rmtree(copy.folder / "model")
    with pytest.raises(RunError, match="not complete; go on with: graphrec train --resume .*train again with --overwrite"):
        load(copy.folder)


def test_two_trainings_into_one_folder(board, tmp_path):
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('locked', flush=True); time.sleep(60)"
    )
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "run" / ".lock"], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(RunError, match="another process is training in"):
            train(board, "popularity", tmp_path / "run")
        with pytest.raises(RunError, match="another process is training in"):
            train(board, "bpr-mf", tmp_path / "run", FAST, validation=lambda *_: pytest.fail("prepared in vain"))
        other.kill()
    train(board, "popularity", tmp_path / "run")


@pytest.mark.parametrize("batching", ["full", "sampled"])
def test_a_user_who_has_every_item_does_not_stop_a_training_and_is_named(batching, tmp_path):
    bot = [(NUM_USERS, item, "train") for item in range(NUM_ITEMS)]
    store = make_store(tmp_path / "store", [*checkerboard(), *bot])
    settings, notes = {**FAST, "batching": batching}, [Notes() for _ in range(4)]
    run = train(store, "lightgcn", tmp_path / "run", settings, progress=notes[0])
    assert run.summary()["steps"] == 2 * -(-NUM_USERS * 7 // 32)  # the pairs of the others
    assert np.isfinite(run.model.embeddings()["user"]).all()
    part = train(store, "lightgcn", tmp_path / "part", {**settings, "epochs": 1}, progress=notes[1])
    part = train(None, None, part.folder, {"epochs": 2}, resume=True, progress=notes[2])
    assert torch.equal(part.model.score(ALL_USERS), run.model.score(ALL_USERS))
    train(store, "lightgcn", tmp_path / "next", {**settings, "start_from": str(run.folder)}, progress=notes[3])
    for one in notes:
        [line] = [line for line in one.lines if "every item" in line]
        assert line.startswith(f"1 user(s) have every item that can be a negative ({NUM_USERS}): their pairs are not drawn")


def test_models_of_each_kind_train_by_name(board, tmp_path):
    for name in ("popularity", "item-knn", "graph-filter", "bpr-mf", "lightgcn", "composed"):
        assert train(board, name, tmp_path / name, FAST).model.name == name
