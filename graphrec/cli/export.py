"""`graphrec export RUN`: write a run's vectors with original ids, in the formats that retrieval services read."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from graphrec.cli.output import Debug, Json, Quiet, command
from graphrec.retrieval import EXPORTERS

EXAMPLES = (
    "graphrec export runs/demo --out exports/demo",
    "graphrec export runs/demo --out exports/demo --format parquet --format faiss --index hnsw",
)


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or a model folder written by save.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The folder to write.")] = "exports/latest",
    format: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Option("--format", "-f", help=f"May be repeated: {', '.join(EXPORTERS)}. Default: all of them."),
    ] = None,
    index: Annotated[str, typer.Option("--index", help="FAISS index of the items: flat, hnsw or ivf.")] = "flat",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is already there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a run's user and item vectors, with their original ids, for retrieval elsewhere."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.retrieval.export import export as write_export

        done = write_export(run, out, format or None, index, overwrite=overwrite, progress=io.reporter)
        io.table(
            f"{done.manifest['model']}: {done.manifest['dim']} dimensions, inner product",
            ("file", "bytes"),
            [(name, file["bytes"]) for name, file in done.manifest["files"].items()],
        )
        io.line(f"written to {done.folder}; README.txt there shows how to read each format")
        io.result({"folder": done.folder, **done.manifest})
