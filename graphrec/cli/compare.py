"""`graphrec compare RUN_A RUN_B`: is one run better than the other, or were the users lucky?"""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from graphrec.cli.output import Debug, Json, Quiet, Seed, command

EXAMPLES = ("graphrec compare runs/popularity runs/lightgcn", "graphrec compare runs/a runs/b --metrics ndcg@20 --json")


def compare(
    run_a: Annotated[str, typer.Argument(help="A run folder.")],
    run_b: Annotated[str, typer.Argument(help="Another run folder, trained on the same store.")],
    split: Annotated[str, typer.Option("--split", help="test or valid.")] = "test",
    metrics: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Option("--metrics", "-m", help="Such as recall@20,ndcg@20; default: all that both runs have."),
    ] = None,
    resamples: Annotated[int, typer.Option("--resamples", help="Random draws of each test, at least 100.")] = 10_000,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two runs user by user with paired tests; runs that were not evaluated yet are evaluated first."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.evaluation.compare import compare as compare_runs
        from graphrec.evaluation.significance import shown_p

        names = None if metrics is None else [name.strip() for name in metrics.split(",")]
        result = compare_runs(run_a, run_b, split, names, resamples=resamples, seed=seed or 0, progress=io.reporter)
        io.line(f"A = {result.a}, B = {result.b}; split {result.split}, {result.users:,} users")
        io.table(
            "Per user, paired",
            ("metric", "A", "B", "B - A", "low", "high", "p permutation", "p (Holm)", "p t-test", "better"),
            [
                (row.metric, row.a, row.b, row.difference, row.low, row.high,
                 *map(shown_p, (row.p_permutation, result.p_holm[row.metric], row.p_t)), row.better)
                for row in result.differences
            ],
        )
        if result.totals:
            totals = [(name, a, b, b - a) for name, (a, b) in result.totals.items()]
            io.table("Over all lists", ("metric", "A", "B", "B - A"), totals)
        for note in result.notes():
            io.line(note)
        io.line(
            f"low and high bound the 95% {result.interval} interval of B - A; better: permutation test at p < 0.05, each metric by "
            f"itself; p (Holm) is adjusted for the {len(result.differences)} metrics shown"
        )
        io.result(result.to_dict())
