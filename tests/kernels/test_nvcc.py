"""Every CUDA file compiles without warnings, and on no device of the build a hot kernel spills registers to memory."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from .conftest import ROOT

SOURCES = sorted((ROOT / "kernels" / "cuda").glob("*.cu"))
HOT = re.compile(r"(spmm|spmm_max|sddmm|hetero|gat|gat_backward)_(rows|columns)"
                 r"|pair_losses|row_gradients|softmax_(totals|gradients)|best_scores|draw_(negatives|neighbors)|adam_step|push_signals")  # fmt: skip
NVCC = shutil.which("nvcc")
DEVICES = re.findall(r"\b(\d+)-real", (ROOT / "kernels" / "CMakeLists.txt").read_text())


@pytest.mark.skipif(NVCC is None, reason="no nvcc on the PATH: the CUDA kernels cannot be compiled for a device")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compiles_without_warnings_or_spills(source, tmp_path):
    flags = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v", "-fatbin"]
    flags += [f"-gencode=arch=compute_{number},code=sm_{number}" for number in DEVICES]
    command = [NVCC, *flags, f"-I{ROOT / 'kernels' / 'include'}", "-o", str(tmp_path / "out.fatbin"), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = done.stderr + done.stdout
    spills = r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    hot = [found for found in re.findall(spills, report, re.DOTALL) if HOT.search(found[0])]
    assert {number for _, number, *_ in hot} == (set() if source.stem == "library" else set(DEVICES))
    assert [(name, number) for name, number, *spilled in hot if spilled != ["0", "0"]] == []
