"""Check and time every CUDA operator of graphrec on one GPU, in at most eight minutes.

    python examples/benchmarks/gpu.py --data DIR --out gpu.md --json
    python examples/benchmarks/gpu.py --emulated $(python kernels/emulation/build.py)

Needs torch with CUDA and NumPy; where graphrec's CUDA library is missing or older than its source, nvcc builds it first. In this order:
  1. every operator against float64 on small random graphs and on one of Gowalla's size, and a LightGCN step on the small ones,
  2. times, warm and with the L2 cache flushed, beside torch's operators (CSR products are cuSPARSE's),
  3. a whole LightGCN epoch of the benchmark's own with one CUDA graph per step (gpu_epoch.py; training itself captures nothing),
  4. the small checks once more under compute-sanitizer, where it is installed and as long as time is left.

DIR holds a `train.txt` adjacency list, plain or .gz (`user item item ...`); without it a power-law graph of Gowalla's size
is drawn. With --emulated only the small checks run, on the host, through the library that kernels/emulation/build.py
prints. Exits with 1 where a check or a sanitizer fails or there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import types
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "graphrec" / "_native" / "libgraphrec_cuda.so"
GOWALLA = 29_858, 40_981, 810_128  # users, items, training edges
LIMIT = 480.0  # seconds for everything, unless --limit says otherwise
SANITIZER_TOOLS = ("memcheck", "synccheck", "racecheck")


def find(program: str) -> str | None:
    """A CUDA program on the PATH, below CUDA_HOME or the usual folder, or in NVIDIA's Python packages."""
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / part for part in ("bin", "compute-sanitizer")]
    spec = importlib.util.find_spec("nvidia")
    for place in [] if spec is None else spec.submodule_search_locations or []:
        folders += sorted(Path(place).glob("*/bin"))
    return shutil.which(program) or next((str(folder / program) for folder in folders if (folder / program).is_file()), None)


def build_library(folder: Path) -> dict[str, float]:
    """Compile kernels/cuda for the GPU that is there; returns the seconds of each file.

    Raises:
        SystemExit: there is no nvcc, or it refused a file.
    """
    nvcc = find("nvcc")
    if nvcc is None:
        raise SystemExit(f"gpu.py: {LIBRARY} was not built and there is no nvcc; install the CUDA toolkit or set CUDA_HOME")
    major, minor = torch.cuda.get_device_capability()
    flags = ["-std=c++17", "-O3", f"-arch=sm_{major}{minor}", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
    flags.append(f"-I{ROOT / 'kernels' / 'include'}")

    def compile_file(source: Path) -> tuple[str, float, Path]:
        start, target = time.perf_counter(), folder / f"{source.stem}.o"
        _command([nvcc, *flags, "-c", "-o", str(target), str(source)])
        return source.stem, time.perf_counter() - start, target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(compile_file, sorted((ROOT / "kernels" / "cuda").glob("*.cu"))))
    LIBRARY.parent.mkdir(exist_ok=True)
    partial = LIBRARY.with_suffix(".partial")
    _command([nvcc, "-shared", "-o", str(partial), *(str(target) for _, _, target in done)])
    partial.replace(LIBRARY)
    return {name: seconds for name, seconds, _ in done}


def _command(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"gpu.py: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def import_checks() -> Any:
    """gpu_checks, which imports graphrec.ops; graphrec need not be installed."""
    if importlib.util.find_spec("graphrec") is None:
        sys.path.insert(0, str(ROOT))
    if importlib.util.find_spec("scipy") is None:  # only Relation.from_scipy needs it, and nothing here calls that
        sys.modules["scipy"] = types.ModuleType("scipy")
        sys.modules["scipy.sparse"] = sys.modules["scipy"].sparse = types.ModuleType("scipy.sparse")
    import gpu_checks

    return gpu_checks


def run_checks(graphs: list[tuple[Any, bool]], captured: bool = False) -> list[dict[str, Any]]:
    """All checks on each graph; prints those that fail. `captured`: the epoch's steps are CUDA graphs, as when they are timed."""
    checks = import_checks()
    from gpu_epoch import captured_checks, epoch_checks
    from gpu_variants import all_variants

    results = []
    for graph, large in graphs:
        own = checks.all_checks(graph, large)
        epoch = captured_checks if captured else epoch_checks
        for name, error, allowed in own if large else chain(own, all_variants(graph), epoch(graph)):
            results.append({"check": name, "error": error, "allowed": allowed, "passed": error <= allowed})
            if error > allowed:
                print(f"FAILED {name}: error {error:.3g}, allowed {allowed:.3g}", flush=True)
    print(f"{sum(result['passed'] for result in results)} of {len(results)} checks passed", flush=True)
    return results


def small_graphs(device: str, count: int = 3) -> list[tuple[Any, bool]]:
    """The first has users of over 256 items, whose rows whole blocks take."""
    checks = import_checks()
    sizes = (5, 700, 2000), (60, 170, 900), (301, 90, 3000)
    return [(checks.power_law(*size).to(device), False) for size in sizes[:count]]


def sanitize(deadline: float) -> dict[str, str]:
    """The small checks under each tool of compute-sanitizer: "passed", "FAILED" and the end of what it printed, or why it did not run."""
    sanitizer = find("compute-sanitizer")
    if sanitizer is None:
        return {"compute-sanitizer": "not installed"}
    results = {}
    for tool in SANITIZER_TOOLS:
        left = min(deadline - time.perf_counter(), 120.0)
        count = "1" if tool == "racecheck" else "3"  # which is much slower than the others
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--small", count]
        if left < 5:
            results[tool] = "no time left"
            continue
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            results[tool] = f"not done in {left:.0f} s"
            continue
        results[tool] = "passed" if done.returncode == 0 else "FAILED\n" + (done.stdout + done.stderr)[-2000:]
        print(f"compute-sanitizer {tool}: {results[tool]}", flush=True)
    return results


def versions() -> dict[str, str]:
    cuda = torch.version.cuda or "none"
    named = {"python": platform.python_version(), "torch": torch.__version__, "cuda": cuda}
    if torch.cuda.is_available():
        named["device"] = torch.cuda.get_device_name()
    return {"date": datetime.date.today().isoformat(), **named}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: one line per row, only the columns that occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        text = ("" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append("| " + " | ".join(text) + " |")
    return lines


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    checks = result["checks"]
    failed = [check for check in checks if not check["passed"]]
    lines = ["# CUDA operators", "", ", ".join(f"{name} {value}" for name, value in result["versions"].items()), ""]
    lines += [result["graph"], "", f"{len(checks) - len(failed)} of {len(checks)} checks passed.", ""]
    lines += [f"- FAILED {check['check']}: error {check['error']:.3g}" for check in failed]
    for tool, outcome in result["sanitizer"].items():
        first, *more = outcome.splitlines()
        lines.append(f"- compute-sanitizer {tool}: {first}{': ' + more[-1] if more else ''}")
    timed = [row for row in result["rows"] if "seconds" not in row]
    whole = [row for row in result["rows"] if "seconds" in row]
    if timed:
        lines += ["", "gb_s counts every gathered row; of_copy is its share of the copy bandwidth. peer_by: torch's way ran as a CUDA graph, as ours did, or as a loop of calls.", "", *table(timed)]
    return "\n".join([*lines, "", *(table(whole) if whole else []), ""])


def measure(relation: Any, deadline: float) -> list[dict[str, Any]]:
    """The timing rows, as many as the time allows."""
    from gpu_timing import all_timings

    checks = import_checks()
    rows = []
    for row in all_timings(relation, checks.both_ways(relation)):
        rows.append(row)
        shown = (f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items())
        print(", ".join(shown), flush=True)
        if time.perf_counter() > deadline:
            rows.append({"operator": "stopped: no time left"})
            break
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with a train.txt adjacency list")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the tables to this file as markdown")
    parser.add_argument("--emulated", type=Path, metavar="LIBRARY", help="only small checks, on the host through this library")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS", help="for everything (default: %(default)g)")
    parser.add_argument("--small", type=int, choices=(1, 2, 3), help="only small checks, on the GPU and this many graphs")
    options = parser.parse_args()
    if options.data is not None and not any((options.data / name).is_file() for name in ("train.txt", "train.txt.gz")):
        parser.error(f"{options.data} holds neither train.txt nor train.txt.gz")
    return options


def on_gpu(options: argparse.Namespace, result: dict[str, Any], start: float) -> None:
    """Fill the result on the GPU."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch finds no CUDA GPU; run it on a machine with one, or give --emulated LIBRARY")
    sources = [path for folder in ("cuda", "include") for path in (ROOT / "kernels" / folder).iterdir()]
    if not LIBRARY.is_file() or LIBRARY.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        with tempfile.TemporaryDirectory() as folder:
            result["compile_seconds"] = build_library(Path(folder))
        print("compiled:", ", ".join(f"{name} {s:.1f} s" for name, s in result["compile_seconds"].items()), flush=True)
    checks = import_checks()
    from graphrec.ops import backend

    if backend("cuda") != "native-cuda":
        raise SystemExit(f"gpu.py: graphrec runs its {backend('cuda')} on the GPU, not {LIBRARY}; unset GRAPHREC_BACKEND")
    result["versions"]["backend"] = backend("cuda")
    graphs = small_graphs("cuda", options.small or 3)
    if options.small is not None:
        result["checks"] = run_checks(graphs)
        return
    relation = checks.power_law(*GOWALLA) if options.data is None else checks.read_relation(options.data)
    source = "power law" if options.data is None else str(options.data)
    result["graph"] = f"{source}: {relation.num_dst} users, {relation.num_src} items, {relation.num_edges} edges"
    relation = relation.to("cuda")
    result["checks"] = run_checks([*graphs, (relation, True)], captured=True)
    torch.cuda.empty_cache()
    result["rows"] = measure(relation, start + 0.75 * options.limit)
    result["sanitizer"] = sanitize(start + options.limit)


def main() -> None:
    start, options = time.perf_counter(), parse()
    result: dict[str, Any] = {"versions": versions(), "graph": "small graphs", "checks": [], "sanitizer": {}, "rows": []}
    if options.emulated is None:
        on_gpu(options, result, start)
    else:
        import_checks()
        from graphrec import _kernels, ops

        with _kernels.replaced(options.emulated, "cuda"):
            result["versions"]["backend"] = f"{ops.backend('cuda')}, emulated"
            result["checks"] = run_checks(small_graphs("cpu"))
    result["seconds"] = time.perf_counter() - start
    if options.out is not None:
        options.out.write_text(markdown(result))
    if options.json:
        print(json.dumps(result))
    passed = [check["passed"] for check in result["checks"]]
    passed += [not outcome.startswith("FAILED") for outcome in result["sanitizer"].values()]
    if not all(passed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
