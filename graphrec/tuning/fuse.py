"""Fusion of finished runs: their scores added up, with weights that are given or chosen on the validation split."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from graphrec.benchmarking.fusion import best_share, choose_share
from graphrec.errors import ConfigError, RunError
from graphrec.graph.store import GraphStore
from graphrec.models import MADE_BY, MADE_FROM_RUNS
from graphrec.models.base import Recommender
from graphrec.models.score_sum import ScoreSum, spreads_of
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.training.place import check_free, locked
from graphrec.training.run import Run
from graphrec.training.train import write_made

_MADE_FROM_RUNS = {
    "sum": "is a sum of runs itself; give these runs",
    "two-stage": "has two stages, and the second orders some candidates alone, in a unit that no other run shares; sum the runs that "
    f"retrieve, and put a second stage onto the sum: {MADE_BY['two-stage']}",
}


@takes_progress
def fuse(
    runs: Sequence[Run | str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    weights: Sequence[float] | Literal["equal", "valid"] = "equal",
    *,
    metric: str = "ndcg@20",
    seed: int = 0,
    overwrite: bool = False,
    progress: Reporter | bool = SILENT,
) -> Run:
    """Add finished runs up and write a run folder with all of them: `graphrec.models.score_sum.ScoreSum`.

    Each model's scores count in units of their own spread. `evaluate`, `recommend`, `export` and `train_ranker` take the folder as
    that of any other run; the runs are left as they are.

        graphrec.fuse(["runs/seed-0", "runs/seed-1", "runs/filter"], "runs/sum", weights="valid")

    Args:
        runs: two or more finished runs of one store, or their folders.
        folder: the run folder to write.
        weights: one for each run, at least 0; "equal" for the mean; "valid" takes the runs in their order and gives each the share
            in the sum so far that ranks the validation items best, in tenths.
        metric: what "valid" chooses by, a metric per user with its length.
        seed: of the sample of users that the spreads are taken from.
        overwrite: replace the run in `folder`.
        progress: receives the steps, the weights, and which runs have learned from what is held out.

    Raises:
        ConfigError: fewer than two runs, weights that do not fit, a metric by which nothing can be chosen, or a run that is a sum
            or has two stages itself.
        RunError: a run is not finished, is damaged or of another store, or the folder is taken or cannot be written.
        StoreError: "valid" is asked for, and the store is damaged or has no validation split.
    """
    loaded = [run if isinstance(run, Run) else Run.load(run) for run in runs]
    path = Path(folder)
    _check(loaded, path, weights)
    check_free(path, overwrite)
    _warn(loaded, weights, progress)
    with locked(path):
        started = time.monotonic()
        models = [run.model for run in loaded]
        units = spreads_of(models, seed)
        if weights == "valid":
            found = _chosen(models, units, GraphStore.open(loaded[0].store_path), metric, seed, progress)
        else:
            found = [1.0] * len(models) if weights == "equal" else list(map(float, weights))
        found = [weight / sum(found) for weight in found]
        model = ScoreSum.of(models, found, chosen_on="valid" if weights == "valid" else "given", spreads=units)
        progress.note("weights: " + ", ".join(f"{run.folder} {weight:.3g}" for run, weight in zip(loaded, found, strict=True)))
        train = {"runs": [str(run.folder) for run in loaded], "weights": found, "metric": metric, "seed": seed}
        train["members"] = [run.training() for run in loaded]  # to learn them again once the runs have gone
        told = [(0, {"train_seconds": round(time.monotonic() - started, 3)})]
        return write_made(path, model, train, loaded[0].config.store, told, loaded)


def _check(runs: list[Run], path: Path, weights: Sequence[float] | str) -> None:
    if len(runs) < 2:
        raise ConfigError(f"fuse: give two runs or more, got {len(runs)}")
    folders = [Path(run.folder).resolve() for run in runs]
    for run in runs:
        if run.config.model["name"] in MADE_FROM_RUNS:
            raise ConfigError(f"fuse: {run.folder} {_MADE_FROM_RUNS[run.config.model['name']]}")
        if folders.count(Path(run.folder).resolve()) > 1:
            raise ConfigError(f"fuse: {run.folder} is given more than once; a weight says how much it counts")
        if path.resolve() == Path(run.folder).resolve():
            raise ConfigError(f"fuse: the sum needs a folder of its own, got that of a run, {path}")
        if run.config.store["fingerprint"] != runs[0].config.store["fingerprint"]:
            raise RunError(
                f"fuse: the training data of {runs[0].folder} and {run.folder} differ (stores {runs[0].config.store['path']} and "
                f"{run.config.store['path']}); train both on one store, anew where it was built again in between"
            )
    if isinstance(weights, str):
        if weights not in ("equal", "valid"):
            raise ConfigError(f'fuse: weights must be "equal", "valid" or a number for each run, got "{weights}"')
        return
    fits = len(weights) == len(runs) and all(math.isfinite(weight) and weight >= 0 for weight in weights)
    if not fits or not any(weights):
        raise ConfigError(f"fuse: weights must be {len(runs)} numbers of at least 0, one a run and not all 0, got {list(weights)}")


def _warn(runs: list[Run], weights: Sequence[float] | str, progress: Reporter) -> None:
    """Say which runs started from one that had seen what is held out, and what that does to the sum."""
    for run in runs:
        splits = run.config.learned
        if splits:
            progress.note(
                f"warning: {run.folder} has learned from {' and '.join(splits)} interactions through the run that it started from, so "
                "metrics of the sum on them say too much"
            )
        if weights == "valid" and "valid" in splits:
            progress.note(f"warning: weights chosen on the valid split give {run.folder} too much; give equal ones, or numbers")


def _chosen(
    models: list[Recommender], units: list[float], store: GraphStore, metric: str, seed: int, progress: Reporter
) -> list[float]:
    """Weights in the order of the models: each gets the best share of the sum with those before it."""
    weights = [1.0]
    with progress.task("Choosing weights", len(models) - 1, "runs") as task:
        for count, model in enumerate(models[1:], 1):
            so_far = ScoreSum.of(models[:count], weights, spreads=units[:count])
            (unit,) = spreads_of([so_far], seed)
            share = best_share(choose_share(so_far, model, store, metric, spreads=(unit, units[count])))
            weights = [(1 - share) * weight / unit for weight in weights] + [share]
            task.advance(1)
    return weights
