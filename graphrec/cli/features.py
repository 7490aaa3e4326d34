"""`graphrec features [STORE]`: turn texts and media files of users and items into vectors, and write them into a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from graphrec.cli.output import Config, Debug, Json, Output, Quiet, command

if TYPE_CHECKING:
    from graphrec.features.settings import FeaturesSettings
    from graphrec.graph.store import GraphStore

EXAMPLES = (
    "graphrec features stores/demo --set features.item.text.encoder=wordllama",
    "graphrec features --config graphrec.toml   # what its sections [features.item.NAME], .user. and .media. say",
    "graphrec features stores/demo --set 'features.user.taste.template=\"{history}\"'",
    "graphrec features stores/demo --config graphrec.toml --finetune text   # its encoder names an adapter to train",
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
    finetune: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--finetune",
            metavar="NAME",
            help="First fit the encoder of \\[features.item.NAME] to the training events, into the folder of its adapter.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is already there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compute the features of the run file's \\[features] section for a store that is already built.

    `graphrec build` does the same at its end. Texts that were encoded before are not encoded again.
    """
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.config import check_assigned, load_config
        from graphrec.errors import ConfigError
        from graphrec.features.nodes import as_inputs
        from graphrec.features.write import add_features, as_rows
        from graphrec.graph.store import GraphStore

        chosen = load_config(config, assignments or ())
        check_assigned(assignments or (), ("paths", "features"), "features")
        wanted = chosen.features
        if not (wanted.item or wanted.user or wanted.media):
            raise ConfigError(
                "no feature is named; add a section such as [features.item.text] to the run file, "
                "or give --set features.item.text.encoder=wordllama"
            )
        opened = GraphStore.open(store or chosen.paths.store)
        payload: dict[str, Any] = {"store": opened.folder}
        if finetune is not None:
            payload["finetuned"] = _finetune(io, opened, wanted, finetune, overwrite)
        rows = as_rows(add_features(opened, wanted, io.reporter))
        show_features(io, rows)
        has = {ntype: opened.features(ntype) for ntype in ("item", "user") if opened.features(ntype)}
        io.line(f"written to {opened.folder}/features; a model takes them with: {as_inputs(has)}")
        io.result(payload | {"features": rows})


def _finetune(io: Output, store: GraphStore, wanted: FeaturesSettings, name: str, overwrite: bool) -> dict[str, Any]:
    """Train the adapter of one text feature of items, say what came of it, and return that."""
    from dataclasses import asdict

    from graphrec.errors import ConfigError, nearest
    from graphrec.features.finetune import finetune

    if name not in wanted.item:
        raise ConfigError(
            f"--finetune: there is no feature of item texts {name!r}; there is {', '.join(wanted.item) or 'none'}"
            f"{nearest(name, wanted.item)}"
        )
    found = finetune(store, name, wanted.item[name], wanted.finetune, overwrite=overwrite, progress=io.reporter)
    columns = ("pass", "validation loss", "found first")
    rows = [(number, *values) for number, values in enumerate(zip(found.losses, found.accuracies, strict=True))]
    io.table(f"Fine-tuning of {name}: {found.parameters:,} parameters, {found.pairs:,} pairs a pass", columns, rows)
    io.line(f"the adapter of pass {found.best_epoch} is written to {found.folder}")
    return asdict(found)


def show_features(io: Output, rows: list[dict[str, Any]]) -> None:
    """Print what was written, a line per feature; nothing where there is none."""
    if rows:
        io.table("Features", tuple(rows[0]), [tuple(row.values()) for row in rows])
