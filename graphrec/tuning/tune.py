"""`tune`: try settings of a model until the budget is spent, and keep the best as a run file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graphrec.errors import ConfigError, RunError, StoreError
from graphrec.evaluation.validation import watch
from graphrec.graph.store import GraphStore
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.settings import Settings, parse
from graphrec.training.run import fingerprint
from graphrec.training.settings import TrainSettings
from graphrec.tuning.result import Tuning, publish
from graphrec.tuning.settings import TuneSettings
from graphrec.tuning.space import Space
from graphrec.tuning.study import Study, opened
from graphrec.tuning.trial import measure

DEFAULT_MODEL = "lightgcn"
_LOOK_AGAIN = 0.5  # seconds between two looks at trials of other processes
_OF_CLOSED_FORMS = ("train.seed", "train.metric", "train.valid_users")  # the training settings that they know
_FREE = ("device", "checkpoint_every")  # of the training settings: they do not change a value


@takes_progress
def tune(
    store: GraphStore | str | os.PathLike[str],
    model: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    settings: TuneSettings | Mapping[str, Any] | None = None,
    *,
    model_settings: Settings | Mapping[str, Any] | None = None,
    train_settings: TrainSettings | Mapping[str, Any] | None = None,
    progress: Reporter | bool = SILENT,
) -> Tuning:
    """Search for the settings of a model that do best on the validation split; the test split is never looked at.

    Settings are drawn by the tree-structured Parzen estimator; a trial that lags behind the others at a validation is
    ended early. The study is kept in `folder`: calling again goes on with it, several processes may work on it at once, and a
    trial whose process was killed is tried again. Written there, after every trial: `best.toml`, a run file of the best
    setting; `trials.csv`; and at the end `history.png`.

        graphrec.tune(store, "lightgcn", "runs/tune", {"trials": 50}, train_settings={"epochs": 40})

    Args:
        store: the graph store or its folder; it needs a validation split.
        model: a registered name; None means "lightgcn".
        folder: of the study; None means `runs/tune-<model>`.
        settings: budget, pruner and space.
        model_settings, train_settings: values that stay fixed, unless the space names them. `train.metric` is what counts,
            `train.eval_every` how often a trial may be pruned, `train.seed` fixes the draws too.
        progress: receives the trials.

    Raises:
        ConfigError: a setting or a field of the space is unknown or out of range, or there is nothing to search.
        StoreError: the store is damaged or has no validation split.
        RunError: the folder holds something else, or a study of other data, another model, space, metric or pruner; or no trial
            is complete, for no setting works or the time was too short; the study is kept.
        MissingExtraError: optuna is not installed.

    Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization, section 4; Golovin et al. 2017, Google Vizier,
        section 3.2 (median rule); both as Optuna implements them (Akiba et al. 2019, arXiv:1907.10902).
    """
    chosen = parse(TuneSettings, _explicit(settings), "tune")
    name = DEFAULT_MODEL if model is None else model
    given = _explicit(train_settings)
    training = parse(TrainSettings, given, "train")
    if training.start_from is not None:
        raise ConfigError("train start_from: a search trains every trial from the beginning; leave it out")
    space = Space(name, _explicit(model_settings), given, chosen.space, chosen.defaults)
    opened_store = store if isinstance(store, GraphStore) else GraphStore.open(store)
    validate = watch(opened_store, training, progress)
    if validate is None:
        raise StoreError(
            f"{opened_store.folder} has no validation split, and settings are never chosen on the test split; build it again "
            "with one, for example: graphrec build --valid 0.1"
        )
    path = Path(folder) if folder is not None else Path("runs") / f"tune-{name}"
    contract = _contract(opened_store, space, training, chosen)
    deadline = time.monotonic() + 60 * chosen.minutes if chosen.minutes else float("inf")
    shown = str(opened_store.folder)

    def publish_now(study: Study, plot: bool = False) -> Tuning:
        with study.exclusively():
            return publish(study, shown, training.metric, plot)

    with opened(path, contract, space, chosen, training.seed) as study:
        session = _Session(study, opened_store, training.metric, validate, deadline, progress)
        try:
            session.run(chosen.trials, publish_now)
        finally:
            result = publish_now(study, plot=True)
    if result.best is None:
        failed = [trial["error"] for trial in result.trials if trial["error"]]
        if failed:
            raise RunError(f"none of {len(result.trials)} trials is complete; the last failure: {failed[-1]}")
        raise RunError(
            f"no trial is complete yet, so there is no best setting ({path} keeps {len(result.trials)} that were cut short); the "
            "same command goes on: give it more time (--minutes)"
        )
    return result


class _Ended(Exception):
    """Ends a training from within a validation; `pruned` says why."""

    def __init__(self, pruned: bool) -> None:
        super().__init__()
        self.pruned = pruned


class _Session:
    """This process's share of a study."""

    def __init__(
        self, study: Study, store: GraphStore, metric: str, validate: Any, deadline: float, progress: Reporter
    ) -> None:
        self.study, self.store, self.metric, self.validate = study, store, metric, validate
        self.deadline, self.progress = deadline, progress

    def run(self, trials: int, after_each: Any) -> None:
        """Run trials until the budget or the time is spent."""
        with self.progress.task(f"Tuning {self.study.space.model}", total=trials, unit="trials") as task:
            shown = 0
            while True:
                result = after_each(self.study)
                counts = result.counts()
                finished = sum(counts.get(state, 0) for state in ("complete", "pruned", "failed", "given up"))
                task.advance(finished - shown)
                shown = finished
                if result.best is not None:
                    task.show(best=result.best["value"], trial=result.best["number"])
                if time.monotonic() >= self.deadline:
                    self.progress.note(f"the time is up after {finished} of {trials} trials; the same command goes on")
                    return
                claimed = self.study.claim()
                if claimed is True:
                    return
                if claimed is False:
                    time.sleep(_LOOK_AGAIN)
                else:
                    self._try(*claimed)

    def _try(self, trial: Any, tables: Any) -> None:
        def report(epoch: int, value: float, last: bool) -> None:
            trial.report(value, epoch)
            if last:
                return
            if trial.should_prune():
                raise _Ended(pruned=True)
            if time.monotonic() >= self.deadline:
                raise _Ended(pruned=False)

        folder = self.study.trial_folder(trial.number)
        drawn = ", ".join(f"{key.partition('.')[2]}={_short(value)}" for key, value in trial.params.items())
        try:
            value = measure(self.store, self.study.space.model, tables, folder, self.metric, self.validate, report)
        except _Ended as end:
            if end.pruned:
                self.study.prune(trial)
                self.progress.note(f"trial {trial.number}: pruned ({drawn})")
            else:
                self.study.interrupt(trial)
        except (ConfigError, RunError, MemoryError, torch.cuda.OutOfMemoryError) as problem:
            if "disk is full" in str(problem):  # no fault of the setting, and the next would end the same way
                self.study.interrupt(trial)
                raise
            message = str(problem) or type(problem).__name__
            self.study.fail(trial, message)
            self.progress.note(f"trial {trial.number}: failed ({drawn}): {message}")
        except BaseException:
            self.study.interrupt(trial)
            raise
        else:
            self.study.complete(trial, value)
            self.progress.note(f"trial {trial.number}: {self.metric} {value:.4f} ({drawn})")


def _contract(store: GraphStore, space: Space, training: TrainSettings, search: TuneSettings) -> dict[str, Any]:
    """What makes two trials comparable, and sessions that were cut short the same as one long one."""
    train = {f"train.{key}": value for key, value in training.model_dump(mode="json").items() if key not in _FREE}
    model = {f"model.{key}": value for key, value in space.fixed["model"].items()}
    return {
        "data": f"{fingerprint(store)}/{store.manifest.files['splits/valid.parquet'].sha256}",
        "store": str(store.folder.resolve()),
        "model": space.model,
        "space": space.to_dict(),
        "search": search.model_dump(include={"startup_trials", "pruner", "warmup_epochs"}),
        "settings": {
            **model,
            **(train if space.trained else {key: train[key] for key in _OF_CLOSED_FORMS}),
        },
    }


def _explicit(settings: Settings | Mapping[str, Any] | None) -> dict[str, Any]:
    return settings.model_dump(exclude_unset=True) if isinstance(settings, Settings) else dict(settings or {})


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
