"""`graphrec export`: what it says of what it has written."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.models import create
from tests.models.conftest import make_store


@pytest.mark.parametrize(("formats", "of_formats"), [(("npy", "parquet"), " in 2 formats, each whole in itself"), (("npy",), "")])
def test_the_size_of_what_is_written_is_told(tmp_path, formats, of_formats):
    pairs = [(user, item) for user in range(3000) for item in range(20) if (user + item) % 3]
    create("graph-filter", rank=16).fit(make_store(tmp_path / "store", pairs, [(0, 0)])).save(tmp_path / "model")
    options = [word for name in formats for word in ("--format", name)]
    done = CliRunner().invoke(app, ["export", str(tmp_path / "model"), "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "manifest.json")
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"{size / 1e6:,.1f} MB{of_formats}") and ("formats" in last) == bool(of_formats)
    assert len(json.loads((tmp_path / "out" / "manifest.json").read_text())["formats"]) == len(formats)
