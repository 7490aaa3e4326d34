"""`graphrec tune [STORE]`: search a model's settings by the validation split."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from graphrec.cli.output import Config, Debug, Json, Quiet, Seed, command
from graphrec.errors import shell_word

EXAMPLES = (
    "graphrec tune stores/demo --model lightgcn --trials 40 --out runs/tune",
    "graphrec tune --config graphrec.toml --minutes 60 --set train.epochs=40",
    "graphrec train --config runs/tune/best.toml",
)


def tune(
    store: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(help="A graph store with a validation split. Default: \\[paths] store of the run file."),
    ] = None,
    model: Annotated[Optional[str], typer.Option("--model", "-m", help="A model's name.")] = None,  # noqa: UP045
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--out", "-o", help="The study's folder; a study in it goes on. Default: runs/tune-MODEL."),
    ] = None,
    trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--trials", "-n", min=1, help="Settings to try, over all processes and sessions of the study."),
    ] = None,
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--minutes", help="Stop after so long; the same command goes on."),
    ] = None,
    config: Config = None,
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set", "-s", metavar="KEY=VALUE", help="Keep a key at a value, as train.epochs=20. May be repeated."
        ),
    ] = None,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search for the settings of a model that do best on the validation split.

    Writes the best as a run file for graphrec train, the table of trials and a picture of the history. Start it twice with
    the same folder and two processes share the work; start it again and it goes on.
    """
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.api import check_features
        from graphrec.config import check_assigned, load_config
        from graphrec.tuning.tune import tune as run_tuning

        given = {"train.seed": seed, "tune.trials": trials, "tune.minutes": minutes}
        extra = [f"{key}={value}" for key, value in given.items() if value is not None]
        chosen = load_config(config, [*(assignments or ()), *extra], model=model)
        check_assigned(assignments or (), ("paths", "features", "model", "train", "tune"), "tune")
        check_features(chosen.features, store or chosen.paths.store, chosen.model.name, chosen.model.settings, io.reporter)
        result = run_tuning(
            store or chosen.paths.store,
            chosen.model.name,
            out,
            chosen.tune,
            model_settings=chosen.model.settings,
            train_settings=chosen.train,
            progress=io.reporter,
        )
        ended = ", ".join(f"{count} {state}" for state, count in result.counts().items())
        rows = [("trials", ended)]
        if result.best is not None:
            rows += [("best trial", result.best["number"]), (f"valid {result.metric}", result.best["value"])]
            for key, value in result.best["params"].items():  # a learning rate of 6e-06 is no 0.0000
                rows.append((key, f"{value:.4g}" if isinstance(value, float) else value))
        io.table(f"{result.model} tuned", ("what", "value"), rows)
        if result.best_file is not None:
            io.line(f"written to {result.best_file}; go on with: graphrec train --config {shell_word(result.best_file)}")
        io.result(result.to_dict())
