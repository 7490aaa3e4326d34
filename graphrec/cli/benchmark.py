"""`graphrec benchmark --data DIR --models A,B`: models side by side on data sets, over seeds, with paired tests."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from graphrec.cli.output import EXIT_FAILURE, Debug, Json, Quiet, Seed, command

EXAMPLES = (
    "graphrec benchmark --data data/gowalla --models popularity,graph-filter,lightgcn --seeds 3 --out benchmarks/gowalla",
    "graphrec benchmark --data stores/a --data stores/b --models runs/tune/best.toml,graph-filter",
    "graphrec benchmark --data data/gowalla --models item-knn,lightgcn --validate",
    "graphrec benchmark --data data/gowalla --models 'sum:graph-filter+4*lightgcn' --k 10,20 --metrics recall,ndcg",
    "graphrec benchmark --data stores/music --models social-lightgcn --ablate relations --seeds 3",
)


def benchmark(
    data: Annotated[
        list[str],
        typer.Option("--data", "-d", help="A graph store, or a folder with train.txt and test.txt. May be repeated."),
    ],
    models: Annotated[
        str,
        typer.Option(
            "--models", "-m", help="Names or run files, with commas between; 4*A is the mean of four of A, sum:A+B adds the scores of two."
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Keeps cells and tables; finished cells are not measured again.")
    ] = "benchmarks/default",
    seeds: Annotated[int, typer.Option("--seeds", "-n", min=1, help="How many seeds each model is run with.")] = 1,
    k: Annotated[str, typer.Option("--k", help="List lengths, with commas between.")] = "20",
    metrics: Annotated[str, typer.Option("--metrics", help="Names of metrics, with commas between.")] = "recall,ndcg",
    validate: Annotated[
        bool,
        typer.Option("--validate", help="Measure on validation items, not for settings tuned on them; the test is not looked at."),
    ] = False,
    device: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Option("--device", help="Where to train: auto, cpu, cuda or cuda:N."),
    ] = None,
    ablate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--ablate", help="relations: also without each edge type and each feature, tested against the whole."),
    ] = None,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure models on data sets, each cell in a fresh process, and write CSV, Markdown and one HTML page.

    A cell that fails is named in the tables and the others go on; the exit code is then 1. --seed is the first of the seeds.
    """
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.api import benchmark as run_benchmark
        from graphrec.benchmarking.report import left_out_notes, table
        from graphrec.errors import ConfigError

        try:
            lengths = [int(length) for length in k.split(",")]
        except ValueError:
            raise ConfigError(f"--k takes whole numbers with commas between, such as 10,20, got {k!r}") from None
        io.kept = "finished cells are kept, and the same command goes on"
        result = run_benchmark(
            [one for given in data for one in given.split(",")],
            models,
            out,
            seeds=seeds,
            first_seed=seed or 0,
            k=lengths,
            metrics=[name.strip() for name in metrics.split(",")],
            validate=validate,
            device=device,
            ablate=ablate,
            progress=io.reporter,
        )
        io.table("Benchmark", *table(result.rows))
        for note in left_out_notes(result.cells):
            io.line(note)
        if result.comparisons:
            io.table("Per user, paired" if ablate is None else "What leaving it out loses, per user, paired", *result.tested)
        if ablate is not None and seeds == 1:
            io.note("one seed: the tests know how users differ, not what another start of the training gives; --seeds 3 does")
        if result.not_shown:
            io.line(
                f"{sum(result.not_shown.values())} finished cells in {result.folder} were not asked for and are in no table: "
                f"{', '.join(result.not_shown)}; name them again to have them beside these"
            )
        if result.files:
            io.line(f"written to {', '.join(str(path) for path in result.files.values())}")
        io.result(result.to_dict())
        if result.failures:
            raise typer.Exit(EXIT_FAILURE)
