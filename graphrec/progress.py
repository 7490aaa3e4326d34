"""Progress reporting: long steps take a `Reporter`; the command line passes a live one, the library a silent one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Task:
    """One long step in progress."""

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""

    def show(self, **fields: Any) -> None:
        """Show named values beside the bar, such as `loss=0.31`."""


class Reporter:
    """Receives progress and notes: columns and features that are not used, rejected rows, what was left out.

    This base class is silent; subclass it to draw elsewhere, or give `progress=True` for a `ConsoleReporter`.
    """

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "it") -> Iterator[Task]:
        """Open a step of `total` units (None: unknown) and yield its `Task`."""
        yield Task()

    def note(self, message: str) -> None:
        """Show one line that stays on the screen."""


SILENT = Reporter()


_WIDE = 120  # columns of a terminal that hold everything a bar may show
_TOLD_EVERY = 30.0  # seconds, where there is no terminal to draw on


class ConsoleReporter(Reporter):
    """Draws live bars with rate and time left on standard error, through rich.

    Where that is no terminal, as in a nightly job, a step prints where it ended, and while it runs a line every 30 seconds, whether
    it counts meanwhile or not.
    """

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
                handle = self._bars.add_task(description, **fields)
                with self._told(self._bars):
                    yield _ConsoleTask(self._bars, handle)
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

    @contextmanager
    def _told(self, bars: Any) -> Iterator[None]:
        """Without a terminal, print a line for the innermost step every now and then."""
        if self._console.is_terminal:
            yield
            return
        over = Event()
        teller = Thread(target=self._tell, args=(bars, over), daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()

    def _tell(self, bars: Any, over: Event) -> None:
        while not over.wait(_TOLD_EVERY):
            self.note(_line(bars.tasks[-1]))

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


def _line(task: Any) -> str:
    """Where a task of rich stands: what, how many of how many, rate, times and values, as far as they are known."""
    parts = [f"{shown_time(task.elapsed)} elapsed"]
    if task.completed or task.total is not None:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        rate = f" {task.fields['rate']}" if task.fields["rate"] else ""
        parts.insert(0, f"{task.completed:,.0f}{total} {task.fields['unit']}{rate}")
    if task.time_remaining is not None:
        parts.append(f"{shown_time(task.time_remaining)} left")
    if task.fields["values"]:
        parts.append(task.fields["values"])
    return f"{task.description}: {', '.join(parts)}"


def shown_time(seconds: float) -> str:
    """A duration in the largest unit of which it has two or more: 75 s, 62 min, 5 h, 38 days."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def takes_progress(function: FunctionT) -> FunctionT:
    """Let a public function take `progress=True` for a `ConsoleReporter`, and False or None for silence."""
    place = list(inspect.signature(function).parameters).index("progress")

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if len(args) > place:
            args = (*args[:place], _reporter(args[place]), *args[place + 1 :])
        elif "progress" in kwargs:
            kwargs["progress"] = _reporter(kwargs["progress"])
        return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def _reporter(given: Any) -> Reporter:
    if isinstance(given, Reporter):
        return given
    if given is None or isinstance(given, bool):
        return ConsoleReporter() if given else SILENT
    raise TypeError(f"progress must be True, False or a graphrec.Reporter, got {given!r}; subclass Reporter to draw elsewhere")
