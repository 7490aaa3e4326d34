"""What every verb of the command line shares: options, output, errors and exit codes.

The conventions, for whoever writes a verb:

- One file per verb, `graphrec/cli/<verb>.py`, with one line in `VERBS` of `graphrec/cli/__init__.py`. The file holds
  either a function named like the verb and a tuple `EXAMPLES`, or, for a verb with sub-verbs, `app = verb_group(help)`
  whose commands are `@app.command(epilog=examples(...))`. Help texts are rich markup, where `[x]` disappears.
- A verb module imports only typer and this module at the top; the API, torch, polars and DGL are imported inside the
  function, so that `graphrec --help` stays quick. A test holds it to that.
- A verb parses, calls the API and prints; no logic. Its body is one block:

        EXAMPLES = ("graphrec build --config graphrec.toml", "graphrec build events.csv --store stores/shop --json")

        def build(log: LogArgument, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
            \"\"\"Read a log and build a graph store from it.\"\"\"
            with command(json=json, quiet=quiet, debug=debug) as io:
                import graphrec

                store = graphrec.build(log, progress=io.reporter)
                io.table("Store", ("what", "count"), [("users", store.num_users), ("items", store.num_items)])
                io.result({"store": store.folder, "num_users": store.num_users, "num_items": store.num_items})

- Results go to standard output, everything else (bars, notes, errors) to standard error. With `--json` the standard
  output holds exactly one JSON object, that of `io.result`; `io.table` and `io.line` then print nothing. Every verb
  that prints a result calls `io.result` once. NaN and infinities become null.
- `--quiet` silences bars and notes, never results or errors. `--debug` shows the traceback of a failure.
- Verbs that use randomness take `--seed`.
- Exit codes: 0 done, 1 a `GraphrecError` (its message alone) or an unexpected error, 2 wrong usage, 130 interrupted (Ctrl-C),
  143 ended by SIGTERM, which is treated alike.
"""

from __future__ import annotations

import datetime
import json as json_module
import math
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from graphrec.errors import GraphrecError
from graphrec.memory import ran_out
from graphrec.progress import SILENT, ConsoleReporter, Reporter

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars and no notes.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback when something fails.")]
Config = Annotated[
    Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
    typer.Option("--config", "-c", help="Run file. Default: graphrec.toml, if it is there."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all randomness; same seed, same result.")]

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
KEPT = "what was finished is kept, and no file is half-written"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: systemd, Docker and Kubernetes stop processes that way."""


class Output:
    """Where a verb sends its results and its progress; made by `command`."""

    def __init__(self, json: bool, quiet: bool) -> None:
        self.json = json
        self.quiet = quiet
        self.reporter: Reporter = SILENT if quiet else ConsoleReporter()
        self.kept = KEPT
        """What is left after an interruption, and how to go on; a verb that knows better sets it."""

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table, unless `--json`. Numbers align right; metrics keep four decimals.

        Args:
            title: the line above the table.
            columns: C column names; one that ends in `_id` holds original ids, which are printed as they stand in the log.
            rows: sequences of C values; None shows as an empty cell.
        """
        if self.json:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        rows = [list(row) for row in rows]
        table = Table()
        for position, column in enumerate(columns):
            numeric = any(_is_number(row[position]) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            cells = zip(columns, row, strict=True)
            table.add_row(*(Text(str(value) if name.endswith("_id") else format_cell(value)) for name, value in cells))
        console = Console()
        if not console.is_terminal:  # a pipe or a file: never fold a row to the 80 columns nobody has
            console = Console(width=max(200, console.width))
        console.print(Text(title, "bold"))  # as a table's own title it would be folded to the table's width
        console.print(table)

    def line(self, text: str = "") -> None:
        """Print one line of result on standard output, unless `--json`."""
        if not self.json:
            typer.echo(text)

    def note(self, text: str) -> None:
        """Show one line on standard error, unless `--quiet`."""
        self.reporter.note(text)

    def result(self, payload: Mapping[str, Any]) -> None:
        """With `--json`, print `payload` as the one JSON object on standard output; otherwise do nothing."""
        if self.json:
            typer.echo(json_module.dumps(_plain(payload), ensure_ascii=False, indent=2, allow_nan=False))


@contextmanager
def command(*, json: bool = False, quiet: bool = False, debug: bool = False) -> Iterator[Output]:
    """Run the body of a verb: yield its `Output`, and turn every failure into one message and an exit code.

    Args:
        json: results as one JSON object.
        quiet: no bars, no notes.
        debug: re-raise failures with their traceback.

    Raises:
        typer.Exit: with code 1 after a failure, 130 after Ctrl-C and 143 after SIGTERM.
    """
    io = Output(json, quiet)
    try:
        with _terminable():
            yield io
            sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt as interrupt:
        _complain(f"interrupted; {io.kept}")
        raise typer.Exit(EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader (`| head`) has gone; give the interpreter's final flush somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_FAILURE) from None
    except GraphrecError as error:
        if debug:
            raise
        _complain(f"error: {error}")
        raise typer.Exit(EXIT_FAILURE) from None
    except Exception as error:
        if debug:
            raise
        if ran_out(error):
            said = (str(error) or type(error).__name__).splitlines()[0]
            _complain(
                f"error: out of memory ({said}); set a smaller rank, embedding_dim or batch_size, whichever the model has, or take a "
                "machine with more memory; --debug shows where"
            )
            raise typer.Exit(EXIT_FAILURE) from None
        _complain(f"unexpected error: {type(error).__name__}: {error}\nRun the command with --debug to see where.")
        raise typer.Exit(EXIT_FAILURE) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, where nobody else has a handler for it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def verb_group(help: str) -> typer.Typer:
    """Return the typer app of a verb that has sub-verbs (`graphrec graph info`)."""
    return typer.Typer(
        help=help, no_args_is_help=True, rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False
    )


def examples(*lines: str) -> str:
    """Return the end of a `--help` page: the title "Examples" and one line per example."""
    return "\n\n".join(["[bold]Examples[/bold]", *("  " + line.replace("[", "\\[") for line in lines)])


def format_cell(value: object) -> str:
    """Return `value` as the text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{round(value, 4) + 0.0:.4f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Return `value` made of the types JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path | datetime.date):
        return str(value)
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    return value


def _complain(message: str) -> None:
    typer.echo(message, err=True)
