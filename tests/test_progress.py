"""Bars of long steps: every number is whole, whatever the width of the terminal."""

from __future__ import annotations

import inspect
import io
import threading

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


class Clock:
    """Takes the place of the waiting between two lines: `pass_by(seconds)` returns once what is due by then is printed."""

    def __init__(self) -> None:
        self.now, self._due, self._over = 0.0, None, False
        self._changed = threading.Condition()

    def wait(self, timeout: float) -> bool:
        with self._changed:
            self._due = self.now + timeout
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or self.now >= self._due)
            return self._over

    def set(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def pass_by(self, seconds: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._due is not None, timeout=10)
            self.now += seconds
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._due > self.now, timeout=10)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("graphrec.progress.Event", lambda: made)
    return made


def shown_on(clock: Clock, terminal: bool) -> tuple[ConsoleReporter, io.StringIO]:
    reporter, file = ConsoleReporter(), io.StringIO()
    reporter._console = Console(file=file, width=100, force_terminal=terminal, color_system=None, get_time=lambda: clock.now)
    return reporter, file


def test_a_long_step_without_a_terminal_tells_every_thirty_seconds_where_it_is(clock):
    reporter, file = shown_on(clock, terminal=False)
    with reporter.task("Training", total=4000, unit="steps") as task:
        task.advance(0)
        clock.pass_by(25)
        assert file.getvalue() == ""
        task.advance(1000)
        task.show(epoch="1/4", loss=0.5)
        clock.pass_by(15)  # the line of 30 seconds is late
        first = file.getvalue()
        assert first == "Training: 1,000/4,000 steps (40.0/s), 40 s elapsed, 75 s left, epoch=1/4 loss=0.5\n"
        clock.pass_by(25)
        assert file.getvalue() == first
        clock.pass_by(10)
        assert file.getvalue().count("\n") == 2
    assert file.getvalue().splitlines()[2].startswith("Training 1000/4000 steps")


def test_a_long_step_that_counts_nothing_is_named(clock):
    reporter, file = shown_on(clock, terminal=False)
    with reporter.task("Reading the log") as task:
        task.show(step="events")
        clock.pass_by(3700)
        assert file.getvalue() == "Reading the log: 62 min elapsed, step=events\n"


def test_short_steps_get_no_lines(clock):
    reporter, file = shown_on(clock, terminal=False)
    with reporter.task("short", total=1, unit="rows") as task:
        task.advance()
    assert [line.rstrip() for line in file.getvalue().splitlines()] == ["short 1/1 rows  00:00"]


def test_a_terminal_has_its_bar_and_no_lines(clock):
    reporter, _ = shown_on(clock, terminal=True)
    with reporter.task("long", total=1):
        pass
    assert clock._due is None  # nobody waits for the next line


def test_a_step_that_fails_leaves_no_thread(clock):
    reporter, _ = shown_on(clock, terminal=False)
    with pytest.raises(ZeroDivisionError), reporter.task("step", total=2):
        1 / 0  # noqa: B018
    assert not [thread for thread in threading.enumerate() if "_tell" in thread.name]


def test_a_step_within_a_step_has_a_line_until_it_is_done():
    reporter = ConsoleReporter()
    reporter._console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with reporter.task("Training lightgcn", total=2, unit="steps") as outer:
        outer.advance()
        with reporter.task("Ranking users", total=5, unit="users") as first:
            first.advance(5)
        with reporter.task("Ranking users", total=5, unit="users") as second:
            second.advance(3)
            shown = [(bar.description, bar.completed, bar.fields["unit"]) for bar in reporter._bars.tasks]
            assert shown == [("Training lightgcn", 1, "steps"), ("Ranking users", 3, "users")]
        outer.advance()
        assert [bar.completed for bar in reporter._bars.tasks] == [2]
    assert reporter._bars is None
    with pytest.raises(KeyError), reporter.task("Ranking users", total=5, unit="users"):
        raise KeyError
    assert reporter._bars is None
