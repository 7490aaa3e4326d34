"""Searches in forked processes: some killed with SIGKILL in the middle of a trial, two at work on one study; run by
`test_study.py`.

    python sessions.py STORE FOLDER

writes the studies FOLDER/whole (one session), FOLDER/cut (killed in its third trial, then a session to the end),
FOLDER/deadly (a setting that kills its process each time) and FOLDER/shared (two processes at once). Children are forked from a
parent that has imported everything and computed nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401 - this, the one above and the one below are imported late

import graphrec.models.lightgcn  # noqa: F401 - and here every child would import them again
from graphrec.tuning import tune as module
from graphrec.tuning.tune import tune

TRAIN = {"epochs": 3, "eval_every": 1, "batch_size": 64, "metric": "ndcg@5"}
SETTINGS = {
    "trials": 6,
    "startup_trials": 3,
    "defaults": False,
    "space": {"model.embedding_dim": [4, 8], "train.learning_rate": {"low": 1e-3, "high": 0.1, "log": True}},
}
MODEL = {"num_layers": 1}


def search(store: str, folder: Path, trials: int = SETTINGS["trials"]) -> None:  # type: ignore[assignment]
    """One session."""
    tune(store, "lightgcn", folder, {**SETTINGS, "trials": trials}, model_settings=MODEL, train_settings=TRAIN)


def dying(trial: int) -> None:
    """Make the process die at the first validation of its `trial`-th trial."""
    calls = []
    measure = module.measure

    def wrapped(*arguments):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) < trial:
            return measure(*arguments)
        return measure(*arguments[:-1], lambda *_: os.kill(os.getpid(), signal.SIGKILL))

    module.measure = wrapped


def child(action: Callable[[], None]) -> int:
    """Run `action` in a forked process and return its id."""
    process = os.fork()
    if process == 0:
        action()
        os._exit(0)
    return process


def wait(*processes: int) -> None:
    """Wait for processes and say how each ended."""
    for process in processes:
        _, status = os.waitpid(process, 0)
        print("killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}", flush=True)


def main() -> None:
    """Make the four studies."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.storages.RDBStorage("sqlite://")  # in memory, thrown away: it imports what every child would import again
    store, folder = sys.argv[1], Path(sys.argv[2])

    def killed(name: str, trial: int) -> Callable[[], None]:
        def action() -> None:
            dying(trial)
            search(store, folder / name)

        return action

    wait(child(lambda: search(store, folder / "whole")))
    wait(child(killed("cut", 3)))
    print(len(list((folder / "cut" / "trials").iterdir())), "run folders left by the kill", flush=True)
    wait(child(lambda: search(store, folder / "cut")))
    wait(child(killed("deadly", 1)))
    wait(child(killed("deadly", 1)))
    wait(child(lambda: search(store, folder / "deadly", 3)))
    wait(child(lambda: search(store, folder / "shared")), child(lambda: search(store, folder / "shared")))


if __name__ == "__main__":
    main()
