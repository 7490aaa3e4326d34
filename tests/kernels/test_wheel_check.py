"""kernels/wheel_check.sh refuses a torch that would need CUDA packages; what it does otherwise, .ci/run does."""

from __future__ import annotations

import subprocess
import sys

from .conftest import ROOT


def test_a_torch_built_for_cuda_is_refused_before_anything_is_built():
    command = ["bash", str(ROOT / "kernels" / "wheel_check.sh"), sys.executable, "2.12.1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stdout == ""
    assert "must be a CPU build, such as 2.12.1+cpu, got 2.12.1" in done.stderr
