"""`graphrec train [STORE]`: train a model on a graph store, go on with a run, or put a second stage onto a finished one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from graphrec.cli.output import Config, Debug, Json, Output, Quiet, Seed, command
from graphrec.errors import shell_word

if TYPE_CHECKING:
    from graphrec.training.run import Run

EXAMPLES = (
    "graphrec train stores/demo --model lightgcn --out runs/demo --set train.epochs=20",
    "graphrec train --config graphrec.toml --set model.loss=sampled-softmax --set model.head=cosine",
    "graphrec train --resume --out runs/demo",
    "graphrec train stores/today --model lightgcn --start-from runs/demo --out runs/demo --overwrite --set train.epochs=5",
    "graphrec train --stage rank --retrieval runs/demo --out runs/ranked --set rank.candidates=100",
)


def train(
    store: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(help="A graph store. Default: \\[paths] store of the run file, or the resumed run's own."),
    ] = None,
    model: Annotated[Optional[str], typer.Option("--model", "-m", help="A model's name.")] = None,  # noqa: UP045
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--out", "-o", help="The run folder. Default: \\[paths] run of the run file."),
    ] = None,
    config: Config = None,
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key, as train.epochs=20. May be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the run folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the run folder; it answers until the new one is finished.")] = False,
    stage: Annotated[
        str, typer.Option("--stage", help="retrieval, or rank: a second stage onto the run of --retrieval.")
    ] = "retrieval",
    retrieval: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--retrieval", help="With --stage rank: the finished run that retrieves, of one model or a sum; --out is another folder."),
    ] = None,
    start_from: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--start-from", metavar="RUN", help="Start from the parameters of a finished run of the same model, by original id."),
    ] = None,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a model on a graph store and write a run folder."""
    if stage not in ("retrieval", "rank"):
        raise typer.BadParameter(f"give retrieval or rank, got {stage!r}", param_hint="--stage")
    if (stage == "rank") != bool(retrieval):
        raise typer.BadParameter("--stage rank and --retrieval RUN go together", param_hint="--retrieval")
    if stage == "rank" and (model or resume or start_from):
        raise typer.BadParameter("--stage rank takes none of --model, --resume and --start-from; it starts over with --overwrite")
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.api import check_features
        from graphrec.api import train as run_training
        from graphrec.config import check_assigned, load_config

        given = [] if seed is None else [f"train.seed={seed}", f"rank.seed={seed}"]
        given += [] if start_from is None else [f"train.start_from={start_from}"]
        chosen = load_config(config, [*(assignments or ()), *given], model=model)
        read = ("paths", "rank") if stage == "rank" else ("paths", "features", "model", "train")
        check_assigned(assignments or (), read, f"train --stage {stage}")
        if stage == "rank":
            from graphrec.training.rank import train_ranker

            _report(
                io,
                train_ranker(
                    retrieval,
                    out or chosen.paths.run,
                    chosen.rank,
                    store=store,
                    overwrite=overwrite,
                    progress=io.reporter,
                ),
            )
            return
        if not resume:
            check_features(chosen.features, store or chosen.paths.store, chosen.model.name, chosen.model.settings, io.reporter)
        try:
            run = run_training(
                # A resumed run knows its store and its model; only what was asked for by name is compared with them.
                store or (None if resume else chosen.paths.store),
                None if resume and not (model or chosen.source) else chosen.model.name,
                out or chosen.paths.run,
                chosen.train,
                model_settings=chosen.model.settings,
                resume=resume,
                overwrite=overwrite,
                progress=io.reporter,
            )
        except KeyboardInterrupt as interrupt:
            io.kept = str(interrupt) or io.kept
            raise
        _report(io, run)


def _report(io: Output, run: Run) -> None:
    summary = run.summary()
    rows = [(name, value) for name, value in summary.items() if name not in ("valid", "check", "relations")]
    for checked in ("valid", "check"):
        rows += [(f"{checked} {name}", value) for name, value in summary.get(checked, {}).items()]
    rows += [(f"weight of {name}", value) for name, value in summary.get("relations", {}).items()]
    io.table(f"{run.model.name} trained", ("what", "value"), rows)
    from graphrec.graph.store import GraphStore

    tested = GraphStore.open(run.store_path, verify=False).manifest.splits["test"].known_target
    verb = "evaluate {}" if tested else "recommend {} --all --out lists.parquet"
    io.line(f"written to {run.folder}; go on with: graphrec {verb.format(shell_word(run.folder))}")
    io.result({"run": run.folder, "model": run.model.name, "store": run.store_path, **summary})
