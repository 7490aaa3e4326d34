"""The checkerboard as text files with a given split, and benchmarks whose cells run in this process, for speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphrec.benchmarking import cell, grid
from tests.training.conftest import NUM_USERS, checkerboard

QUICK = '[model]\nname = "bpr-mf"\nembedding_dim = 8\n[train]\nepochs = 3\nbatch_size = 64\nlearning_rate = {rate}\n'


def write_board(folder: Path, train: str = "train", test: str = "test") -> Path:
    """Write the checkerboard as adjacency lists; its validation items are training items."""
    folder.mkdir(parents=True)
    for name, sides in ((train, ("train", "valid")), (test, ("test",))):
        lines = [
            [user, *(i for u, i, side in checkerboard() if u == user and side in sides)] for user in range(NUM_USERS)
        ]
        (folder / f"{name}.txt").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    return folder


def write_run_file(path: Path, rate: float = 0.05) -> str:
    """Write a run file that trains in no time."""
    path.write_text(QUICK.format(rate=rate))
    return str(path)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return write_board(tmp_path / "board")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run cells in this process; the list tells which were measured."""
    rows: list[str] = []

    def run(folder: Path) -> None:
        rows.append(folder.parent.name)
        cell.main(folder)

    monkeypatch.setattr(grid, "_run", run)
    return rows
