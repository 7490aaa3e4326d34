"""A fine-tuning that is interrupted goes on to the adapter of one that was not, bit for bit."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from graphrec import checkpoints
from graphrec.errors import RunError
from graphrec.features.finetune import finetune
from graphrec.features.finetune_loop import FinetuneLoop
from tests.features.conftest import tiny
from tests.features.test_finetune import QUICK, feature
from tests.notes import Notes

SETTINGS = QUICK.model_copy(update={"epochs": 3, "dropout": 0.3, "checkpoint_every": 0.0})
RESULT = "losses", "accuracies", "best_epoch", "pairs", "parameters"


@pytest.fixture(scope="module")
def model(tmp_path_factory, minilm):
    return tiny(tmp_path_factory.mktemp("models") / "bert", minilm)


@pytest.fixture
def interrupted(monkeypatch, store, model):
    """Fine-tune until the `count`-th call of a method of the loop, where the process is interrupted before or after it."""

    def run(adapter, name, count, after=False, settings=SETTINGS):
        real, calls = getattr(FinetuneLoop, name), []

        def dies(self, *arguments):
            calls.append(1)
            if len(calls) == count and not after:
                raise KeyboardInterrupt
            result = real(self, *arguments)
            if len(calls) == count:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(FinetuneLoop, name, dies)
            finetune(store, "text", feature(model, adapter), settings)
        assert not adapter.exists()

    return run


@pytest.fixture
def whole(store, model, tmp_path):
    """What comes of an unbroken one, and its weights."""
    found = finetune(store, "text", feature(model, tmp_path / "whole"), SETTINGS.model_copy(update={"checkpoint_every": 60.0}))
    return found, load_file(tmp_path / "whole" / "adapter_model.safetensors")


def same_weights(one, other):
    return one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)


def test_interrupted_again_and_again_it_reaches_the_same_adapter(interrupted, whole, store, model, tmp_path):
    adapter, (found, weights) = tmp_path / "adapter", whole
    interrupted(adapter, "_step", 3)  # in the first pass
    interrupted(adapter, "_step", 2, after=True)  # a step that no checkpoint holds
    interrupted(adapter, "_validate", 1)  # between the last step of a pass and its validation
    interrupted(adapter, "_validate", 1, after=True)  # and before that is kept
    interrupted(adapter, "_step", 4)  # in the second pass
    interrupted(adapter, "_pass", 1, after=True)  # between two passes
    notes = Notes()
    again = finetune(store, "text", feature(model, adapter), SETTINGS, progress=notes)
    assert f"going on from step {2 * (again.pairs // SETTINGS.batch_size)} (pass 3)" in notes.lines
    assert [getattr(again, name) for name in RESULT] == [getattr(found, name) for name in RESULT]
    assert same_weights(load_file(adapter / "adapter_model.safetensors"), weights)
    assert not (tmp_path / "adapter.unfinished").exists()


def test_the_best_pass_may_be_one_before_the_interruption(interrupted, store, model, tmp_path):
    destructive = SETTINGS.model_copy(update={"learning_rate": 50.0, "temperature": 1.0, "epochs": 1})
    interrupted(tmp_path / "adapter", "_step", 5, settings=destructive)
    found = finetune(store, "text", feature(model, tmp_path / "adapter"), destructive)
    assert found.best_epoch == 0
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert not any(bool(value.any()) for name, value in weights.items() if "lora_B" in name)  # as adapters start


def test_without_a_checkpoint_yet_it_begins_anew(interrupted, whole, store, model, tmp_path):
    interrupted(tmp_path / "adapter", "_step", 5, settings=SETTINGS.model_copy(update={"checkpoint_every": 60.0}))
    finetune(store, "text", feature(model, tmp_path / "adapter"), SETTINGS)
    assert same_weights(load_file(tmp_path / "adapter" / "adapter_model.safetensors"), whole[1])


def test_other_settings_begin_anew_and_say_so(interrupted, store, model, tmp_path):
    interrupted(tmp_path / "adapter", "_step", 3)
    other, notes = SETTINGS.model_copy(update={"seed": 1, "epochs": 1}), Notes()
    found = finetune(store, "text", feature(model, tmp_path / "adapter"), other, progress=notes)
    assert any("adapter.unfinished holds a fine-tuning of other texts, events or settings" in line for line in notes.lines)
    plain = finetune(store, "text", feature(model, tmp_path / "plain"), other)
    assert found.losses == plain.losses
    record = json.loads((tmp_path / "adapter" / "finetune.json").read_text())
    assert record["settings"]["seed"] == 1


def test_a_damaged_checkpoint_is_named(interrupted, store, model, tmp_path):
    interrupted(tmp_path / "adapter", "_step", 3)
    path = tmp_path / "adapter.unfinished" / checkpoints.STATE
    path.write_text(path.read_text()[:50])
    with pytest.raises(RunError, match=r"adapter.unfinished/state.json is damaged.*delete .*adapter.unfinished$"):
        finetune(store, "text", feature(model, tmp_path / "adapter"), SETTINGS)
