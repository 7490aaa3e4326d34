"""`graphrec init`: write a commented run file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphrec.cli.output import Debug, Json, Output, Quiet, command
from graphrec.errors import shell_word

EXAMPLES = (
    "graphrec init",
    "graphrec init --log events.csv --model graph-filter",
    "graphrec init shop.toml --log 'logs/*.parquet' --name shop",
)


def init(
    path: Annotated[Path, typer.Argument(help="The run file to write.")] = Path("graphrec.toml"),
    log: Annotated[str | None, typer.Option(help="The log to read; default: the demo log.")] = None,
    model: Annotated[str, typer.Option(help="The model whose settings the file lists.")] = "lightgcn",
    name: Annotated[str, typer.Option(help="Name of the store, run and export folders.")] = "demo",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run file that is already there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a run file with every setting, its default and what it means."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.config_text import write_run_file

        written = write_run_file(path, log=log, model=model, name=name, overwrite=overwrite)
        config = "" if path == Path("graphrec.toml") else f" --config {shell_word(path)}"
        io.line(f"wrote {path}: reads {written['log']['path']}, trains {model}")
        _note_missing(io, written["log"]["path"], path)
        io.line(f"next: graphrec build{config}, then: graphrec train{config}")
        io.result({"file": path, "model": model, **written})


def _note_missing(io: Output, log: str, path: Path) -> None:
    from graphrec.errors import LogError
    from graphrec.logs.files import find_files

    try:
        if "://" not in log:
            find_files([log])
    except LogError as problem:
        io.note(f"{problem}; set path under [log] in {path} first")
