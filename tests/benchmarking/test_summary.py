"""Tables: means and deviations by hand, paired tests that find what is there, and what the files show."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import graphrec
from graphrec.benchmarking.grid import Cell
from graphrec.benchmarking.plan import Protocol
from graphrec.benchmarking.report import how_tested, write_reports
from graphrec.benchmarking.summary import Benchmark, compare_rows, mean_sd, summarise
from graphrec.evaluation.result import Evaluation
from graphrec.progress import SILENT
from tests.benchmarking.conftest import write_run_file

PROTOCOL = Protocol([0, 1], (20,), ("recall",), False)
USERS = 200


def make_cell(folder, row: str, seed: int, values: np.ndarray) -> Cell:
    """A finished cell whose users have these values."""
    place = folder / row / str(seed)
    per_user = pl.DataFrame({"user_id": range(USERS), "history": 5, "relevant": 1, "recall@20": values})
    Evaluation(
        "m", "store", "test", "same", {}, {"recall@20": float(values.mean())}, {}, [], [], {}, {}, {}, per_user
    ).save(place)
    costs = {"fit_seconds": 1.0 + seed, "total_seconds": 2.0 + seed, "peak_mb": 100.0 + seed}
    return Cell("set", row, seed, place, {"metrics": {"recall@20": float(values.mean())}, **costs})


@pytest.fixture
def cells(tmp_path) -> list[Cell]:
    """Rows a and b alike, c better for every user; one seed of c failed."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.6, USERS)
    found = [make_cell(tmp_path, row, seed, base + rng.normal(0, 0.02, USERS)) for row in ("a", "b") for seed in (0, 1)]
    found.append(make_cell(tmp_path, "c|d", 0, base + 0.1 + rng.normal(0, 0.02, USERS)))
    return [*found, Cell("set", "c|d", 1, tmp_path, None, "out of <memory>")]


def test_a_benchmark_shows_its_rows_alone(cells, tmp_path):
    shown = repr(Benchmark(tmp_path, Protocol((0,), (20,), ("ndcg",), False), cells, summarise(cells), [], {}, ([], [])))
    assert shown.startswith(f"{tmp_path}: {len(cells)} cells, ") and len(shown.splitlines()) == 1 + len(summarise(cells))


def test_means_deviations_and_failures(cells):
    a, _, c = summarise(cells)
    values = [cell.result["metrics"]["recall@20"] for cell in cells[:2]]
    assert a.mean["recall@20"] == pytest.approx(np.mean(values)) and a.sd["recall@20"] == pytest.approx(
        np.std(values, ddof=1)
    )
    assert (a.fit_seconds, a.total_seconds, a.peak_mb, a.errors) == (1.5, 2.5, 101.0, {})
    assert (c.seeds, c.sd["recall@20"], c.errors) == (1, None, {1: "out of <memory>"})
    assert mean_sd(c, "recall@20") == f"{c.mean['recall@20']:.4f}" and mean_sd(c, "ndcg@20") == "–"


def test_paired_tests_find_the_difference_that_is_there_and_no_other(cells):
    found = {(one.a, one.b): one for one in compare_rows(cells, PROTOCOL, SILENT)}
    assert list(found) == [("a", "b"), ("a", "c|d"), ("b", "c|d")]
    alike, better = found["a", "b"], found["a", "c|d"]
    assert alike.p_holm > 0.05 and alike.seeds == 2 and alike.users == USERS
    assert better.p_holm < 0.01 and better.seeds == 1
    assert better.difference.low > 0.09 and better.difference.high < 0.11
    assert all(one.p_holm >= one.difference.p_permutation for one in found.values())


def test_the_seeds_of_a_user_are_averaged_before_users_are_paired(cells, tmp_path):
    one = compare_rows(cells, PROTOCOL, SILENT)[0]
    values = [
        np.mean([Evaluation.load(c.folder).values("recall@20") for c in cells if c.row == row], axis=0) for row in "ab"
    ]
    assert one.difference.difference == pytest.approx((values[1] - values[0]).mean())


def test_the_files_show_all_of_it(cells, tmp_path):
    files = write_reports(tmp_path, PROTOCOL, cells, summarise(cells), compare_rows(cells, PROTOCOL, SILENT))
    lines = list(csv.DictReader(files["cells"].read_text().splitlines()))
    assert [line["model"] for line in lines] == ["a", "a", "b", "b", "c|d", "c|d"]
    assert float(lines[0]["recall@20"]) == cells[0].result["metrics"]["recall@20"]
    assert lines[5]["error"] == "out of <memory>" and lines[5]["recall@20"] == ""
    pairs = list(csv.DictReader(files["comparisons"].read_text().splitlines()))
    assert len(pairs) == 3 and float(pairs[1]["p_holm"]) < 0.01
    text = files["markdown"].read_text()
    assert re.search(r"\| set \| `a` \| 2 \| 0\.\d{4} ± 0\.\d{4} \| 1\.5 \| 2\.5 \| 101 \|", text)
    assert "| set | `c\\|d` | 1 |" in text and "| set | `a` | `c\\|d` | recall@20 |" in text and "| – |" in text and "- set, `c|d`, seed 1: out of <memory>" in text
    page = files["html"].read_text()
    assert page.startswith("<!doctype html>") and page.count("data:image/png;base64,") == 1
    assert "out of &lt;memory&gt;" in page and "<memory>" not in page
    assert "Paired tests" in page and "± " in page and "5 of 6 cells" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert '<th class="number">recall@20</th>' in page and '<th class="number">fit s</th>' in page


def test_no_zero_has_a_sign(cells, tmp_path):
    pairs = compare_rows([*cells[:2], *(replace(cell, row="b") for cell in cells[:2])], PROTOCOL, SILENT)
    pairs = [replace(one, difference=replace(one.difference, difference=-0.0, low=-0.00001)) for one in pairs]
    files = write_reports(tmp_path, PROTOCOL, cells, summarise(cells), pairs)
    for name in ("markdown", "html"):
        assert "-0.0000" not in files[name].read_text() and "0.0000" in files[name].read_text()


def test_many_rows_leave_room_for_a_finding(tmp_path):
    """With 34 rows the smallest p of 10,000 patterns, adjusted for 561 pairs, would be 0.056."""
    rng = np.random.default_rng(1)
    base = rng.uniform(0.2, 0.6, USERS)
    better = np.where(np.arange(34) == 33, 0.2, 0.0)
    cells = [make_cell(tmp_path, f"r{n:02}", 0, base + better[n] + rng.normal(0, 0.02, USERS)) for n in range(34)]
    found = compare_rows(cells, PROTOCOL, SILENT)
    best = [one for one in found if one.b == "r33"]
    assert len(found) == 34 * 33 / 2 and len(best) == 33
    assert {one.resamples for one in found} == {200 * 561}
    assert all(one.p_holm < 0.01 and one.difference.better == "B" for one in best)
    assert all(one.p_holm > 0.05 for one in found if one.b != "r33")
    note = how_tested(found)
    assert "up to 112,200 sign patterns, so that no p can be below 9e-06" in note and "for 561 pairs below 0.005" in note


def test_a_real_benchmark_has_paired_tests(board, tmp_path, measured):
    models = ["popularity", "item-knn", write_run_file(tmp_path / "quick.toml")]
    result = graphrec.benchmark(board, models, tmp_path / "out", seeds=2, k=5, metrics=("recall", "coverage"))
    assert [(one.a, one.b) for one in result.comparisons] == [
        ("popularity", "item-knn"), ("popularity", "quick"), ("item-knn", "quick")
    ]  # fmt: skip
    assert {one.difference.metric for one in result.comparisons} == {"recall@5"}
    assert result.comparisons[0].difference.better == "B" and result.comparisons[0].p_holm < 0.01
    assert "coverage@5" in result.rows[0].mean
    assert "3 of" not in str(result) and "6 cells, 0 failed" in str(result)
