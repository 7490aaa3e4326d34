"""`graphrec evaluate RUN`: rank the full catalogue for every test user and measure the lists."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from graphrec.cli.output import Debug, Json, Quiet, Seed, command
from graphrec.evaluation import METRICS

EXAMPLES = (
    "graphrec evaluate runs/demo",
    "graphrec evaluate runs/demo --k 10,20,50 --report report.html",
    "graphrec evaluate runs/demo --metrics recall,ndcg,coverage --split valid --json",
)


def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    store: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Option("--store", help="The graph store; default: the one the run was trained on."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="test or valid.")] = "test",
    k: Annotated[Optional[str], typer.Option("--k", "-k", help="List lengths, such as 10,20.")] = None,  # noqa: UP045
    metrics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--metrics", "-m", help=f"Names, separated by commas: {', '.join(METRICS)}."),
    ] = None,
    config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--config", "-c", help="Run file whose \\[evaluate] section to use."),
    ] = None,
    report: Annotated[Optional[str], typer.Option("--report", help="Also write one HTML file with plots.")] = None,  # noqa: UP045
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure a run on held-out interactions; the result is also written into the run folder."""
    lengths = _numbers(k)
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.config import load_config
        from graphrec.evaluation.evaluate import evaluate as evaluate_run

        names = None if metrics is None else [name.strip() for name in metrics.split(",")]
        settings = load_config(config).evaluate
        result = evaluate_run(run, store, split, lengths, names, settings=settings, seed=seed, progress=io.reporter)
        title = f"{result.model}, split {split}, {result.counts['users']:,} users, {result.counts['catalogue_items']:,} items"
        io.table(title, ("metric", "value", "low", "high"), result.rows())
        io.line(f"low and high bound the {result.settings['confidence']:.0%} bootstrap interval; written to {run}")
        if report is not None:
            from graphrec.evaluation.report import write_report

            io.line(f"report: {write_report(report, result, run)}")
        io.result({**result.to_dict(), "run": run, "report": report})


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"give whole numbers separated by commas, got {text!r}", param_hint="--k") from None
