"""examples/benchmarks/gpu.py: its checks pass on the emulated library, and it says what is missing without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from .conftest import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "benchmarks" / "gpu.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_checks_pass_on_the_emulated_library(emulated, tmp_path):
    done = run("--emulated", str(emulated.path), "--json", "--out", str(tmp_path / "gpu.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["checks"]) > 100 and all(check["passed"] for check in result["checks"])
    assert sum(check["check"].startswith("LightGCN epoch") for check in result["checks"]) == 3 * 2 * 2 * 2
    assert result["versions"]["backend"] == "native-cuda, emulated"
    assert f"{len(result['checks'])} of {len(result['checks'])} checks passed" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = run()
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0 and "no CUDA GPU" in done.stderr


def test_a_folder_without_data_is_refused(tmp_path):
    done = run("--data", str(tmp_path))
    assert done.returncode == 2 and "train.txt" in done.stderr


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_what_is_timed_as_called_gives_what_torchs_way_gives(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "benchmarks")
    import gpu_checks
    import gpu_timing_calls

    graph = gpu_checks.power_law(60, 170, 900)
    compared = 0
    for name, _, run_ours, moved, theirs in gpu_timing_calls._operators(graph):
        found = run_ours()
        assert moved > 0
        if theirs is None:
            continue
        found = list(found.values()) if isinstance(found, dict) else found
        found, wanted = ([part] if isinstance(part, torch.Tensor) else list(part) for part in (found, theirs()))
        wanted = [part.T for part in wanted] if name == "push" else wanted
        for ours, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        compared += 1
    assert compared == 3
    rows = list(gpu_timing_calls.calls(graph, lambda call: float(call() is not None)))
    assert [row["call_us"] for row in rows] == [1.0] * 4


def test_torchs_way_is_captured_too_or_the_row_says_that_it_is_a_loop(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "benchmarks")
    import gpu_timing

    def refused(call, count=1):
        raise RuntimeError("operation not permitted when stream is capturing")

    def elapsed(run, repeats):
        run()
        return 40.0

    called = []
    monkeypatch.setattr(gpu_timing, "elapsed", elapsed)
    monkeypatch.setattr(gpu_timing, "capture", lambda call, count: SimpleNamespace(replay=lambda: called.append(count)))
    assert gpu_timing.fair_time(lambda: called.append(1), 10) == (4.0, "graph") and called == [10]
    monkeypatch.setattr(gpu_timing, "capture", refused)
    assert gpu_timing.fair_time(lambda: called.append(1), 10) == (4.0, "loop") and called == [10, *[1] * 10]
    assert gpu_timing.fair_time(lambda: refused(None), 10) == (None, None)
