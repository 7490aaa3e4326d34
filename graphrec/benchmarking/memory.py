"""How much memory a stage of this process takes at most."""

from __future__ import annotations

import resource
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
