"""Progress reporting: long steps take a `Reporter`; the command line passes a live one, the library a silent one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Task:
    """One long step in progress."""

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""

    def show(self, **fields: Any) -> None:
        """Show named values beside the bar, such as `loss=0.31`."""


class Reporter:
    """Receives progress. This base class is silent; subclass it to draw elsewhere."""

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "it") -> Iterator[Task]:
        """Open a step of `total` units (None: unknown) and yield its `Task`."""
        yield Task()

    def note(self, message: str) -> None:
        """Show one line that stays on the screen."""


SILENT = Reporter()


_WIDE = 120  # columns of a terminal that hold everything a bar may show


class ConsoleReporter(Reporter):
    """Draws live bars with rate and time left on standard error, through rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bars: Any = None  # of the step under way

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "it") -> Iterator[Task]:
        fields = {"total": total, "unit": unit, "rate": "", "values": ""}
        if self._bars is not None:  # a step within a step has a line of its own, until it is done
            handle = self._bars.add_task(description, **fields)
            try:
                yield _ConsoleTask(self._bars, handle)
            finally:
                self._bars.remove_task(handle)
            return
        try:
            with self._new_bars() as self._bars:
                yield _ConsoleTask(self._bars, self._bars.add_task(description, **fields))
        finally:
            self._bars = None

    def _new_bars(self) -> Any:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        narrow = self._console.width < _WIDE
        left = TimeRemainingColumn(compact=True, elapsed_when_finished=narrow)
        middle = [MofNCompleteColumn(), TextColumn("{task.fields[unit]} {task.fields[rate]}")]
        if narrow:  # a bar would leave no room for the numbers
            columns = [TextColumn("{task.description}"), *middle, left]
        else:
            times = [TimeElapsedColumn(), TextColumn("elapsed,"), left, TextColumn("left")]
            columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), *middle, *times]
        columns.append(TextColumn("{task.fields[values]}"))
        return Progress(*columns, console=self._console, transient=False)

    def note(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)


class _ConsoleTask(Task):
    def __init__(self, progress: Any, handle: Any) -> None:
        self._progress, self._handle = progress, handle

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._handle, amount)
        speed = next(task.speed for task in self._progress.tasks if task.id == self._handle)
        if speed is not None:
            self._progress.update(self._handle, rate=f"({speed:,.1f}/s)")

    def show(self, **fields: Any) -> None:
        text = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
        self._progress.update(self._handle, values=text)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
