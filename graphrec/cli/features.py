"""`graphrec features [STORE]`: turn texts and media files of users and items into vectors, and write them into a store."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from graphrec.cli.output import Config, Debug, Json, Output, Quiet, command

EXAMPLES = (
    "graphrec features stores/demo --set features.item.text.encoder=wordllama",
    "graphrec features --config graphrec.toml",
    "graphrec features stores/demo --set 'features.user.taste.template=\"{history}\"'",
)


def features(
    store: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(help="A graph store. Default: \\[paths] store of the run file."),
    ] = None,
    config: Config = None,
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key of the run file. May be repeated."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compute the features of the run file's \\[features] section for a store that is already built.

    `graphrec build` does the same at its end. Texts that were encoded before are not encoded again.
    """
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.config import load_config
        from graphrec.errors import ConfigError
        from graphrec.features.write import add_features, as_rows
        from graphrec.graph.store import GraphStore

        chosen = load_config(config, assignments or ())
        wanted = chosen.features
        if not (wanted.item or wanted.user or wanted.media):
            raise ConfigError(
                "no feature is named; add a section such as [features.item.text] to the run file, "
                "or give --set features.item.text.encoder=wordllama"
            )
        opened = GraphStore.open(store or chosen.paths.store)
        rows = as_rows(add_features(opened, wanted, io.reporter))
        show_features(io, rows)
        io.line(f"written to {opened.folder}/features; a model takes them with: inputs = {{name = ..., item = [...]}}")
        io.result({"store": opened.folder, "features": rows})


def show_features(io: Output, rows: list[dict[str, Any]]) -> None:
    """Print what was written, a line per feature; nothing where there is none."""
    if rows:
        io.table("Features", tuple(rows[0]), [tuple(row.values()) for row in rows])
