"""Trains in a child process that kills itself with SIGKILL at a chosen moment, then goes on; run by `test_resume.py`.

    python killed.py STORE FOLDER=MOMENT,MOMENT,... FOLDER=...

A moment is `place:count` (the process dies when it gets to the place for the count-th time in that session) or a number of
seconds after which the parent kills it from outside. After the last moment one more session ends the run. Folders named
`residual...` train with a residual, those named `sampled...` on sampled neighbourhoods, `history...` with a history, too; those named `overwriting...` replace a finished run. Children are forked from a parent that has imported everything and computed nothing, which
saves seconds per session.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace

import torch
import torch._dynamo
import torch.utils.tensorboard

import graphrec.models.lightgcn  # noqa: F401 - this and the two above are imported late; here every child would do it again
from graphrec import checkpoints
from graphrec.ops import RowAdam
from graphrec.training import journal, loop, place
from graphrec.training.train import train

SETTINGS = {"epochs": 6, "batch_size": 32, "learning_rate": 0.01, "eval_every": 1, "patience": 2, "schedule": "cosine"}


def validation(store, settings, progress):  # type: ignore[no-untyped-def]
    """A validation whose value depends on the weights, gets better and then worse."""
    seen = []

    def validate(model):  # type: ignore[no-untyped-def]
        seen.append(1)
        return {settings.metric: -abs(float(model.score([0, 1, 2]).std()) - 0.9)}

    return validate


def dying(count: int, action, before: bool = False):  # type: ignore[no-untyped-def]
    """Wrap `action` so that its `count`-th call is the last thing the process does."""
    calls = []

    def wrapped(*arguments, **keywords):  # type: ignore[no-untyped-def]
        calls.append(1)
        if before and len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = action(*arguments, **keywords)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def half_a_line(self, step, values):  # type: ignore[no-untyped-def]
    """What a death in the middle of a write leaves."""
    self._file.write(b'{"epoch": 1, "st')
    self._file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, count: int) -> None:
    """Make this process die at a place."""
    if moment == "step":
        loop.Loop.step = dying(count, loop.Loop.step)
    elif moment == "adam":
        for optimizer in (torch.optim.Adam, RowAdam):
            optimizer.step = dying(count, optimizer.step)
    elif moment == "tensors-written":
        checkpoints.save_file = dying(count, checkpoints.save_file)
    elif moment == "state-before":
        checkpoints._named_slot = dying(count, checkpoints._named_slot)
    elif moment == "checkpoint":
        loop.checkpoints.save = dying(count, checkpoints.save)
    elif moment == "record":
        journal.Journal.record = dying(count, journal.Journal.record)
    elif moment == "half-line":
        journal.Journal.record = half_a_line
    elif moment == "move":
        place.os = SimpleNamespace(replace=dying(count, os.replace))


def session(store: str, folder: str, moment: str | None, every: float) -> None:
    """Fork a child that starts or resumes the run; wait until it is dead or done."""
    child = os.fork()
    if child == 0:
        name, _, count = (moment or "").partition(":")
        overwriting = os.path.basename(folder).startswith("overwriting")
        if overwriting and not os.path.exists(folder):
            train(store, "popularity", folder)
        resume = os.path.exists(os.path.join(folder, place.REPLACEMENT if overwriting else "config.json"))
        if count:
            arm(name, int(count))
        settings = {"checkpoint_every": every} if resume else {**SETTINGS, "checkpoint_every": every}
        if os.path.basename(folder).startswith(("sampled", "history")) and not resume:
            settings |= {"batching": "sampled", "fanouts": [3, 2, 2]}
            settings |= {"history_every": 3} if os.path.basename(folder).startswith("history") else {}
        residual = {"weight": 0.5} if os.path.basename(folder).startswith("residual") else None
        model = {"model_settings": {"residual": residual}, "validation": validation}
        train(store, "lightgcn", folder, settings, resume=resume, overwrite=overwriting and not resume, **model)
        os._exit(0)
    if moment and ":" not in moment:
        time.sleep(float(moment))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(folder, moment or "end", "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}", flush=True)


def main() -> None:
    """For each run: a session per moment, then one to the end."""
    store, *runs = sys.argv[1:]
    for argument in runs:
        folder, _, moments = argument.partition("=")
        for number, moment in enumerate([*filter(None, moments.split(",")), None]):
            session(store, folder, moment, 0.0 if number % 2 == 0 else 1e9)


if __name__ == "__main__":
    main()
