"""One search on disk: an Optuna study in SQLite that processes share and sessions go on with.

<folder>/study.db          the study: every trial with its values, validations and end
<folder>/.lock             held while a process asks for a trial or ends one
<folder>/workers/*.lock    one per process at work, held as long as it lives; so a killed one is known at once
<folder>/trials/           run folders of the trials under way
"""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphrec.atomic import check_kind, locked
from graphrec.errors import ConfigError, MissingExtraError, RunError
from graphrec.tuning.settings import TuneSettings
from graphrec.tuning.space import Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from graphrec.tuning.entries import Tables

DATABASE = "study.db"
KILLED, INTERRUPTED, GIVEN_UP = "killed", "interrupted", "given up"
_NAME = "graphrec"
_DEATHS = 2  # of processes with the same settings, after which they are not tried again
_BUSY_SECONDS = 60.0  # for which SQLite waits for another process's write


class Study:
    """The search in a folder; made by `opened`.

    Args:
        folder: holds `study.db`.
        contract: what makes trials comparable: data, model, fixed settings, space, metric, and how they are drawn and pruned. A
            study keeps its first one.
        space: draws the settings.
        settings: trials, sampler and pruner.
        seed: of the draws. Each trial's draw depends on the seed and on the trials before it alone, so that sessions that
            were cut short find what one long session finds.

    Raises:
        RunError: the folder holds something else, or a study with another contract.
        MissingExtraError: optuna is not installed.
    """

    def __init__(
        self, folder: Path, contract: Mapping[str, Any], space: Space, settings: TuneSettings, seed: int, worker: Path
    ) -> None:
        self._optuna = _import_optuna()
        self.folder, self.space, self.settings = folder, space, settings
        self._seed, self._worker = seed, worker
        with self.exclusively():
            self._study = self._open()
            self._check_contract(contract)

    def claim(self) -> tuple[Any, Tables] | bool:
        """Take the next trial.

        Returns:
            The trial with the tables of its setting; True where the budget is spent; False where it will be once trials of
            other processes have ended.
        """
        with self.exclusively():
            self._reap()
            done, running = self._done(), self._in_state("RUNNING")
            if len(done) >= self.settings.trials:
                return True
            if len(done) + len(running) >= self.settings.trials:
                return False
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=self._seed * 1_000_003 + len(done) + len(running), n_startup_trials=self.settings.startup_trials
            )
            trial = self._study.ask()
            trial.set_user_attr("worker", self._worker.name)
            try:
                return trial, self.space.draw(trial)
            except BaseException:
                self._end_early(trial.number, INTERRUPTED)
                raise

    def complete(self, trial: Any, value: float) -> None:
        """End a trial with its best validation."""
        with self.exclusively():
            self._study.tell(trial, value)

    def prune(self, trial: Any) -> None:
        """End a trial that the pruner stopped; its last validation counts."""
        with self.exclusively():
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, trial: Any, message: str) -> None:
        """End a trial whose setting does not work; it counts."""
        with self.exclusively():
            trial.set_user_attr("error", message)
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def interrupt(self, trial: Any) -> None:
        """End a trial that was given up for lack of time; it does not count and is tried again first of all."""
        with self.exclusively():
            self._end_early(trial.number, INTERRUPTED)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep the other processes from asking for trials and ending them."""
        with locked(self.folder / ".lock", RunError):
            yield

    def trials(self) -> list[FrozenTrial]:
        """All trials in the order they were started, without those that wait to be tried again."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def close(self) -> None:
        """Let go of the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def trial_folder(self, number: int) -> Path:
        """Where a trial may write while it is under way."""
        return self.folder / "trials" / f"{number:05d}"

    def marks(self) -> dict[int, str]:
        """Trial number to why it ended without a result: `KILLED`, `INTERRUPTED` or `GIVEN_UP`."""
        return {int(number): reason for number, reason in self._study.user_attrs.get("marks", {}).items()}

    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value, the first of equals; None before any is complete."""
        complete = self._in_state("COMPLETE")
        return max(complete, key=lambda trial: (trial.value, -trial.number)) if complete else None

    def _open(self) -> Any:
        path = self.folder / DATABASE
        optuna = self._optuna
        pruner = optuna.pruners.NopPruner()
        if self.settings.pruner == "median":
            pruner = optuna.pruners.MedianPruner(self.settings.startup_trials, self.settings.warmup_epochs)
        try:
            # The path stays out of the URL, where some of its characters would mean something else.
            connect = partial(sqlite3.connect, path.resolve(), timeout=_BUSY_SECONDS, check_same_thread=False)
            self._storage = optuna.storages.RDBStorage(f"sqlite:///{DATABASE}", engine_kwargs={"creator": connect})
            return optuna.create_study(
                storage=self._storage, study_name=_NAME, direction="maximize", pruner=pruner, load_if_exists=True
            )
        except Exception as problem:
            if type(problem).__module__.partition(".")[0] not in ("sqlalchemy", "optuna"):
                raise
            first = (str(problem).strip().splitlines() or [repr(problem)])[0]  # the others are the database's own
            raise RunError(f"{path} cannot be used: {first}; choose another folder, or delete this one") from problem

    def _check_contract(self, contract: Mapping[str, Any]) -> None:
        kept = self._study.user_attrs.get("contract")
        if kept is None:
            self._study.set_user_attr("contract", dict(contract))
            return
        if kept["data"] != contract["data"]:
            raise RunError(
                f"{self.folder} holds a study of other data than {contract['store']}: of {kept['store']}; "
                "go on with its own store, or choose another folder"
            )
        changed = []
        for name in ("model", "settings", "space", "search"):
            sides = (kept.get(name, contract[name]), contract[name])  # older studies do not say how they searched
            old, new = ({"": value} if isinstance(value, str) else value for value in sides)
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key):
                    what = f"{name} {key}".strip()
                    changed.append(f"{what} is {old.get(key, 'not set')} there, not {new.get(key, 'not set')}")
        if changed:
            raise RunError(
                f"{self.folder} holds another study: {'; '.join(changed)}; go on with the same, or choose another folder"
            )

    def _done(self) -> list[FrozenTrial]:
        """The trials that count against the budget."""
        again = {number for number, reason in self.marks().items() if reason != GIVEN_UP}
        finished = self._in_state("COMPLETE", "PRUNED", "FAIL")
        return [trial for trial in finished if trial.number not in again]

    def _in_state(self, *names: str) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name in names]

    def _reap(self) -> None:
        """End the trials whose process is no longer there."""
        for trial in self._in_state("RUNNING"):
            worker = trial.user_attrs.get("worker")
            if worker is None or self._is_dead(self.folder / "workers" / worker):
                self._end_early(trial.number, KILLED)

    def _is_dead(self, worker: Path) -> bool:
        if worker == self._worker:
            return False
        if not worker.is_file():
            return True
        with locked(worker, RunError, wait=False) as free:
            if free:
                worker.unlink(missing_ok=True)
            return free

    def _end_early(self, number: int, reason: str) -> None:
        """Fail a trial and put its setting first in the queue, unless it has taken its process with it before."""
        trials, marks = self._study.get_trials(deepcopy=False), self.marks()
        root = trials[number].user_attrs.get("retry_of", number)
        deaths = [
            other.number
            for other in trials[:number]
            if other.user_attrs.get("retry_of", other.number) == root and marks.get(other.number) == KILLED
        ]
        if reason == KILLED and len(deaths) + 1 >= _DEATHS:
            reason = GIVEN_UP
        shutil.rmtree(self.trial_folder(number), ignore_errors=True)
        # In this order a death in between costs the place in the queue at most, never the trial's share of the budget.
        self._study.set_user_attr("marks", {**{str(n): r for n, r in marks.items()}, str(number): reason})
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        if reason != GIVEN_UP and trials[number].params:
            self._study.enqueue_trial(trials[number].params, user_attrs={"retry_of": root})


@contextmanager
def opened(
    folder: Path, contract: Mapping[str, Any], space: Space, settings: TuneSettings, seed: int
) -> Iterator[Study]:
    """Open or make the study in `folder` as one of the processes at work on it; arguments and errors as for `Study`."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; the study needs a folder")
    fresh = not folder.exists()
    check_kind(folder, RunError, "study", DATABASE, (".lock", "workers"))
    worker = folder / "workers" / f"{uuid.uuid4().hex}.lock"
    with _quiet(), locked(worker, RunError):
        try:
            study = Study(folder, contract, space, settings, seed, worker)
            try:
                yield study
            finally:
                study.close()
        finally:
            worker.unlink(missing_ok=True)
            if fresh and not (folder / DATABASE).exists():  # it failed before there was anything
                for entry in (folder / ".lock", folder / "workers", folder):
                    entry.rmdir() if entry.is_dir() else entry.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from reporting every trial, and leave its verbosity as it was."""
    logging = _import_optuna().logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as problem:
        raise MissingExtraError("optuna", "tune", "searching for hyper-parameters") from problem
    return optuna
