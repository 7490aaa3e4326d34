"""What a killed reading left behind goes when the next log is read; what is in use stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from graphrec.logs.read import read_log
from graphrec.logs.spool import Spool


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_only_what_a_dead_process_left_is_removed(temporary, tmp_path):
    script = "import os; from graphrec.logs.spool import Spool; spool = Spool(); open(spool.name + '/copy', 'w'); os._exit(1)"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(temporary)}, check=False)
    (dead,) = temporary.iterdir()
    assert (dead / "copy").exists()
    in_use = Spool()
    assert not dead.exists()
    (temporary / "graphrec-log-without-lock").mkdir()
    (temporary / "others").mkdir()
    (temporary / "others" / "lock").touch()
    (temporary / "graphrec-log-linked").symlink_to(temporary / "others")
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,2\n")
    log = read_log(tmp_path / "log.csv")
    names = {Path(in_use.name).name, Path(log.cache.name).name, "graphrec-log-without-lock", "others", "graphrec-log-linked"}
    assert {entry.name for entry in temporary.iterdir()} == names
    in_use.cleanup()
    assert not Path(in_use.name).exists() and Path(log.cache.name).exists()


def test_without_locks_nothing_is_taken_for_stale(temporary, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr("graphrec.logs.spool.fcntl.flock", refuse)
    first, second = Spool(), Spool()
    assert Path(first.name).exists() and Path(second.name).exists()
    first.cleanup()
    second.cleanup()
