"""What a measuring process knows of itself: how much memory a stage takes at most, and when nobody waits for it any more."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path


def reset_peak() -> None:
    """Start a new stage of memory accounting, where the system can (Linux)."""
    control = Path("/proc/self/clear_refs")
    if control.exists():
        control.write_text("5")


def peak_mb() -> float:
    """Return the largest resident memory since `reset_peak`, or since the start where the system cannot reset, in MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def end_with_parent() -> None:
    """End this process when the other end of its standard input closes: a killed benchmark leaves no orphan at work."""
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock a thread may not hold when the interpreter ends
    os._exit(1)
