"""Checkpoints: read back bit for bit, refuse damage by name, survive a death between any two of their steps."""

from __future__ import annotations

import json

import pytest
import torch

from graphrec import checkpoints
from graphrec.errors import RunError

TENSORS = {"a": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), "step": torch.tensor(7.0)}


@pytest.fixture
def folder(tmp_path):
    checkpoints.save(tmp_path, TENSORS, {"epoch": 2, "loss": 0.1})
    return tmp_path


def tensor_file(folder):
    return folder / json.loads((folder / "state.json").read_text())["tensors"]["name"]


def test_it_reads_back_what_was_written(folder):
    tensors, state = checkpoints.load(folder)
    assert state == {"epoch": 2, "loss": 0.1}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[key], TENSORS[key]) for key in TENSORS)


def test_a_second_one_replaces_the_first(folder):
    checkpoints.save(folder, {"a": torch.ones(2)}, {"epoch": 3})
    tensors, state = checkpoints.load(folder)
    assert state == {"epoch": 3} and torch.equal(tensors["a"], torch.ones(2))
    assert sorted(path.name for path in folder.iterdir()) == ["b.safetensors", "state.json"]


def test_dying_before_the_state_is_replaced_keeps_the_old_one(folder, monkeypatch):
    real = checkpoints.atomic_file

    def dies(path, error):
        if path.name == "state.json":
            raise KeyboardInterrupt
        return real(path, error)

    monkeypatch.setattr(checkpoints, "atomic_file", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(folder, {"a": torch.ones(2)}, {"epoch": 3})
    assert checkpoints.load(folder)[1]["epoch"] == 2
    monkeypatch.undo()
    checkpoints.save(folder, {"a": torch.zeros(2)}, {"epoch": 4})
    assert checkpoints.load(folder)[1]["epoch"] == 4


def truncate(folder):
    file = tensor_file(folder)
    file.write_bytes(file.read_bytes()[:-5])
    return file


def edit(folder):
    file = tensor_file(folder)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    return file


def remove(folder):
    file = tensor_file(folder)
    file.unlink()
    return file


def break_state(folder):
    (folder / "state.json").write_text('{"schema_version": 1,')
    return folder / "state.json"


def newer(folder):
    path = folder / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    return path


@pytest.mark.parametrize("damage", [truncate, edit, remove, break_state, newer])
def test_damage_is_refused_by_name(folder, damage):
    file = damage(folder)
    with pytest.raises(RunError, match=str(file)):
        checkpoints.load(folder)


def test_a_folder_without_one(tmp_path):
    assert not checkpoints.exists(tmp_path)
    with pytest.raises(RunError, match="holds no checkpoint"):
        checkpoints.load(tmp_path)
