"""Cells: measured once, again where something changed, one failing alone, and never on the test items with --validate."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import graphrec
from graphrec.benchmarking import grid
from graphrec.errors import ConfigError, LogError, RunError
from graphrec.evaluation import METRICS
from graphrec.models import MODELS
from graphrec.tuning.tune import tune
from tests.benchmarking.conftest import write_board, write_run_file
from tests.notes import Notes
from tests.training.conftest import checkerboard, make_store

HERE = Path(__file__).parent


def bench(data, models, folder, **options):
    return graphrec.benchmark(data, models, folder, **{"k": 5, **options})


def test_models_are_measured_as_train_and_evaluate_measure_them(board, tmp_path, measured):
    run_file = write_run_file(tmp_path / "quick.toml")
    result = bench(board, ["item-knn", run_file], tmp_path / "out", seeds=2)
    assert [(row.data, row.row, row.seeds) for row in result.rows] == [("board", "item-knn", 2), ("board", "quick", 2)]
    store = graphrec.GraphStore.open(tmp_path / "out" / "stores" / "board")
    settings = {"epochs": 3, "batch_size": 64, "learning_rate": 0.05}
    values = []
    for seed in range(2):
        run = graphrec.train(
            store, "bpr-mf", tmp_path / str(seed), {**settings, "seed": seed}, model_settings={"embedding_dim": 8}
        )
        values.append(graphrec.evaluate(run, k=5, metrics=("recall", "ndcg")).metrics)
    quick = result.rows[1]
    for name in ("recall@5", "ndcg@5"):
        a, b = (value[name] for value in values)
        assert quick.mean[name] == pytest.approx((a + b) / 2) and quick.sd[name] == pytest.approx(abs(a - b) / 2**0.5)
    assert result.rows[0].mean["recall@5"] == 1.0 and result.rows[0].sd["recall@5"] == 0.0
    assert quick.fit_seconds > 0 and quick.total_seconds > quick.fit_seconds and quick.peak_mb > 50


def test_names_of_the_calling_process_alone_are_told_from_unknown_ones(board, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "own", "tests.models.test_own_parts:Named")
    monkeypatch.setitem(METRICS, "own", METRICS["recall"])
    for models, metrics, what in (("own", "recall", "model"), ("popularity", "own", "metric")):
        [cell] = bench(board, models, tmp_path / what, metrics=metrics).cells
        assert cell.result is None
        assert re.search(f"unknown {what} 'own'; .* process of its own, which does not know what was registered at run", cell.error)


def test_test_items_that_training_does_not_know_are_said_in_every_table(board, tmp_path, measured):
    with open(board / "test.txt", "a") as file:
        file.write("0 777\n99 1 778\n")
    result = bench(board, "popularity", tmp_path / "out")
    said = "board: left out of every metric: 3 of 51 held-out interactions, whose user or item training does not know; users who have no others: 1"
    for name in ("markdown", "html"):
        assert said in result.files[name].read_text()


def test_a_finished_cell_is_kept_and_a_changed_one_is_measured_again(board, tmp_path, measured):
    models = ["popularity", write_run_file(tmp_path / "quick.toml")]
    first = bench(board, models, tmp_path / "out", seeds=2)
    assert len(measured) == 4
    again = bench(board, models, tmp_path / "out", seeds=3)
    assert len(measured) == 6
    assert [cell.result for cell in again.cells if cell.seed < 2] == [cell.result for cell in first.cells]
    write_run_file(tmp_path / "quick.toml", rate=0.01)
    notes = Notes()
    bench(board, models, tmp_path / "out", seeds=2, progress=notes)
    assert len(measured) == 8
    assert "board quick seed 0: measured again, for other settings: train.learning_rate" in notes.lines
    (board / "test.txt").write_text("".join((board / "test.txt").read_text().splitlines(keepends=True)[1:]))
    notes = Notes()
    changed = bench(board, models, tmp_path / "out", progress=notes)
    assert len(measured) == 10 and any(line.endswith("other settings: data") for line in notes.lines)
    assert changed.cells[0].result["users"] == 23


def test_a_damaged_cell_is_measured_again(board, tmp_path, measured):
    result = bench(board, "popularity", tmp_path / "out")
    path = result.cells[0].folder / "cell.json"
    path.write_text(path.read_text()[:100])
    assert bench(board, "popularity", tmp_path / "out").cells[0].result["metrics"] == result.cells[0].result["metrics"]
    assert len(measured) == 2


def test_kept_cells_of_another_version_or_device_are_told(board, tmp_path, measured):
    run_file = write_run_file(tmp_path / "quick.toml")
    models = ["popularity", run_file, f"sum:popularity+{run_file}"]
    first = bench(board, models, tmp_path / "out", device="cpu")
    for cell in first.cells:
        assert (cell.result["version"], cell.result["device"]) == (graphrec.__version__, "cpu")
    assert "graphrec " + graphrec.__version__ in first.files["html"].read_text()
    same, other = Notes(), Notes()
    bench(board, models, tmp_path / "out", device="cpu", progress=same)
    assert not [line for line in same.lines if "kept" in line]
    for cell, changes in zip(first.cells, ({"version": "0.0.9"}, {"device": "cuda:0", "version": None}, {}), strict=True):
        path = cell.folder / "cell.json"
        content = json.loads(path.read_text())
        content["result"] = {name: value for name, value in {**content["result"], **changes}.items() if value is not None}
        path.write_text(json.dumps(content))
    bench(board, models, tmp_path / "out", device="cpu", progress=other)
    assert len(measured) == 3
    told = [line.partition(";")[0] for line in other.lines if "kept" in line]
    now = graphrec.__version__
    assert told == [
        f"board: kept cells measured by graphrec 0.0.9, not {now}: 1",
        f"board: kept cells measured by graphrec of an unknown version, not {now}: 1",
        "board: kept cells measured on cuda:0, not cpu: 1",
    ]


def test_metrics_of_a_run_file_are_told_to_be_unused(board, tmp_path, measured):
    run_file = Path(write_run_file(tmp_path / "quick.toml"))
    notes = Notes()
    bench(board, str(run_file), tmp_path / "out", progress=notes)
    assert not [line for line in notes.lines if "[evaluate]" in line]
    run_file.write_text(run_file.read_text() + '[evaluate]\nmetrics = ["hit"]\nk = 3\n')
    result = bench(board, str(run_file), tmp_path / "out", progress=notes)
    (told,) = [line for line in notes.lines if "[evaluate]" in line]
    assert told.startswith(f"{run_file}: its [evaluate] k, metrics is not used; all rows are measured alike")
    assert set(result.rows[0].mean) == {"recall@5", "ndcg@5"}


def test_the_seed_of_a_run_file_is_told_to_be_unused(board, tmp_path, measured):
    run_file = Path(write_run_file(tmp_path / "quick.toml"))
    run_file.write_text(run_file.read_text() + "seed = 7\n")
    notes = Notes()
    result = bench(board, str(run_file), tmp_path / "out", progress=notes)
    assert [cell.seed for cell in result.cells] == [0]
    assert [line for line in notes.lines if line.startswith(f"{run_file}: its [train] seed 7 is not used; the seeds are those of")]


def test_a_failing_cell_is_named_and_the_others_go_on(board, tmp_path, measured):
    broken = write_run_file(tmp_path / "broken.toml", rate=1e30)
    result = bench(board, [broken, "popularity", f"sum:popularity+{broken}"], tmp_path / "out")
    assert [cell.row for cell in result.failures] == ["broken", "sum:popularity+broken"]
    assert "the loss became" in result.failures[0].error
    assert result.failures[1].error == "broken failed, so there is nothing to add"
    assert result.rows[1].mean["recall@5"] > 0 and result.rows[0].errors
    cells = list(csv.DictReader(result.files["cells"].read_text().splitlines()))
    assert "the loss became" in cells[0]["error"] and cells[1]["error"] == ""
    for name in ("markdown", "html"):
        assert "the loss became" in result.files[name].read_text()
    write_run_file(tmp_path / "broken.toml", rate=0.05)
    assert not bench(board, [broken, "popularity"], tmp_path / "out").failures


def test_validate_never_reads_the_test_items(board, tmp_path, measured, monkeypatch):
    read = graphrec.GraphStore.interactions

    def guarded(self, split="train", behavior=None):
        assert split != "test"
        return read(self, split, behavior)

    monkeypatch.setattr(graphrec.GraphStore, "interactions", guarded)
    result = bench(board, ["item-knn", "popularity", "sum:item-knn+popularity"], tmp_path / "out", validate=True)
    assert not result.failures and result.rows[0].mean["recall@5"] > 0.9
    assert "not looked at" in result.files["markdown"].read_text()


def test_a_graph_store_is_taken_as_it_is_and_training_may_stop_early_by_its_own_split(tmp_path, measured):
    store = make_store(tmp_path / "store", checkerboard())
    (tmp_path / "run.toml").write_text(
        '[model]\nname = "bpr-mf"\n[train]\nepochs = 50\neval_every = 1\npatience = 1\nmetric = "ndcg@5"\nlearning_rate = 0.1\n'
    )
    early = bench(store.folder, str(tmp_path / "run.toml"), tmp_path / "out")
    assert early.cells[0].result["epochs"] < 50 and early.cells[0].result["build_seconds"] is None
    assert "validation items where the data have them, are left out" in early.files["markdown"].read_text()
    whole = bench(store.folder, str(tmp_path / "run.toml"), tmp_path / "validated", validate=True)
    assert whole.cells[0].result["epochs"] == 50  # what it is measured on may not steer it
    plain = make_store(tmp_path / "plain", [(u, i, "train" if s == "valid" else s) for u, i, s in checkerboard()])
    refused = bench(plain.folder, "popularity", tmp_path / "out", validate=True)
    assert "no validation split to measure on" in refused.failures[0].error
    assert "the validation split of a graph store" in whole.files["markdown"].read_text()


def test_a_row_that_was_tuned_on_the_split_that_it_is_measured_on_is_told(tmp_path, measured):
    store = make_store(tmp_path / "store", checkerboard()).folder
    fast = {"trials": 1, "defaults": False, "space": {"model.neighbours": [5]}}
    found = tune(store, "item-knn", tmp_path / "study", fast, train_settings={"metric": "ndcg@5"})
    for validate, told in ((True, 1), (False, 0)):
        notes = Notes()
        bench(store, str(found.best_file), tmp_path / f"out-{validate}", validate=validate, progress=notes)
        assert len([line for line in notes.lines if f"found by the validation split of {store}" in line]) == told


def test_a_folder_of_triples_is_read(tmp_path, measured):
    folder = tmp_path / "lastfm"
    folder.mkdir()
    for name, sides in (("data1", ("train", "valid")), ("test1", ("test",))):
        (folder / f"{name}.txt").write_text("".join(f"{u}\t{i}\t7\n" for u, i, side in checkerboard() if side in sides))
    same = write_board(tmp_path / "board")
    result = bench([folder, same], "item-knn", tmp_path / "out")
    assert [row.data for row in result.rows] == ["lastfm", "board"]
    assert result.rows[0].mean == result.rows[1].mean


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("lightgnc", "did you mean 'lightgcn'"),
        ("popularity,popularity", "is there twice"),
        ("sum:popularity", "adds two models"),
        ("sum:popularity+popularity", "adds a model to itself"),
        ("1*bpr-mf", r"1\*bpr-mf is the mean of 1; give 2 or more, or the name alone"),
        ("x*popularity", "unknown model 'x\\*popularity'"),
        ("2*", "unknown model '2\\*'"),
        ("missing.toml", "there is no run file"),
        ("popularity,", "models: a name is empty, got 'popularity,'; give names or run files, with one comma between two"),
        ("", "models: a name is empty, got ''"),
        ([], r"models: none is given, got \[\]"),
    ],
)
def test_mistakes_show_before_anything_runs(board, tmp_path, measured, models, message):
    with pytest.raises(ConfigError, match=message):
        bench(board, models, tmp_path / "out")
    assert not measured and not (tmp_path / "out").exists()


def test_a_list_or_a_metric_that_the_data_do_not_have_shows_before_a_model_is_trained(board, tmp_path, measured):
    for how, message in (({"k": 99}, r"k must lie in 1\.\.20.*got 99"), ({"metrics": "rmse"}, "every test interaction has the weight 1")):
        result = bench(board, ["popularity", "item-knn"], tmp_path / "out", **how)
        assert len(result.failures) == 2 and all(re.search(message, cell.error) for cell in result.failures)
    assert not measured


def test_scores_that_are_no_ratings_are_a_dash_beside_those_that_are(tmp_path, measured):
    rows = [(user, item, "test" if user == item else "train") for user in range(20) for item in range(8)]
    store = make_store(tmp_path / "store", rows, [1.0 + user % 5 for user, _, _ in rows])
    (tmp_path / "gcmc.toml").write_text('[model]\nname = "gc-mc"\n[train]\nepochs = 1\n')
    result = bench(store.folder, ["popularity", str(tmp_path / "gcmc.toml")], tmp_path / "out", metrics=["recall", "rmse"])
    measured.clear()
    mean = bench(store.folder, f"2*{tmp_path / 'gcmc.toml'}", tmp_path / "mean", metrics="rmse")
    assert "the scores of sum order items and are no ratings" in mean.failures[0].error and not measured
    popular, rated = result.rows
    assert not result.failures and "rmse" not in popular.mean and rated.mean["rmse"] > 0
    text = result.files["markdown"].read_text()
    assert "A dash under rmse or mae: the scores of that model are no ratings" in text
    assert re.search(r"\| `popularity` \| 1 \| \d\.\d{4} \| – \|", text)


def test_a_missing_folder_and_a_wrong_metric_show_before_anything_runs(board, tmp_path):
    with pytest.raises(LogError, match="no such data folder"):
        bench(tmp_path / "nowhere", "popularity", tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'recall'"):
        bench(board, "popularity", tmp_path / "out", metrics="recal")
    for data, message in (([], r"data: none is given, got \[\]"), ([board, ""], "data: a name is empty"), ("", "data: a name is empty")):
        with pytest.raises(ConfigError, match=message):
            bench(data, "popularity", tmp_path / "out")
    for how in ({"seeds": "2"}, {"seeds": 0}, {"first_seed": 0.5}, {"first_seed": -1}):
        with pytest.raises(ConfigError, match="seeds must be a whole number of at least 1 and first_seed one of at least 0, got "):
            bench(board, "popularity", tmp_path / "out", **how)
    with pytest.raises(ConfigError, match="names a folder twice"):
        bench([board, board], "popularity", tmp_path / "out")


def test_a_folder_with_other_things_is_left_alone(board, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(RunError, match="holds no benchmark"):
        bench(board, "popularity", tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_failure_on_the_data_leaves_a_folder_that_the_corrected_command_takes(board, tmp_path, measured):
    (tmp_path / "wrong").mkdir()
    wrong = bench(tmp_path / "wrong", "popularity", tmp_path / "out")
    assert [cell.result for cell in wrong.failures] == [None] and "markdown" in wrong.files
    right = bench(board, "popularity", tmp_path / "out")
    assert not right.failures and "board" in right.files["markdown"].read_text()


def test_tables_are_kept_where_no_cell_is_finished_and_cells_outside_of_a_table_are_told(board, tmp_path, measured):
    whole = bench(board, ["popularity", "item-knn"], tmp_path / "out", seeds=2)
    before = whole.files["markdown"].read_bytes()
    assert not whole.not_shown
    notes = Notes()
    broken = bench(board, write_run_file(tmp_path / "broken.toml", rate=1e30), tmp_path / "out", progress=notes)
    assert broken.failures and not broken.files and whole.files["markdown"].read_bytes() == before
    assert any("stay as an earlier call wrote them" in line for line in notes.lines)
    narrow = bench(board, "popularity", tmp_path / "out")
    assert narrow.not_shown == {"board/item-knn": 2, "board/popularity": 1}


def test_two_benchmarks_do_not_write_one_folder(board, tmp_path):
    from graphrec.atomic import locked

    with locked(tmp_path / "out" / ".lock"), pytest.raises(RunError, match="another process is at work"):
        bench(board, "popularity", tmp_path / "out")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo a warning; echo 'error: a rule, a value'; echo its mend; exit 1", "a rule, a value\nits mend"),
        ("echo Traceback; echo 'ValueError: wrong'; exit 1", "ValueError: wrong"),
        ("exit 3", "the process ended with status 3"),
        ("kill -9 $$", "ended by signal 9, as when memory runs out"),
    ],
)
def test_the_message_of_a_failing_process_is_found(tmp_path, monkeypatch, script, message):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(grid.sys, "executable", str(program))
    with pytest.raises(RunError, match=re.escape(message)):
        grid._run(tmp_path)


def test_a_killed_benchmark_goes_on_and_leaves_no_process_behind(board, tmp_path, measured):
    """Its first cell is measured in a real process; the whole dies while the second one is at work."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, HERE / "killed.py", board, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    orphan = Path("/proc") / done.stdout.strip()
    deadline = time.monotonic() + 60
    while orphan.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not orphan.exists()
    place = tmp_path / "out" / "cells" / "board"
    first = json.loads((place / "item-knn" / "seed-0" / "cell.json").read_text())
    assert first["result"]["metrics"]["recall@5"] == 1.0 and 50 < first["result"]["peak_mb"] < 5000
    assert [entry.name for entry in (place / "popularity").iterdir() if entry.name.endswith(".tmp")]
    result = bench(board, ["item-knn", "popularity"], tmp_path / "out")
    assert len(measured) == 1 and not result.failures
    assert sorted(entry.name for entry in (place / "popularity").iterdir()) == ["seed-0"]
    assert result.cells[0].result == first["result"]


def test_metrics_without_a_value_for_each_user_are_tabled_and_not_tested(board, tmp_path, measured):
    found = bench(board, ["popularity", "item-knn"], tmp_path / "out", metrics=["coverage"])
    assert not found.failures and not found.comparisons
    assert "coverage@" in found.files["markdown"].read_text()
