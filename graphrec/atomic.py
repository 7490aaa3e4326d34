"""Files and folders that appear whole or not at all.

Everything graphrec writes goes to a temporary sibling first and is renamed into place, so that a killed process, a
full disk or two processes writing one folder never leave half a result. What a symbolic link names is written behind it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from graphrec.errors import GraphrecError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LEFTOVER = re.compile(r"\..+\.[^.]+\.tmp(\.[^.]+)?")  # the temporary names of `atomic_file`
_NO_SPACE = 4096  # bytes; less than one block of most file systems


@contextmanager
def atomic_file(path: str | os.PathLike[str], error: type[GraphrecError] = GraphrecError) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it and rename it to `path`, on failure remove it.

    Raises:
        error: the disk is full or the folder cannot be written; what stood at `path` before is untouched.
    """
    target = _behind_link(path)
    with _readable_os_errors(target, error):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=f".tmp{target.suffix}", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            with _full_disk_named(target, error):
                yield temporary
                temporary.chmod(0o666 & ~_umask())
                _sync(temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str],
    error: type[GraphrecError] = GraphrecError,
    *,
    overwrite: bool = False,
    marker: str | tuple[str, ...] = (),
) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it to `path`, on failure remove it.

    A lock beside `path` keeps two processes from writing the same folder at once. Leftovers of killed processes are
    removed by the next writer.

    Args:
        path: the folder to create.
        error: the exception class for what a user can cause.
        overwrite: replace a folder that is already there.
        marker: what the old folder must hold for `overwrite` to replace it (`("manifest.json", "splits")`), so that a
            mistyped path never deletes somebody's other files.

    Raises:
        error: the folder exists and `overwrite` is false, or it is not one of ours, another process is writing it, or the
            disk is full.
    """
    target = _behind_link(path)
    with _readable_os_errors(target, error):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target, error):
            _remove_leftovers(target)  # may bring back a folder that a killed process was replacing
            check_free(target, error, overwrite, marker)
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
            try:
                with _full_disk_named(target, error):
                    yield temporary
                    temporary.chmod(0o777 & ~_umask())
                    for file in temporary.rglob("*"):
                        if file.is_file():
                            _sync(file)
                _swap(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path: str | os.PathLike[str], error: type[GraphrecError] = GraphrecError, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`, which stays, against other processes; a process that dies frees it.

    Args:
        path: the lock file; made if missing.
        error: the exception class for what a user can cause.
        wait: wait for another holder; otherwise do not.

    Yields:
        Whether the lock is held; with `wait` always True.

    Raises:
        error: the folder cannot be written.
    """
    with _readable_os_errors(Path(path), error):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a")  # noqa: SIM115 - closed below
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def check_free(
    target: Path, error: type[GraphrecError] = GraphrecError, overwrite: bool = False, marker: str | tuple[str, ...] = ()
) -> None:
    """Raise what `atomic_folder` would raise for a folder that is already there; to ask before work that takes long.

    Raises:
        error: the folder exists and `overwrite` is false, or it does not hold `marker`.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise error(f"{target} already exists; choose another folder, or replace it by --overwrite (overwrite=True)")
    for name in (marker,) if isinstance(marker, str) else marker:
        if not (target / name).exists():
            raise error(f"{target} exists and holds no {name}, so it is not overwritten; choose another folder")


def is_vacant(folder: Path, besides: tuple[str, ...] = (".lock",)) -> bool:
    """Whether a folder, if it is there, holds nothing but what a killed process left of files that it was writing.

    Args:
        folder: any path.
        besides: names that do not count.
    """
    if not folder.is_dir():
        return not folder.exists()
    return all(entry.name in besides or _LEFTOVER.fullmatch(entry.name) for entry in folder.iterdir())


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of the file `path`, which no other process may be writing now."""
    for entry in path.parent.glob(f".{path.name}.*.tmp{path.suffix}"):
        entry.unlink(missing_ok=True)


def allocate(file: IO[bytes], size: int, folder: str | os.PathLike[str], error: type[GraphrecError]) -> None:
    """Give an open file in `folder` its size in bytes and the room on the disk, where the system can.

    A map of a file without that room ends the process by a signal when the disk is full.

    Raises:
        error: the disk is full.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as problem:
        if problem.errno in _FULL:
            raise error(_full_message(Path(folder) / "a file for a while")) from problem
    file.truncate(size)


def check_kind(folder: Path, error: type[GraphrecError], kind: str, marker: str, besides: tuple[str, ...] = (".lock",)) -> None:
    """Make sure that a folder which is written into bit by bit is vacant or one of ours.

    Args:
        folder: what is to be written into.
        error: the exception class for what a user can cause.
        kind: what ours is called.
        marker: a file or folder that ours has.
        besides: names that do not count.

    Raises:
        error: it holds something else, or is a file.
    """
    if not is_vacant(folder, besides) and not (folder / marker).exists():
        raise error(f"{folder} exists and holds no {kind} ({marker} is missing), so nothing is written there; choose another folder")


def check_file(path: str | os.PathLike[str], error: type[GraphrecError] = GraphrecError, overwrite: bool = False) -> None:
    """Ask before work that takes long whether a file may be written to `path`.

    Raises:
        error: it is a folder, or a file that is there while `overwrite` is false.
    """
    if os.path.isdir(path):
        raise error(f"{path} is a folder; give the name of a file")
    if os.path.exists(path) and not overwrite:
        raise error(f"{path} already exists; choose another file, or replace it by --overwrite (overwrite=True)")


def is_writable(folder: str | os.PathLike[str]) -> bool:
    """Tell whether nothing forbids to write into a folder, as read-only storage does; one that is not there may be made."""
    return not os.path.exists(folder) or os.access(folder, os.W_OK | os.X_OK)


def _behind_link(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path) if os.path.islink(path) else path)


def _swap(temporary: Path, target: Path) -> None:
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        os.replace(target, old / "old")
        os.replace(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(temporary, target)


def _remove_leftovers(target: Path) -> None:
    # The lock is held, so nobody is using these. A kill between the two renames of _swap leaves the old folder inside.
    # Exactly one random part: `.shop.v2.XXXXXXXX.tmp` is of the target `shop.v2`, not of `shop`.
    ours = re.compile(re.escape(f".{target.name}.") + r"[^.]+\.tmp")
    for leftover in [entry for entry in target.parent.iterdir() if ours.fullmatch(entry.name)]:
        if (leftover / "old").is_dir() and not target.exists():
            os.replace(leftover / "old", target)
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _lock(target: Path, error: type[GraphrecError]) -> Iterator[None]:
    lock = target.parent / f".{target.name}.lock"
    with open(lock, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A process that just finished removes its lock file; a lock on the removed file would guard nothing.
            held = lock.exists() and os.path.samestat(os.fstat(handle.fileno()), lock.stat())
        except BlockingIOError:
            held = False
        if not held:
            raise error(f"another process is writing {target} right now; wait for it or choose another folder")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def _full_disk_named(target: Path, error: type[GraphrecError]) -> Iterator[None]:
    # Each writer reports a full disk in its own way: Polars and safetensors with exceptions of their own, NumPy with an
    # OSError without number, DGL as an incomplete write. So the free space is looked at, before the temporary goes.
    try:
        yield
    except GraphrecError:
        raise
    except Exception as problem:
        named = getattr(problem, "errno", None) in _FULL or any(os.strerror(number) in str(problem) for number in _FULL)
        if named or shutil.disk_usage(target.parent).free < _NO_SPACE:
            raise error(_full_message(target)) from problem
        raise


def _full_message(target: Path) -> str:
    return f"the disk is full while writing {target}; free some space and run again; no file is half-written"


@contextmanager
def _readable_os_errors(target: Path, error: type[GraphrecError]) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if isinstance(problem, GraphrecError):
            raise
        if problem.errno in _FULL:
            raise error(_full_message(target)) from problem
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise error(f"cannot write {target}: {problem.strerror}; choose a folder you can write") from problem
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
