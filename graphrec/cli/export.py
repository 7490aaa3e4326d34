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
    run: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(help="A run folder, or a model folder written by save. Default: \\[paths] run of the run file."),
    ] = None,
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--out", "-o", help="The folder to write; default: the run file's \\[paths] export."),
    ] = None,
    format: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--format", "-f", help=f"May be repeated: {', '.join(EXPORTERS)}. Default: all of them, with the same vectors."),
    ] = None,
    index: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--index", help="FAISS index of the items: flat (exact, default), hnsw or ivf."),
    ] = None,
    config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--config", "-c", help="Run file whose \\[paths] and \\[export] sections to use."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is already there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a run's user and item vectors, with their original ids, for retrieval elsewhere."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.config import load_config
        from graphrec.retrieval.export import export as write_export

        file = load_config(config)
        done = write_export(
            run or file.paths.run, out or file.paths.export, format or None, index,
            settings=file.export, overwrite=overwrite, progress=io.reporter,
        )  # fmt: skip
        io.table(
            f"{done.manifest['model']}: {done.manifest['dim']} dimensions, inner product",
            ("file", "bytes"),
            [(name, file["bytes"]) for name, file in done.manifest["files"].items()],
        )
        size = sum(file["bytes"] for file in done.manifest["files"].values()) / 1e6
        several = len(done.manifest["formats"]) > 1
        each = f" in {len(done.manifest['formats'])} formats, each whole in itself (--format writes fewer)" if several else ""
        io.line(f"{size:,.1f} MB{each} written to {done.folder}; README.txt there shows how to read each format")
        io.result({"folder": done.folder, **done.manifest})
