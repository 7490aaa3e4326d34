"""Files and folders appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from graphrec.atomic import allocate, atomic_file, atomic_folder, check_file, locked
from graphrec.errors import GraphrecError, StoreError

FULL_DISKS = {
    "with its number": OSError(errno.ENOSPC, "No space left on device"),
    "over quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "as text of another library": RuntimeError("I/O error: No space left on device (os error 28)"),
}


def leftovers(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("problem", FULL_DISKS.values(), ids=FULL_DISKS)
@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_full_disk_is_named_and_nothing_is_left(writer, problem, tmp_path):
    with (
        pytest.raises(StoreError, match="disk is full while writing .*target"),
        writer(tmp_path / "target", StoreError),
    ):
        raise problem
    assert leftovers(tmp_path) == []


def test_a_full_disk_that_the_writer_does_not_name_is_found_by_the_free_space(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr("graphrec.atomic.shutil.disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match="disk is full"), atomic_folder(tmp_path / "target", StoreError):
        raise RuntimeError("FileStream.Write incomplete")


def test_other_failures_pass_unchanged_and_keep_what_was_there(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "manifest.json").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder", overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "manifest.json").read_text() == "old"
    assert leftovers(tmp_path) == ["file", "folder"]


def test_two_writers_of_one_folder(tmp_path):
    with atomic_folder(tmp_path / "target") as first:
        (first / "a").write_text("first")
        second = atomic_folder(tmp_path / "target", StoreError)
        with pytest.raises(StoreError, match="another process is writing .*target"), second:
            pass
    assert (tmp_path / "target" / "a").read_text() == "first"
    assert leftovers(tmp_path) == ["target"]


def test_a_lock_whose_file_was_removed_meanwhile_does_not_count(tmp_path, monkeypatch):
    """The other writer finishes, and removes the lock file, between our opening and our locking it."""
    monkeypatch.setattr("graphrec.atomic.fcntl.flock", lambda *_: (tmp_path / ".target.lock").unlink())
    with pytest.raises(StoreError, match="another process"), atomic_folder(tmp_path / "target", StoreError):
        pass


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    (tmp_path / ".target.abc.tmp").mkdir()
    (tmp_path / ".target.abc.tmp" / "half").write_text("half")
    with atomic_folder(tmp_path / "target") as temporary:
        (temporary / "whole").write_text("whole")
    assert leftovers(tmp_path) == ["target"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    (tmp_path / ".target.abc.tmp" / "old").mkdir(parents=True)
    (tmp_path / ".target.abc.tmp" / "old" / "precious").write_text("old")
    with pytest.raises(StoreError, match="already exists"), atomic_folder(tmp_path / "target", StoreError):
        pass
    assert (tmp_path / "target" / "precious").read_text() == "old"


@pytest.mark.parametrize(("name", "other"), [("shop", "shop.v2"), ("run", "run.2026-09-30"), ("a*", "abc"), ("[ab]", "a")])
def test_a_writer_leaves_those_of_other_names_alone(name, other, tmp_path):
    (tmp_path / f".{other}.x1y2z3.tmp" / "old").mkdir(parents=True)
    (tmp_path / f".{other}.x1y2z3.tmp" / "old" / "precious").write_text("old")
    (tmp_path / f".{name}.x1y2z3.tmp").mkdir()
    with atomic_folder(tmp_path / name):
        assert (tmp_path / f".{other}.x1y2z3.tmp" / "old" / "precious").exists()
    assert leftovers(tmp_path) == sorted([f".{other}.x1y2z3.tmp", name])


def test_a_link_stays_and_what_it_names_is_written(tmp_path):
    for name, writer in (("folder", atomic_folder), ("file", atomic_file)):
        (tmp_path / f"{name}-link").symlink_to(tmp_path / "there" / name)  # first without anything behind it
        for text in ("first", "second"):
            options = {"overwrite": True} if writer is atomic_folder else {}
            with writer(tmp_path / f"{name}-link", **options) as temporary:
                (temporary / "a" if name == "folder" else temporary).write_text(text)
        assert (tmp_path / f"{name}-link").is_symlink()
    assert (tmp_path / "there" / "folder" / "a").read_text() == (tmp_path / "there" / "file").read_text() == "second"
    assert leftovers(tmp_path / "there") == ["file", "folder"]


def test_overwriting_needs_the_marker(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="already exists.*--overwrite"), atomic_folder(tmp_path / "target", StoreError):
        pass
    writer = atomic_folder(tmp_path / "target", StoreError, overwrite=True, marker="manifest.json")
    with pytest.raises(StoreError, match="holds no manifest.json"), writer:
        pass
    assert (tmp_path / "target" / "thesis.txt").exists()


def test_a_lock_is_seen_by_others_and_freed_at_the_end(tmp_path):
    path = tmp_path / "new" / ".lock"
    with locked(path) as first, locked(path, wait=False) as second:
        assert (first, second) == (True, False)
    with locked(path, wait=False) as third:
        assert third
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"), locked(tmp_path / "file" / ".lock", StoreError):
        pass


def test_check_file_tells_a_folder_from_a_file_that_is_there(tmp_path):
    check_file(tmp_path / "new.parquet")
    (tmp_path / "old.parquet").write_text("")
    check_file(tmp_path / "old.parquet", overwrite=True)
    with pytest.raises(GraphrecError, match="already exists.*--overwrite"):
        check_file(tmp_path / "old.parquet")
    with pytest.raises(GraphrecError, match="is a folder; give the name of a file"):
        check_file(tmp_path, overwrite=True)


def test_a_file_gets_its_room_or_the_full_disk_is_named(tmp_path, monkeypatch):
    with (tmp_path / "file").open("wb") as file:
        allocate(file, 10_000, tmp_path, GraphrecError)
        assert os.fstat(file.fileno()).st_size == 10_000

        def fail(number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", lambda *_: fail(errno.ENOSPC), raising=False)
        with pytest.raises(GraphrecError, match=f"the disk is full while writing {tmp_path}"):
            allocate(file, 20_000, tmp_path, GraphrecError)
        monkeypatch.setattr(os, "posix_fallocate", lambda *_: fail(errno.EINVAL))  # a file system that cannot
        allocate(file, 20_000, tmp_path, GraphrecError)
        assert os.fstat(file.fileno()).st_size == 20_000
