"""Builds the CUDA kernels for the host: every file of kernels/cuda with g++ on the emulation, into one shared library.

    python kernels/emulation/build.py            # prints the path of the library
    python kernels/emulation/build.py NAME ...   # with NAME defined, such as GRAPHREC_PLANT_OFF_BY_ONE

Objects are kept in build/emulation under a hash of what they are made of, so that a second build is quick.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KERNELS = Path(__file__).resolve().parent.parent
KEPT = KERNELS.parent / "build" / "emulation"
INCLUDES = [f"-I{KERNELS / folder}" for folder in ("include", "emulation", "cuda")]
COMPILE = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-DGRAPHREC_EMULATION"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
# The handlers of these checks are in emulation.cpp and races.cpp; linking without the flag keeps the compiler's own out.
CHECKS = ["-fsanitize=bounds,alignment,thread", "-g1"]


def compiler() -> str | None:
    """The C++ compiler to use: $CXX, else g++; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build(defines: Sequence[str] = (), sources: Sequence[Path] | None = None, kept: Path = KEPT) -> Path:
    """Compile and link; returns the library.

    Args:
        defines: macros to define; a file that does not name one is not compiled again for it.
        sources: the .cu files; None for all of kernels/cuda.
        kept: folder for objects and libraries.

    Raises:
        RuntimeError: there is no compiler, or it refused a file; the message holds what it printed.
    """
    if compiler() is None:
        raise RuntimeError("the emulation needs g++ (or another compiler named by CXX)")
    kept.mkdir(parents=True, exist_ok=True)
    files = sorted((KERNELS / "cuda").glob("*.cu")) if sources is None else list(sources)
    headers = b"".join(path.read_bytes() for folder in ("include", "emulation", "cuda")
                       for path in sorted((KERNELS / folder).glob("*.h")))  # fmt: skip
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [*files, *sorted((KERNELS / "emulation").glob("*.cpp"))]
        objects = list(pool.map(lambda path: _compile(path, headers, defines, kept), jobs))
    library = kept / f"libgraphrec_emulated_{_digest(*(path.name.encode() for path in objects))}.so"
    return _make(library, [compiler(), "-shared", *map(str, objects)])


def _compile(path: Path, headers: bytes, defines: Sequence[str], kept: Path) -> Path:
    text = path.read_bytes()
    used = [f"-D{name}" for name in defines if name.encode() in text + headers]
    flags = [*COMPILE, *WARNINGS, *(["-O2"] if path.suffix == ".cpp" else CHECKS), *used]
    target = kept / f"{path.stem}_{_digest(headers, text, ' '.join(flags).encode())}.o"
    return _make(target, [compiler(), *flags, *INCLUDES, "-x", "c++", "-c", str(path)])


def _make(target: Path, command: list[str | None]) -> Path:
    """Run the command unless its target is there; it appears at once and whole, and another process waits for it."""
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = target.with_suffix(f".partial{target.suffix}")
            done = subprocess.run([*command, "-o", str(partial)], check=False, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
            partial.replace(target)
    return target


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


if __name__ == "__main__":
    print(build(sys.argv[1:]))
