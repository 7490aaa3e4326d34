"""The tables of a benchmark on disk: CSV for machines, Markdown for a README, one HTML file for people."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from graphrec.atomic import atomic_file
from graphrec.benchmarking.grid import Cell
from graphrec.benchmarking.plan import Protocol
from graphrec.benchmarking.summary import Comparison, Summary, mean_sd
from graphrec.errors import RunError
from graphrec.evaluation.plots import BLUE, new_figure, png
from graphrec.evaluation.report import cell_text, html_image, html_note, html_page, html_table
from graphrec.evaluation.result import left_out
from graphrec.evaluation.significance import RESAMPLED_USERS, resamples_for, shown_p

FILES = {"cells": "cells.csv", "comparisons": "comparisons.csv", "markdown": "table.md", "html": "report.html"}

_COST = ("fit_seconds", "total_seconds", "peak_mb", "fit_peak_mb", "evaluate_peak_mb", "epochs", "share", "version", "device", "backend",
         "threads")  # fmt: skip

_ROWS = ("model", "A", "B", "better")  # columns of labels of rows, whose stars would make Markdown italic


Table = tuple[list[str], list[list[Any]]]  # head and lines


def write_reports(
    folder: Path,
    protocol: Protocol,
    cells: Sequence[Cell],
    rows: Sequence[Summary],
    comparisons: Sequence[Comparison],
    tested: Table | None = None,
) -> dict[str, Path]:
    """Write all files, each whole or not at all, and return their paths by the names in `FILES`.

    `tested` is the table of the comparisons as people read it, with the data set first in each line; None takes that of `tests`.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    tested = tests(comparisons) if tested is None else tested
    texts = {
        "cells": cells_csv(cells),
        "comparisons": comparisons_csv(comparisons),
        "markdown": markdown(protocol, cells, rows, tested, how_tested(comparisons)),
        "html": html(protocol, cells, rows, tested, how_tested(comparisons)),
    }
    for name, text in texts.items():
        with atomic_file(folder / FILES[name], RunError) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return {name: folder / file for name, file in FILES.items()}


def cells_csv(cells: Sequence[Cell]) -> str:
    """One line per cell: its metrics and costs, or why it failed."""
    metrics = metric_names(cell.result["metrics"] for cell in cells if cell.result is not None)
    lines = []
    for cell in cells:
        result = cell.result or {}
        values = [result.get("metrics", {}).get(name) for name in metrics]
        lines.append([cell.data, cell.row, cell.seed, *values, *(result.get(name) for name in _COST), cell.error])
    return _csv(["data", "model", "seed", *metrics, *_COST, "error"], lines)


def comparisons_csv(comparisons: Sequence[Comparison]) -> str:
    """One line per pair of rows and metric."""
    head = ["data", "a", "b", "users", "seeds", "metric", "mean_a", "mean_b", "difference", "low", "high",
            "p_permutation", "p_holm", "p_t"]  # fmt: skip
    return _csv(head, (
        [c.data, c.a, c.b, c.users, c.seeds, d.metric, d.a, d.b, d.difference, d.low, d.high, d.p_permutation, c.p_holm, d.p_t]
        for c in comparisons for d in [c.difference]
    ))  # fmt: skip


def markdown(protocol: Protocol, cells: Sequence[Cell], rows: Sequence[Summary], tested: Table, how: str) -> str:
    """The table, the failures and the paired tests as Markdown."""
    parts = [_method(protocol), _markdown_table(*table(rows)), *left_out_notes(cells)]
    errors = failures(rows)
    if errors:
        parts += ["Failed:", "\n".join(f"- {data}, `{row}`, seed {seed}: {error}" for data, row, seed, error in errors)]
    if tested[1]:
        parts += [how, _markdown_table(*tested)]
    return "\n\n".join(parts) + "\n"


def html(protocol: Protocol, cells: Sequence[Cell], rows: Sequence[Summary], tested: Table, how: str) -> str:
    """The same as one page without other files, with a picture per data set."""
    sections: list[str] = []
    for data in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == data]
        head, body = table(own)
        sections += [f"<h2>{escape(data)}</h2>", html_image(_bars(own), f"Metrics of the models on {data}")]
        sections.append(html_table(head[1:], [line[1:] for line in body]))
        sections += map(html_note, left_out_notes([cell for cell in cells if cell.data == data]))
        errors = failures(own)
        if errors:
            sections += ["<h3>Failed</h3>", html_table(("model", "seed", "why"), [error[1:] for error in errors])]
        pairs = [line[1:] for line in tested[1] if line[0] == data]
        if pairs:
            sections += ["<h3>Paired tests</h3>", html_table(tested[0][1:], pairs)]
    if tested[1]:
        sections.append(html_note(how))
    sections += ["<h2>How it was measured</h2>", html_note(_method(protocol)), html_note(_machine(cells))]
    title = "Benchmark of " + ", ".join(dict.fromkeys(row.row for row in rows))
    done = sum(cell.result is not None for cell in cells)
    return html_page(title, f"{done} of {len(cells)} cells are finished; {len(protocol.seeds)} seeds.", sections)


def table(rows: Sequence[Summary]) -> Table:
    """Head and lines of the main table."""
    metrics = metric_names(row.mean for row in rows)
    lines = []
    for row in rows:
        label = row.row if row.share is None else f"{row.row} ({row.share:.2g} of the second)"
        cost = ["–" if value is None else f"{value:,.1f}" for value in (row.fit_seconds, row.total_seconds)]
        peak = None if row.peak_mb is None else round(row.peak_mb)
        note = "" if not row.errors else f"{len(row.errors)} failed: {next(iter(row.errors.values()))}"
        lines.append([row.data, label, row.seeds, *(mean_sd(row, metric) for metric in metrics), *cost, peak, note])
    return ["data", "model", "seeds", *metrics, "fit s", "total s", "peak MB", "note"], lines


def tests(comparisons: Sequence[Comparison]) -> Table:
    """Head and lines of the table of paired tests."""
    head = ["data", "A", "B", "metric", "B - A", "95% from", "to", "p", "p (Holm)", "p t-test", "better"]
    lines = []
    for one in comparisons:
        d = one.difference
        winner = {"A": one.a, "B": one.b}.get(d.better, "–") if one.p_holm < 0.05 else "–"
        p_values = map(shown_p, (d.p_permutation, one.p_holm, d.p_t))
        lines.append([one.data, one.a, one.b, d.metric, d.difference, d.low, d.high, *p_values, winner])
    return head, lines


def failures(rows: Sequence[Summary]) -> list[tuple[str, str, int, str]]:
    """(data, row, seed, message) of every cell that failed."""
    return [(row.data, row.row, seed, error) for row in rows for seed, error in row.errors.items()]


def left_out_notes(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each data set with held-out interactions that no metric counts, for training does not know both ends."""
    counts = {cell.data: cell.result["counts"] for cell in cells if cell.result is not None and "counts" in cell.result}
    return [f"{data}: {note}." for data, of_data in counts.items() if (note := left_out(of_data))]


def metric_names(tables: Iterable[Iterable[str]]) -> list[str]:
    """All names in `tables`, each once, in the order they come."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _method(protocol: Protocol) -> str:
    side, masked = "the test items", "training items, and validation items where the data have them,"
    if protocol.validate:
        side = (
            "validation items (the validation split of a graph store; of a folder with train.txt, a tenth of each user's training "
            "items); the test items were not looked at"
        )
        masked = "training items"
    ratings = ""
    if {"rmse", "mae"} & set(protocol.metrics):
        ratings = " A dash under rmse or mae: the scores of that model are no ratings."
    return (
        f"Measured on {side}: all items are ranked for every user, {masked} are left out, metrics are averaged over users. "
        f"Mean ± standard deviation over {len(protocol.seeds)} seed{'s' * (len(protocol.seeds) != 1)}. Fit is training, total "
        "goes from the text files (or a store that was there) to the metrics; the peak is resident memory of one fresh process. "
        "A row such as 4*A is the mean of four models of A, each trained from a seed of its own: their scores are added in units of "
        "their spreads, its seconds contain those of all four, and its epochs are their mean. "
        "A sum adds the scores of two models in units of their spreads; its weight is chosen on a part of the training items, "
        f"and its seconds contain those of both models and of choosing.{ratings}"
    )


def how_tested(comparisons: Sequence[Comparison]) -> str:
    """What the paired tests are and what they can tell apart."""
    pairs = Counter((one.data, one.difference.metric) for one in comparisons)
    most, patterns = max(pairs.values(), default=1), max((one.resamples for one in comparisons), default=resamples_for(1))
    return (
        "Paired over users, each user's metric averaged over seeds first: 95% bootstrap interval (normal for more than "
        f"{RESAMPLED_USERS:,} users), two-sided sign-flip permutation test, the same adjusted for all tested pairs of the data set by "
        "Holm's method, and the paired t-test. Better: adjusted p < 0.05. "
        f"The permutation test draws up to {patterns:,} sign patterns, so that no p can be below {1 / (1 + patterns):.1g} and "
        f"none that is adjusted for {most} pair{'s' * (most != 1)} below {most / (1 + patterns):.1g}. "
        "In an ablation the loss is the full model less the one without the part, and each is tested against its full model. What "
        "the tests tell apart are users; with one seed they do not know how much another start of the training would change."
    )


def _machine(cells: Sequence[Cell]) -> str:
    results = [cell.result for cell in cells if cell.result is not None]
    names = {"version": "graphrec", "backend": "backend", "device": "device", "threads": "threads"}
    found = {shown: sorted({str(r[name]) for r in results if name in r}) for name, shown in names.items()}
    return "; ".join(f"{shown} {', '.join(values)}" for shown, values in found.items() if values)


def _bars(rows: Sequence[Summary]) -> bytes | None:
    """The first metric of each row with its deviation; None where nothing is finished."""
    metric = next(iter(metric_names(row.mean for row in rows)), None)
    shown = [row for row in rows if metric in row.mean]
    if not shown:
        return None
    figure, axes = new_figure(7.2, 0.8 + 0.36 * len(shown))
    places = np.arange(len(shown))[::-1]
    values = [row.mean[metric] for row in shown]
    bars = axes.barh(places, values, 0.62, xerr=[row.sd[metric] or 0.0 for row in shown], color=BLUE, ecolor="#333333")
    axes.bar_label(bars, [f"{value:.4f}" for value in values], padding=4, fontsize=8)
    axes.set_yticks(places, [row.row for row in shown])
    axes.set_xlabel(metric)
    axes.margins(x=0.15)
    return png(figure, axes, legend=False)


def _markdown_table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    def cell(column: str, value: Any) -> str:
        text = " ".join(cell_text(value).split()).replace("|", "\\|")
        return f"`{text}`" if column in _ROWS and text != "–" else text

    rows = [head, ["---"] * len(head), *([cell(*pair) for pair in zip(head, line, strict=True)] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in line] for line in lines)
    return text.getvalue()
