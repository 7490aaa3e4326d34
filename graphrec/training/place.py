"""The names in a run folder, and where a training writes: an empty folder, or beside the finished run that it is to replace.

A finished run stays as it is, and answers, until the one in its place is finished, too. That one is trained in the folder
`replacement` inside the run folder, a whole run folder itself, which a resumed training goes on with; at the end its files
take the place of the old ones. Whoever wants the old run back deletes `replacement` before that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphrec import atomic
from graphrec.errors import RunError
from graphrec.training import journal

CONFIG = "config.json"
MODEL = "model"
EVALUATION, FRIENDS = "evaluation", "friends.json"  # what `graphrec evaluate` writes into the folder
RESULTS = (f"{EVALUATION}.*", f"{EVALUATION}-*", FRIENDS)
REPLACEMENT = "replacement"
_REPLACED = "replaced-model"


def check_free(path: Path, overwrite: bool) -> None:
    """Make sure that a run may be written to `path`.

    Raises:
        RunError: it holds a run and `overwrite` is false, or something else.
    """
    atomic.check_kind(path, RunError, "run", CONFIG)
    if (path / CONFIG).exists() and not overwrite:
        raise RunError(
            f"{path} already holds a run; choose another folder, go on with it by --resume, or replace it by --overwrite"
        )


def place_of(path: Path, resume: bool) -> Path:
    """Return the folder that the run of `path` is trained in: `path`, or its replacement where a finished run is to be replaced.

    Args:
        path: the run folder.
        resume: go on with what is there, which is the replacement if one was begun.
    """
    begun = (path / REPLACEMENT / CONFIG).exists() if resume else (path / MODEL).is_dir()
    return path / REPLACEMENT if begun else path


def recover(path: Path) -> None:
    """Bring to its end what a kill interrupted in `take_over`.

    Raises:
        RunError: another process is doing it.
    """
    if (path / REPLACEMENT / MODEL).is_dir():
        with locked(path):
            take_over(path)


def take_over(path: Path) -> None:
    """Put the finished run in the replacement of `path`, if there is one, into the place of the one in `path`.

    A kill at any moment leaves the old run, or what the next call brings to its end: `model` is moved last.

    Args:
        path: the run folder, `locked`.
    """
    replacement = path / REPLACEMENT
    if not (replacement / MODEL).is_dir():
        return
    if (path / MODEL).is_dir():  # then this is what a kill left of an earlier one
        shutil.rmtree(replacement / _REPLACED, ignore_errors=True)
    if (replacement / CONFIG).exists():
        _remove_all_but_the_model(path)
        if (path / MODEL).is_dir():
            os.replace(path / MODEL, replacement / _REPLACED)
        os.replace(replacement / CONFIG, path / CONFIG)
    for entry in replacement.iterdir():
        if entry.name not in (MODEL, _REPLACED):
            os.replace(entry, path / entry.name)
    os.replace(replacement / MODEL, path / MODEL)
    shutil.rmtree(replacement, ignore_errors=True)


def clear(path: Path) -> None:
    """Remove a run's own files, config.json last, and leave everything else in the folder."""
    for name in (MODEL, REPLACEMENT, _REPLACED):
        shutil.rmtree(path / name, ignore_errors=True)
    _remove_all_but_the_model(path)
    atomic.remove_leftovers(path / CONFIG)
    (path / CONFIG).unlink(missing_ok=True)


def _remove_all_but_the_model(path: Path) -> None:
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    forget_results(path)
    for entry in (path / journal.FILE, *path.glob("events.out.tfevents.*")):
        entry.unlink(missing_ok=True)


def forget_results(path: Path) -> None:
    """Remove what was measured of a run: it does not hold for other weights."""
    for pattern in RESULTS:
        for entry in path.glob(pattern):
            entry.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other trainings out of `path` while one is written there.

    Raises:
        RunError: another process trains in it, or it cannot be written.
    """
    with atomic.locked(path / ".lock", RunError, wait=False) as held:
        if not held:
            raise RunError(f"another process is training in {path}; wait for it or choose another folder")
        try:
            yield
        finally:
            if [entry.name for entry in path.iterdir()] == [".lock"]:  # failed before anything was written
                shutil.rmtree(path, ignore_errors=True)
