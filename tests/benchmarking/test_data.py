"""The data of a benchmark: each folder has a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphrec
from graphrec.benchmarking.data import labels
from graphrec.benchmarking.plan import folder_name
from tests.benchmarking.conftest import write_board


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("/a/given", "/b/other"), ("given", "other")),
        (("/a/given", "/b/given", "/b/other"), ("a-given", "b-given", "other")),
        (("/a/x/given", "/b/x/given"), ("a-x-given", "b-x-given")),
        (("/x/given", "/y/given", "/x-given"), ("x-given", "y-given", "x-given-2")),
        (("/given", "/a/given"), ("given", "a-given")),
        (("/a/my set", "/b/my-set"), ("a-my set", "b-my-set")),
        (("/a-b/c", "/a/b/c", "/z/b/c"), ("a-b-c", "a-b-c-2", "z-b-c")),
    ],
)
def test_every_folder_has_a_name_of_its_own(paths, names):
    found = labels([Path(path) for path in paths])
    assert len({folder_name(name) for name in found.values()}) == len(paths)
    assert tuple(found.values()) == names


def test_folders_that_are_called_alike_share_no_cell(tmp_path, measured):
    boards = [write_board(tmp_path / parent / "x" / "given") for parent in ("a", "b")]
    (boards[1] / "test.txt").write_text("".join((boards[1] / "test.txt").read_text().splitlines(keepends=True)[1:]))
    result = graphrec.benchmark(boards, "item-knn", tmp_path / "out", k=5)
    assert [row.data for row in result.rows] == ["a-x-given", "b-x-given"] and len(measured) == 2
    assert result.cells[0].result["users"] == result.cells[1].result["users"] + 1
    assert not result.comparisons
