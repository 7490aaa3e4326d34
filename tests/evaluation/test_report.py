"""The HTML report: one self-contained file, escaped, with every picture it can draw."""

from __future__ import annotations

import base64
import json
import re

import pytest

from graphrec.errors import RunError
from graphrec.evaluation.evaluate import evaluate
from graphrec.evaluation.report import html_table, report_html, write_report

PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')


def test_report_is_one_file_with_all_pictures(store, model, tmp_path):
    lines = [{"epoch": epoch, "loss": 1 / epoch, "valid": {"ndcg@20": 0.1 * epoch}} for epoch in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = evaluate(model, store)
    path = write_report(tmp_path / "report.html", result, tmp_path)
    text = path.read_text(encoding="utf-8")
    pictures = [base64.b64decode(found) for found in PNG.findall(text)]
    assert len(pictures) == 5
    assert all(picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82") for picture in pictures)
    for heading in ("Overall", "By user activity", "By item popularity", "Training", "How it was measured"):
        assert f"<h2>{heading}" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)  # nothing is fetched
    assert f"{result.metrics['ndcg@20']:.4f}" in text
    assert text.count("<img") == text.count("alt=")


def test_names_are_escaped(store, model, tmp_path):
    store.folder = tmp_path / "<script>alert(1)</script>"
    model.name = 'a<b>&"c"'
    text = report_html(evaluate(model, store, metrics="recall"))
    assert "<script" not in text and "a<b>" not in text
    assert "<td>&lt;b&gt;</td>" in html_table(("<i>",), [("<b>",)]) and "<i>" not in html_table(("<i>",), [("<b>",)])
    assert "&lt;script&gt;" in text and "a&lt;b&gt;&amp;" in text


def test_numbers_align_right_also_where_they_are_written_out():
    row = ("lightgcn 2.0", "0.1917 ± 0.0006", "1,234.5", "< 0.0001", -0.00001, None, "3 of 4")
    cells = re.findall(r"<td( class=\"number\")?>([^<]*)</td>", html_table(["x"] * len(row), [row, (*row[:1], *["–"] * 6)]))
    assert [text for kind, text in cells[: len(row)] if kind] == ["0.1917 ± 0.0006", "1,234.5", "&lt; 0.0001", "0.0000"]
    assert [kind for kind, _ in cells[: len(row)]] == [kind for kind, _ in cells[len(row) :]]


@pytest.mark.parametrize("metrics", [("coverage",), ("auc",), ("hit", "gini")])
def test_few_metrics_and_no_run(store, model, metrics):
    text = report_html(evaluate(model, store, metrics=metrics, k=5, bootstrap=0))
    assert "<h2>Training" not in text
    assert PNG.search(text)


def test_path_that_cannot_be_written(store, model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write|exists"):
        write_report(tmp_path / "file" / "report.html", evaluate(model, store, metrics="recall"))


def test_what_is_no_report_stays(store, model, tmp_path):
    result = evaluate(model, store, metrics="recall", bootstrap=0)
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(RunError, match="is no report of graphrec, so it is not overwritten"):
            write_report(path, result)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    write_report(tmp_path / "report.html", result)
    write_report(tmp_path / "report.html", result)
