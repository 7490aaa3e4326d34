"""Builds that are cut short: the disk fills, the process is killed, two builds meet. Nothing half-written is ever seen."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import graphrec.graph.write
from graphrec.errors import StoreError
from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from tests.graph.killed import POINTS
from tests.graph.small import make_log, ring

ROOT = Path(__file__).parents[2]


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("target", ["graph", "parquet", "array", "manifest"])
def test_a_full_disk_is_named_and_keeps_the_old_store(target, tmp_path, monkeypatch):
    old = build(make_log(ring()), tmp_path / "store")
    places = {
        "graph": (graphrec.graph.write, "save_graph"),
        "parquet": (pl.DataFrame, "write_parquet"),
        "array": (graphrec.graph.write, "record_files"),
        "manifest": (Path, "write_text"),
    }
    monkeypatch.setattr(*places[target], no_space)
    with pytest.raises(StoreError, match="disk is full while writing .*store"):
        build(make_log(ring(each=6)), tmp_path / "store", overwrite=True)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["store"]
    assert GraphStore.open(tmp_path / "store").manifest == old.manifest


def test_a_full_disk_while_adding_a_feature_keeps_the_old_one(tmp_path, monkeypatch):
    store = build(make_log(ring()), tmp_path / "store")
    array = store.train_matrix().toarray()
    store.add_feature("user", "row", array, {})
    monkeypatch.setattr("graphrec.graph.arrays.save_file", no_space)
    with pytest.raises(StoreError, match="disk is full while writing .*user.row.safetensors"):
        store.add_feature("user", "row", array + 1, {})
    monkeypatch.undo()
    assert (store.feature("user", "row")[0] == array).all() and store.features("user") == ["row"]


@pytest.mark.parametrize("point", [*POINTS, "between the renames"])
def test_a_killed_build_leaves_no_half_store_and_runs_again(point, tmp_path):
    folder = tmp_path / "store"
    old = build(make_log(ring()), folder)
    command = [sys.executable, "-m", "tests.graph.killed", str(folder), point]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        with pytest.raises(StoreError, match="another process is writing .*store right now"):
            build(make_log(ring()), folder, overwrite=True)
        process.send_signal(signal.SIGKILL)
    if point != "between the renames":  # there the old store waits beside it, until the next build puts it back
        assert GraphStore.open(folder).manifest == old.manifest
    with pytest.raises(StoreError, match="already exists"):
        build(make_log(ring()), folder)
    assert GraphStore.open(folder).manifest == old.manifest
    assert len(build(make_log(ring(each=6)), folder, overwrite=True).interactions()) == 48
    assert os.listdir(tmp_path) == ["store"]


def test_a_folder_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    for overwrite, message in ((False, "already exists"), (True, "holds no manifest.json")):
        with pytest.raises(StoreError, match=message):
            build(make_log(ring()), tmp_path / "thesis", overwrite=overwrite)
    assert os.listdir(tmp_path / "thesis") == ["chapter1.txt"]
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="already exists"):
        build(make_log(ring()), tmp_path / "file")
    with pytest.raises(StoreError, match="cannot write"):
        build(make_log(ring()), tmp_path / "file" / "store")


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "store").mkdir()
    build(make_log(ring()), tmp_path / "store")
    assert GraphStore.open(tmp_path / "store").num_users == 12
