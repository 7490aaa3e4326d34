"""What a run tells while it trains: one JSON line per epoch in `metrics.jsonl`, and the same as TensorBoard events."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphrec.errors import RunError

FILE = "metrics.jsonl"


class Journal:
    """Appends records to a run folder.

    A checkpoint remembers the length of `metrics.jsonl`; a resumed run cuts the file back to it, and writes the lines after
    it again, so that none is lost and none is there twice.

    Args:
        folder: the run folder.
        length: bytes of `metrics.jsonl` to keep; 0 for a new run.
        step: the step training goes on from; TensorBoard drops events after it.

    Raises:
        RunError: the file is shorter than it was at the checkpoint.
    """

    def __init__(self, folder: Path, length: int = 0, step: int = 0) -> None:
        self._path = folder / FILE
        self._file = open(self._path, "ab")  # noqa: SIM115 - open as long as the run trains
        size = os.path.getsize(self._path)
        if size < length:
            self._file.close()
            raise RunError(
                f"{self._path} holds {size} bytes, {length} were written before the checkpoint: it was cut or replaced; "
                "put it back, or train again with --overwrite"
            )
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)
        self._events = _event_writer(folder, step)

    @property
    def length(self) -> int:
        """Bytes of `metrics.jsonl`, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one line, and every number in it (nested ones as `valid/recall@20`) as a TensorBoard scalar.

        Raises:
            RunError: the disk is full.
        """
        try:
            self._file.write((json.dumps(values) + "\n").encode())
            self._file.flush()
            for name, value in _numbers(values):
                self._events.add_scalar(name, value, step)
            self._events.flush()
        except OSError as problem:
            raise RunError(
                f"cannot write {self._path}: {problem.strerror}; free some space and go on with --resume"
            ) from problem

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._events.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run folder, oldest first; a line that a kill left unfinished is passed over."""
    path = folder / FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _event_writer(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("epoch", "step"):
            found.append((prefix + name, float(value)))
    return found
