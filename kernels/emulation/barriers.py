"""Takes each barrier out of the CUDA kernels in turn and says whether the small checks of gpu.py notice.

    python kernels/emulation/barriers.py             # all of kernels/cuda: 20 minutes on one core
    python kernels/emulation/barriers.py spmm.cu rows.h

A barrier whose loss nobody notices is either not needed or not tested. Ends with 1 where there is one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parent.parent
CHECKS = KERNELS.parent / "examples" / "benchmarks" / "gpu.py"
BARRIER = re.compile(r"__sync(threads|warp)\(\);")


def found_by(kernels: Path) -> str | None:
    """What the checks said of these kernels, None where they passed."""
    built = subprocess.run([sys.executable, str(kernels / "emulation" / "build.py")], check=True, capture_output=True, text=True)
    command = [sys.executable, str(CHECKS), "--emulated", built.stdout.strip()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    told = [line for line in done.stderr.splitlines() if line.startswith("graphrec emulation: ")]
    return told[0].removeprefix("graphrec emulation: ") if told else f"ended with {done.returncode}"


def main(names: list[str]) -> int:
    """Try each barrier of the named files, all for none."""
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kernels"
        shutil.copytree(KERNELS, copy)
        if found_by(copy) is not None:
            raise SystemExit("the checks fail with every barrier in its place")
        for path in sorted((copy / "cuda").iterdir()):
            if names and path.name not in names:
                continue
            lines = path.read_text().splitlines(keepends=True)
            for number, line in enumerate(lines):
                if not BARRIER.search(line):
                    continue
                path.write_text("".join([*lines[:number], BARRIER.sub(";", line), *lines[number + 1 :]]))
                told = found_by(copy)
                unnoticed += told is None
                print(f"{path.name}:{number + 1}: {told or 'NOT NOTICED'}", flush=True)
            path.write_text("".join(lines))
    return int(unnoticed > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
