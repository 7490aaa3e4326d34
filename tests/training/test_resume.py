"""A run that is killed with SIGKILL and resumed is the run that was never killed, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import killed

ROOT = Path(__file__).parents[2]
MOMENTS = {
    "in-steps": ["step:1", "step:5", "adam:3"],
    "in-checkpoints": ["tensors-written:3", "checkpoint:1", "state-before:4"],
    "in-the-journal": ["half-line:1", "record:1", "record:1", "half-line:1"],
    "residual": ["step:2", "checkpoint:1", "record:1"],
    "sampled": ["step:2", "adam:4", "checkpoint:1", "record:1"],
    "history": ["step:2", "adam:4", "checkpoint:1"],
    "overwriting": ["step:2", "record:1", "move:1", "move:1", "move:1", "move:2"],
    "from-outside": ["0.35", "0.5", "0.4", "0.6"],
}


@pytest.fixture(scope="module")
def folder(board, tmp_path_factory) -> Path:
    """Holds one run per entry of MOMENTS, killed there and resumed, and the runs `whole`; and sessions.txt."""
    folder = tmp_path_factory.mktemp("killed")
    whole = {"whole": [], "residual-whole": [], "sampled-whole": [], "history-whole": []}
    runs = [f"{folder / name}={','.join(moments)}" for name, moments in {**whole, **MOMENTS}.items()]
    done = subprocess.run(
        [sys.executable, killed.__file__, str(board.folder), *runs],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    (folder / "sessions.txt").write_text(done.stdout)
    return folder


def sessions(folder: Path, name: str) -> list[str]:
    """How the sessions of a run ended."""
    lines = (folder / "sessions.txt").read_text().splitlines()
    return [line.removeprefix(f"{folder / name} ") for line in lines if line.startswith(f"{folder / name} ")]


def result(folder: Path) -> tuple[bytes, list[dict]]:
    """The weights of a run, and its metrics without what a clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if not key.endswith("_seconds")} for line in lines]
    return (folder / "model" / "model.safetensors").read_bytes(), lines


def test_the_run_that_is_not_killed_validates_and_stops_early(folder):
    assert sessions(folder, "whole") == ["end exit 0"]
    lines = result(folder / "whole")[1]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert all("valid" in line for line in lines)


@pytest.mark.parametrize("name", MOMENTS)
def test_killed_and_resumed_reaches_the_same_weights_and_lines(folder, name):
    ends = sessions(folder, name)
    assert ends[-1] == "end exit 0"
    if name != "from-outside":  # there a session may be over before it is killed
        assert ends[:-1] == [f"{moment} killed" for moment in MOMENTS[name]]
    weights, lines = result(folder / name)
    expected_weights, expected_lines = result(folder / (f"{name}-whole" if name in ("residual", "sampled", "history") else "whole"))
    assert lines == expected_lines
    assert weights == expected_weights
    assert not (folder / name / "replacement").exists()
