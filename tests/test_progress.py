"""Bars of long steps: every number is whole, whatever the width of the terminal."""

from __future__ import annotations

import inspect
import io

import pytest
from rich.console import Console

from graphrec.logs.read import read_log
from graphrec.progress import SILENT, ConsoleReporter, Reporter, takes_progress
from tests.notes import Notes


@pytest.mark.parametrize(("width", "has_bar"), [(80, False), (120, True)])
def test_numbers_are_not_cut_short(width, has_bar):
    reporter = ConsoleReporter()
    reporter._console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with reporter.task("Training lightgcn", total=1600, unit="steps") as task:
        for _ in range(1600):
            task.advance()
        task.show(epoch="60/60", loss=0.01683)
    shown = reporter._console.file.getvalue()
    last = [line for line in shown.splitlines() if "steps" in line][-1]
    assert "1600/1600 steps (" in last and "epoch=60/60 loss=0.01683" in last and "…" not in last
    assert ("━" in last) == has_bar == ("elapsed," in last)


@takes_progress
def told(name: str, progress: Reporter | bool = SILENT, *, k: int = 1) -> Reporter:
    """Say it."""
    progress.note(f"{name} {k}")
    return progress


def test_true_is_the_console_and_false_is_silence(capsys):
    assert isinstance(told("keyword", progress=True), ConsoleReporter) and isinstance(told("placed", True, k=2), ConsoleReporter)
    assert capsys.readouterr().err.split("\n") == ["keyword 1", "placed 2", ""]
    notes = Notes()
    assert told("own", progress=notes) is notes and notes.lines == ["own 1"]
    assert [told("nothing", *given) for given in ((), (False,), (None,))] == [SILENT] * 3
    assert capsys.readouterr().err == ""
    with pytest.raises(TypeError, match="progress must be True, False or a graphrec.Reporter, got 'loud'; subclass Reporter"):
        told("loudly", "loud")
    assert inspect.signature(told).parameters["k"].default == 1 and told.__doc__ == "Say it."


def test_notes_that_nobody_hears_are_heard_with_true(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("user,item,colour\n" + "".join(f"u{n},i{n},red\n" for n in range(40)) + ",i1,red\n")
    read_log(tmp_path / "log.csv", rejected=tmp_path / "bad.parquet")
    assert capsys.readouterr().err == ""
    read_log(tmp_path / "log.csv", rejected=tmp_path / "bad.parquet", progress=True)
    said = capsys.readouterr().err
    assert "not used: colour" in said and "1 of 41 rows rejected" in said
