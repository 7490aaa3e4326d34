"""Bars of long steps: every number is whole, whatever the width of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from graphrec.progress import ConsoleReporter


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
