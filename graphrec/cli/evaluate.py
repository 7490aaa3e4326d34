"""`graphrec evaluate RUN`: rank the full catalogue for every test user and measure the lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from graphrec.cli.output import Debug, Json, Output, Quiet, Seed, command
from graphrec.evaluation import METRICS

if TYPE_CHECKING:
    from graphrec.training.run import Run

EXAMPLES = (
    "graphrec evaluate runs/demo",
    "graphrec evaluate runs/demo --k 10,20,50 --report report.html",
    "graphrec evaluate runs/demo --metrics recall,ndcg,coverage --split valid --json",
    "graphrec evaluate runs/social --friends --k 10,20",
)


def evaluate(
    run: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(help="A run folder. Default: \\[paths] run of the run file."),
    ] = None,
    store: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--store", help="The graph store; default: the one the run was trained on."),
    ] = None,
    split: Annotated[Optional[str], typer.Option("--split", help="test or valid; default: test.")] = None,  # noqa: UP045
    k: Annotated[Optional[str], typer.Option("--k", "-k", help="List lengths, such as 10,20.")] = None,  # noqa: UP045
    metrics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--metrics", "-m", help=f"Names, separated by commas: {', '.join(METRICS)}."),
    ] = None,
    config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--config", "-c", help="Run file whose \\[paths] and \\[evaluate] sections to use."),
    ] = None,
    report: Annotated[Optional[str], typer.Option("--report", help="Also write one HTML file with plots.")] = None,  # noqa: UP045
    friends: Annotated[
        bool, typer.Option("--friends", help="Rank users for users; measured on links that the build held out.")
    ] = False,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure a run on held-out interactions, or on held-out links; the result is also written into the run folder."""
    lengths = _numbers(k)
    others = {"--split": split, "--metrics": metrics, "--report": report, "--seed": seed}
    if friends and (given := [name for name, value in others.items() if value is not None]):
        raise typer.BadParameter(f"it measures recall and ndcg of held-out links; leave {given[0]} out", param_hint="--friends")
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.config import load_config
        from graphrec.evaluation.evaluate import evaluate as evaluate_run
        from graphrec.training.run import Run

        names = None if metrics is None else [name.strip() for name in metrics.split(",")]
        file = load_config(config)
        run, settings = run or file.paths.run, file.evaluate
        if friends:
            _evaluate_friends(io, run, store, lengths or settings.k)
            return
        if report is not None:
            from graphrec.evaluation.report import check_report, write_report

            check_report(report)  # before the work
        split, opened = split or "test", Run.load(run)
        result = evaluate_run(opened, store, split, lengths, names, settings=settings, seed=seed, progress=io.reporter)
        title = f"{result.model}, split {split}, {result.counts['users']:,} users, {result.counts['catalogue_items']:,} items"
        io.table(title, ("metric", "value", "low", "high"), result.rows())
        for note in result.notes():
            io.line(note)
        _say_where(io, opened, run, f"low and high bound the {result.settings['confidence']:.0%} {result.interval} interval")
        if report is not None:
            io.line(f"report: {write_report(report, result, run)}")
        io.result({**result.to_dict(), "run": run, "report": report})


def _say_where(io: Output, run: Run, where: str, *said: str) -> None:
    """One line of what is said and where the result was written; where it was not, a note has told why, unless notes are silent."""
    from graphrec.evaluation.measured import why_not_kept

    reason = why_not_kept(run)
    parts = [*said, f"written to {where}"] if reason is None else [*said, *([reason] if io.quiet else [])]
    if parts:
        io.line("; ".join(parts))


def _evaluate_friends(io: Output, run: str, store: str | None, lengths: Sequence[int]) -> None:
    from graphrec.evaluation.friends import evaluate_friends
    from graphrec.training.place import FRIENDS
    from graphrec.training.run import Run

    opened = Run.load(run)
    found = evaluate_friends(opened, store, k=lengths, progress=io.reporter)
    title = f"friends of {found['users']:,} users, {found['links']:,} held-out links out of them"
    io.table(title, ("metric", "value"), [(name, value) for name, value in found.items() if "@" in name])
    _say_where(io, opened, f"{run}/{FRIENDS}")
    io.result({"run": run, **found})


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"give whole numbers separated by commas, got {text!r}", param_hint="--k") from None
