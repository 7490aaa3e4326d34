"""What this installation consists of, what is missing, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from graphrec._dgl import import_dgl
from graphrec.errors import GraphrecError

REQUIRED = {
    "torch": "torch",
    "dgl": "dgl",
    "numpy": "numpy",
    "scipy": "scipy",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "networkx": "networkx",
    "safetensors": "safetensors",
    "faiss-cpu": "faiss",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
}
"""Distribution name to the module it is imported as."""

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        group: "versions", "compute" or "extras".
        name: what was looked at.
        value: what was found.
        status: "ok"; "note": works, but could be better; "problem": graphrec cannot do its work.
        advice: what to do, empty when there is nothing to do.
    """

    group: str
    name: str
    value: str
    status: str = OK
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain text values."""
        return asdict(self)


def diagnose() -> list[Finding]:
    """Look at the interpreter, the packages, the compute backend, the devices and the optional extras.

    Every required package is imported, not only looked up, so that a broken one shows.
    """
    return [*_versions(), *_compute(), *_extras()]


def _versions() -> list[Finding]:
    from graphrec import __version__

    supported = (3, 10) <= sys.version_info[:2] <= (3, 12)
    found = [
        Finding("versions", "graphrec", f"{__version__} in {Path(__file__).parent}"),
        Finding(
            "versions",
            "python",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            OK if supported else PROBLEM,
            "" if supported else "graphrec needs Python 3.10, 3.11 or 3.12; make the environment with one of them",
        ),
    ]
    return found + [_package(name, module) for name, module in REQUIRED.items()]


def _package(name: str, module: str) -> Finding:
    reinstall = f"run: pip install -c constraints.txt --force-reinstall {name}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", name, "not installed", PROBLEM, f"run: pip install -c constraints.txt {name}")
    try:
        import_dgl() if module == "dgl" else importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken binary can raise anything at import, and all of it is reported
        return Finding("versions", name, f"{version}, but: {type(error).__name__}: {error}", PROBLEM, reinstall)
    return Finding("versions", name, version)


def _compute() -> list[Finding]:
    steps: list[Callable[[], Finding]] = [_backend, _compiler, _processor, _threads, _gpu]
    found = []
    for step in steps:
        try:
            found.append(step())
        except (ImportError, OSError, GraphrecError) as error:
            found.append(Finding("compute", step.__name__.strip("_"), str(error), PROBLEM, "see the packages above"))
    return found


def _backend() -> Finding:
    from graphrec import ops

    name = ops.backend()
    if name != "reference":
        return Finding("compute", "backend", name)
    if os.environ.get("GRAPHREC_BACKEND") == "reference":
        return Finding("compute", "backend", name, NOTE, "GRAPHREC_BACKEND asks for it; unset it for the kernels")
    mend = "reinstall graphrec (make clean install)"
    if _compiler_path() is None:
        mend = f"install a C++ compiler (Debian, Ubuntu: apt install g++), then {mend}"
    return Finding("compute", "backend", f"{name}: plain torch, several times slower than the kernels", NOTE, mend)


def _compiler() -> Finding:
    path = _compiler_path()
    if path is None:
        return Finding("compute", "C++ compiler", "none found", NOTE, "only needed to build the native kernels")
    return Finding("compute", "C++ compiler", path)


def _compiler_path() -> str | None:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def _processor() -> Finding:
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
    wanted = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "asimd": "NEON"}
    features = [name for flag, name in wanted.items() if flag in flags]
    return Finding("compute", "processor", f"{model}: {', '.join(features) or 'no vector extensions found'}")


def _threads() -> Finding:
    import torch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    value = f"{threads} of {allowed} usable cores"
    if threads < allowed:
        return Finding("compute", "threads", value, NOTE, f"set OMP_NUM_THREADS={allowed} to use all cores")
    return Finding("compute", "threads", value)


def _gpu() -> Finding:
    import torch

    from graphrec import ops

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        backend = ops.backend("cuda")
        if backend == "reference":
            mend = "install the CUDA toolkit (nvcc 11.8 or later), then reinstall graphrec; until then plain torch runs there"
            return Finding("compute", "GPU", f"{', '.join(names)}; no CUDA kernels were built", NOTE, mend)
        return Finding("compute", "GPU", f"{', '.join(names)}; {backend}")
    if shutil.which("nvidia-smi"):
        return Finding(
            "compute", "GPU", f"the system has one, torch {torch.__version__} does not see it", NOTE,
            "install a CUDA build of torch that fits the driver (nvidia-smi shows which)",
        )  # fmt: skip
    return Finding("compute", "GPU", "none")


def _extras() -> list[Finding]:
    try:
        wanted = importlib.metadata.requires("graphrec") or []
        extras = importlib.metadata.metadata("graphrec").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("extras", "graphrec", "runs from source, not installed", NOTE, "run: pip install -e .")]
    return [_extra(extra, wanted) for extra in sorted(extras)]


def _extra(extra: str, wanted: list[str]) -> Finding:
    from packaging.requirements import Requirement

    missing = []
    for requirement in map(Requirement, wanted):
        chosen = requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if chosen and not always and not _installed(requirement.name):
            missing.append(requirement.name)
    if not missing:
        return Finding("extras", extra, "installed")
    return Finding("extras", extra, f"missing {', '.join(missing)}", NOTE, f"run: pip install 'graphrec[{extra}]'")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
