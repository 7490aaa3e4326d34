"""The temporary folder of a log that is read: unpacked copies and clean events, gone with the process at the latest."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "graphrec-log-"
_LOCK = "lock"


class Spool(tempfile.TemporaryDirectory[str]):
    """A temporary folder with a locked file in it; those whose process was killed are removed when the next one is made."""

    def __init__(self) -> None:
        _remove_stale()
        super().__init__(prefix=PREFIX)
        new = Path(self.name) / f"{_LOCK}.new"
        self._lock = open(new, "w")  # noqa: SIM115 - locked as long as the folder is there
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks: never taken for stale
            return
        os.replace(new, new.with_name(_LOCK))  # under this name it is locked from the first moment

    def cleanup(self) -> None:
        """Remove the folder."""
        super().cleanup()
        self._lock.close()


def _remove_stale() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / _LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process lives
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
