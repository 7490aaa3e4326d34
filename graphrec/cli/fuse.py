"""`graphrec fuse RUN_A RUN_B ...`: several runs as one, their scores added up."""

from __future__ import annotations

from typing import Annotated

import typer

from graphrec.cli.output import Debug, Json, Quiet, Seed, command
from graphrec.errors import shell_word

EXAMPLES = (
    "graphrec fuse runs/seed-0 runs/seed-1 runs/seed-2 --out runs/mean",
    "graphrec fuse runs/lightgcn runs/graph-filter --weights valid --out runs/sum",
    "graphrec fuse runs/a runs/b --weights 2,1 --out runs/sum",
)


def fuse(
    runs: Annotated[list[str], typer.Argument(help="Two run folders or more, trained on the same store.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The run folder to write.")],
    weights: Annotated[
        str,
        typer.Option("--weights", "-w", help="equal, valid (chosen on the validation split), or numbers such as 2,1,1."),
    ] = "equal",
    metric: Annotated[str, typer.Option("--metric", help="What --weights valid chooses by.")] = "ndcg@20",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Add the scores of finished runs up, each in units of its own spread; the result is a run as every other."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.errors import ConfigError
        from graphrec.tuning.fuse import fuse as fuse_runs

        given = weights.strip()
        if given not in ("equal", "valid"):
            try:
                given = [float(part) for part in given.split(",")]
            except ValueError:
                raise ConfigError(f'--weights must be equal, valid or numbers such as 2,1, got "{weights}"') from None
        run = fuse_runs(runs, out, given, metric=metric, seed=seed or 0, overwrite=overwrite, progress=io.reporter)
        found = run.model.settings.weights
        io.table("A sum of runs", ("run", "model", "weight"), [
            (folder, member["name"], weight)
            for folder, member, weight in zip(runs, run.model.settings.members, found, strict=True)
        ])  # fmt: skip
        io.line(f"written to {run.folder}; next: graphrec evaluate {shell_word(run.folder)}")
        io.result({"run": str(run.folder), "model": run.model.name, "runs": runs, "weights": found})
