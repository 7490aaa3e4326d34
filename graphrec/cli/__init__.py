"""The command line: `graphrec VERB ...`. One file per verb; this table names them, in the order a newcomer meets them.

The conventions that every verb follows are written at the top of `graphrec/cli/output.py`.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from graphrec.cli.output import examples

VERBS = {
    "init": "graphrec.cli.init",
    "doctor": "graphrec.cli.doctor",
    "datasets": "graphrec.cli.datasets",
    "build": "graphrec.cli.build",
    "graph": "graphrec.cli.graph",
    "features": "graphrec.cli.features",
    "train": "graphrec.cli.train",
    "tune": "graphrec.cli.tune",
    "evaluate": "graphrec.cli.evaluate",
    "compare": "graphrec.cli.compare",
    "fuse": "graphrec.cli.fuse",
    "benchmark": "graphrec.cli.benchmark",
    "recommend": "graphrec.cli.recommend",
    "similar": "graphrec.cli.similar",
    "export": "graphrec.cli.export",
    "link": "graphrec.cli.link",
    "llm": "graphrec.cli.llm",
}


class VerbGroup(typer.core.TyperGroup):
    """A command group that imports a verb's module only when the verb is run or its help is shown."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order of `VERBS`."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of the verb `cmd_name`, or None when there is no such verb."""
        if cmd_name not in self.commands and cmd_name in VERBS:
            self.commands[cmd_name] = load_verb(cmd_name)
        return self.commands.get(cmd_name)


def load_verb(verb: str) -> Any:
    """Import the module of `verb` and return its command."""
    module = importlib.import_module(VERBS[verb])
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
        app.command(name=verb, epilog=examples(*module.EXAMPLES))(getattr(module, verb))
    loaded = typer.main.get_command(app)
    loaded.name = verb
    return loaded


app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=examples(
        "graphrec init && graphrec build && graphrec train", "graphrec evaluate runs/demo", "graphrec VERB --help"
    ),
)


def _print_version(value: bool) -> None:
    if value:
        from graphrec import __version__

        typer.echo(f"graphrec {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From interaction logs to graphs, embeddings and recommendations."""


def main() -> None:
    """Entry point of the `graphrec` command."""
    app()
