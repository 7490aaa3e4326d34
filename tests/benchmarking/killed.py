"""A benchmark that kills itself with SIGKILL while the process of its second cell is at work; run by `test_grid.py`.

    python killed.py DATA FOLDER

prints the number of the process that is left alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import graphrec
from graphrec.benchmarking import grid

ALONE = "import time; from graphrec.benchmarking.process import end_with_parent; end_with_parent(); time.sleep(600)"


def main() -> None:
    """Measure one cell, then die."""
    run = grid._run

    def dying(folder: Path) -> None:
        if "item-knn" in str(folder):
            run(folder)
            return
        process = subprocess.Popen([sys.executable, "-c", ALONE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        print(process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    grid._run = dying
    graphrec.benchmark(sys.argv[1], ["item-knn", "popularity"], sys.argv[2], k=5)


if __name__ == "__main__":
    main()
