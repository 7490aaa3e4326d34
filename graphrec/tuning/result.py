"""What a search leaves behind: the best setting as a run file, the table of trials, the picture of the history."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from graphrec.atomic import atomic_file
from graphrec.errors import RunError
from graphrec.evaluation.plots import BLUE, GREY, ORANGE, new_figure, png
from graphrec.toml_text import toml_sections
from graphrec.tuning.study import GIVEN_UP, Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_TUNED_ON = " on the validation split of "
BEST, TABLE, PLOT = "best.toml", "trials.csv", "history.png"


@dataclass(frozen=True, repr=False)
class Tuning:
    """The state of a search.

    Attributes:
        folder: of the study.
        model: the model's name.
        metric: what is maximised on the validation split.
        trials: one dict per trial, in the order they were started: number, state, value, seconds, epochs, params, error.
        best: the one of them with the highest value; None before any is complete, which `tune` never returns.
        best_file: the run file of the best setting, for `graphrec train --config`; None as long as `best` is.
        table, plot: the CSV file and the picture.
    """

    folder: Path
    model: str
    metric: str
    trials: list[dict[str, Any]]
    best: dict[str, Any] | None
    best_file: Path | None
    table: Path
    plot: Path | None

    def counts(self) -> dict[str, int]:
        """Return how many trials ended in each state."""
        found: dict[str, int] = {}
        for trial in self.trials:
            found[trial["state"]] = found.get(trial["state"], 0) + 1
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**{name: value for name, value in vars(self).items() if name != "trials"}, "trials": self.counts()}

    def __str__(self) -> str:
        best = (
            "no trial is complete"
            if self.best is None
            else f"{self.metric} {self.best['value']:.4f}, {self.best['params']}"
        )
        return f"{self.model}: {len(self.trials)} trials in {self.folder}; {best}"

    __repr__ = __str__  # what a notebook shows of it


def publish(study: Study, store: str, metric: str, plot: bool = True) -> Tuning:
    """Write the files of a study as it stands, each whole or not at all.

    Args:
        study: the search.
        store: the store's folder, for the run file.
        metric: what is maximised.
        plot: draw the picture too.

    Raises:
        RunError: the disk is full.
    """
    folder, space = study.folder, study.space
    marks = study.marks()
    trials = [_row(trial, marks) for trial in study.trials()]
    found = study.best()
    best = None if found is None else next(row for row in trials if row["number"] == found.number)
    if best is not None:
        tables = space.tables(best["params"])
        sections = {
            "paths": {"store": store, "run": str(folder / "best")},
            "model": {"name": space.model, **tables["model"]},
            "train": {**tables["train"], "metric": metric},
        }
        head = f"# {metric} {best['value']:.6f}{_TUNED_ON}{store}: trial {best['number']} of {len(trials)}.\n\n"
        _write(folder / BEST, (head + toml_sections(sections)).encode())
    _write(folder / TABLE, _csv(trials, list(space.entries), metric).encode())
    if plot and any(row["value"] is not None for row in trials):
        _write(folder / PLOT, _history(trials, metric))
    return Tuning(
        folder=folder,
        model=space.model,
        metric=metric,
        trials=trials,
        best=best,
        best_file=None if best is None else folder / BEST,
        table=folder / TABLE,
        plot=folder / PLOT if (folder / PLOT).is_file() else None,
    )


def tuned_on(run_file: str | os.PathLike[str]) -> str | None:
    """Return the store on whose validation split a search found the run file, as its first line says; None for any other file."""
    first = Path(run_file).read_text(encoding="utf-8").partition("\n")[0]
    store, _, trial = first.partition(_TUNED_ON)[2].rpartition(": trial ")
    return store if trial and first.startswith("# ") else None


def _row(trial: FrozenTrial, marks: dict[int, str]) -> dict[str, Any]:
    state = marks.get(trial.number) or {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    finished = trial.state.name in ("COMPLETE", "PRUNED") and trial.value is not None
    seconds = trial.duration.total_seconds() if trial.duration is not None else None
    error = trial.user_attrs.get("error", "")
    if state == GIVEN_UP:
        error = "the process died twice with these settings"
    return {
        "number": trial.number,
        "state": state,
        "value": float(trial.value) if finished else None,
        "epochs": max(trial.intermediate_values, default=None),
        "seconds": None if seconds is None else round(seconds, 3),
        "params": dict(trial.params),
        "error": error,
    }


def _csv(trials: list[dict[str, Any]], entries: list[str], metric: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", metric, "epochs", "seconds", *entries, "error"])
    for row in trials:
        values = [row["params"].get(entry, "") for entry in entries]
        known = ["" if row[name] is None else row[name] for name in ("value", "epochs", "seconds")]
        writer.writerow([row["number"], row["state"], *known, *values, row["error"]])
    return text.getvalue()


def _history(trials: list[dict[str, Any]], metric: str) -> bytes:
    """The value of each trial over its number, and the best so far."""
    figure, axes = new_figure(7.2, 3.6)
    looks = (("complete", BLUE, "o"), ("pruned", GREY, "x"))
    for state, colour, marker in looks:
        points = [(row["number"], row["value"]) for row in trials if row["state"] == state and row["value"] is not None]
        if points:
            axes.scatter(
                *zip(*points, strict=True), color=colour, marker=marker, s=26, label=f"{state}, {len(points)}", zorder=3
            )
    best, steps = None, []
    for row in trials:
        if row["state"] == "complete":
            best = row["value"] if best is None else max(best, row["value"])
        if best is not None:
            steps.append((row["number"], best))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color=ORANGE, linewidth=1.6, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{metric} on the validation split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return png(figure, axes)


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path, RunError) as temporary:
        temporary.write_bytes(content)
