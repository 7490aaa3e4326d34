"""`graphrec benchmark`: options reach the grid, failures the exit code."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from tests.benchmarking.conftest import board, measured, write_run_file  # noqa: F401 - fixtures


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["benchmark", *(str(argument) for argument in arguments)])


def test_it_prints_one_object_and_writes_the_tables(board, tmp_path, measured):  # noqa: F811
    run_file = write_run_file(tmp_path / "quick.toml")
    done = invoke("--data", board, "--models", f"popularity,{run_file}", "--seeds", 2, "--seed", 5, "--k", "3,5",
                  "--metrics", "recall", "--out", tmp_path / "out", "--json", "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [row["row"] for row in answer["rows"]] == ["popularity", "quick"]
    assert set(answer["rows"][0]["mean"]) == {"recall@3", "recall@5"}
    assert [cell["seed"] for cell in answer["cells"]] == [5, 6, 5, 6]
    assert answer["comparisons"][0]["p_holm"] <= 1
    for name in ("cells", "comparisons", "markdown", "html"):
        assert (tmp_path / "out" / answer["files"][name].rsplit("/", 1)[1]).is_file()
    narrow = invoke("--data", board, "--models", "popularity", "--seed", 5, "--k", "3,5", "--metrics", "recall",
                    "--out", tmp_path / "out", "-q")  # fmt: skip
    assert "3 finished cells in" in narrow.stdout and "are in no table: board/popularity, board/quick" in narrow.stdout


def test_a_failing_cell_ends_in_exit_code_1_with_the_table(board, tmp_path, measured):  # noqa: F811
    broken = write_run_file(tmp_path / "broken.toml", rate=1e30)
    done = invoke("--data", board, "--models", f"{broken},popularity", "--k", 5, "--out", tmp_path / "out", "-q")
    assert done.exit_code == 1
    assert "1 failed: the loss became" in done.stdout and "Traceback" not in done.output
    assert "0.1250" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "lightgnc"), "did you mean 'lightgcn'"),
        (("--models", "popularity", "--k", "five"), "--k takes whole numbers"),
        (("--models", "graphrec,popularity"), "graphrec is a folder; give a run file (.toml)"),
        (("--models", "popularity", "--metrics", "recal"), "did you mean 'recall'"),
    ],
)
def test_mistakes_end_in_one_message(board, tmp_path, measured, monkeypatch, arguments, message):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graphrec").mkdir()
    done = invoke("--data", board, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not measured


def test_an_interrupted_benchmark_says_that_it_can_go_on(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("graphrec.benchmarking.contest.run_grid", interrupted)
    done = invoke("--data", tmp_path, "--models", "popularity", "--out", tmp_path / "out", "-q")
    assert done.exit_code == 130 and done.stderr == "interrupted; finished cells are kept, and the same command goes on\n"
