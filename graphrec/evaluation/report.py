"""One HTML file that shows an evaluation: tables, and plots embedded as PNG, so that it can be mailed or archived."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from graphrec import __version__
from graphrec.atomic import atomic_file
from graphrec.errors import RunError
from graphrec.evaluation import METRICS, plots
from graphrec.evaluation.result import Evaluation
from graphrec.registry import resolve
from graphrec.training import journal

_GENERATOR, _HEAD = '<meta name="generator" content="graphrec">', 1024  # by which a page is known as ours, and where it stands: bytes

_WRITTEN = re.compile(r"(< )?[\d,]+\.\d+( ± [\d,]+\.\d+)?")  # a mean with its deviation, seconds, the smallest p-values

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2329; max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
p.lead, p.note { color: #57606a; } p.note { font-size: .9rem; max-width: 46rem; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem; border-bottom: 1px solid #e3e6ea; text-align: left; }
th { border-bottom: 2px solid #b8c0c8; } td.number, th.number { text-align: right; }
img { max-width: 100%; height: auto; display: block; margin: .6rem 0; }
footer { margin-top: 3rem; color: #7a828a; font-size: .85rem; }
"""


def write_report(
    path: str | os.PathLike[str], evaluation: Evaluation, run: str | os.PathLike[str] | None = None
) -> Path:
    """Write the report of one evaluation.

    Args:
        path: the HTML file to write; an earlier report is replaced.
        evaluation: what to show.
        run: the run folder, for its name and its training curves; None leaves both out.

    Returns:
        The path.

    Raises:
        RunError: something else is there, the disk is full or the file cannot be written.
    """
    check_report(path)
    text = report_html(evaluation, run)
    with atomic_file(path, RunError) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def check_report(path: str | os.PathLike[str]) -> None:
    """Make sure that nothing but an earlier report stands at `path`; to ask before work that takes long.

    Raises:
        RunError: something does.
    """
    if not Path(path).exists():
        return
    if Path(path).is_file():
        with open(path, "rb") as file:
            if _GENERATOR.encode() in file.read(_HEAD):
                return
    raise RunError(f"{path} exists and is no report of graphrec, so it is not overwritten; choose another file")


def report_html(evaluation: Evaluation, run: str | os.PathLike[str] | None = None) -> str:
    """Return the report as HTML text; arguments as in `write_report`."""
    name = evaluation.model if run is None else f"{Path(run).name} ({evaluation.model})"
    counts = evaluation.counts
    lead = (
        f"Split {evaluation.split} of {evaluation.store}: {counts['users']:,} users with "
        f"{counts['test_interactions']:,} held-out interactions, each ranked against all {counts['catalogue_items']:,} items."
    )
    lead += "".join(f" {note[0].upper()}{note[1:]}." for note in evaluation.notes())
    sections = [
        *_overall(evaluation),
        *_by_activity(evaluation),
        *_by_popularity(evaluation),
        *_concentration(evaluation),
        *_training(run),
        *_method(evaluation),
    ]
    return html_page(f"Evaluation of {name}", lead, sections)


def html_page(title: str, lead: str, sections: Iterable[str]) -> str:
    """Return a whole page in the house's style that needs no other file.

    Args:
        title: its name, plain text.
        lead: the sentence under it, plain text.
        sections: HTML, as `html_table`, `html_image` and `html_note` give it.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            _GENERATOR,
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="lead">{escape(lead)}</p>',
            *sections,
            f"<footer>Written by graphrec {escape(__version__)}.</footer>",
            "</body></html>\n",
        ]
    )


def _overall(evaluation: Evaluation) -> list[str]:
    confidence = f"{evaluation.settings['confidence']:.0%}"
    rows = [(name, value, low, high, _meaning(name.partition("@")[0])) for name, value, low, high in evaluation.rows()]
    return [
        "<h2>Overall</h2>",
        html_image(plots.metric_bars(evaluation), "Accuracy metrics with their intervals"),
        html_note(f"Thin bars: {confidence} {evaluation.interval} interval over users."),
        html_table(("metric", "value", f"{confidence} from", "to", "meaning"), rows),
    ]


def _by_activity(evaluation: Evaluation) -> list[str]:
    metric = _headline(evaluation)
    groups = evaluation.by_user_activity
    if metric is None or not groups:
        return []
    names = list(groups[0]["metrics"])
    shown = [name for name in names if name.partition("@")[0] in ("recall", "ndcg", "auc", "novelty", "diversity")]
    rows = [(group["label"], group["users"], *(group["metrics"][name] for name in shown)) for group in groups]
    return [
        "<h2>By user activity</h2>",
        html_image(plots.activity(evaluation, metric), f"{metric} by training items of the user"),
        html_note("Users in groups of about equal size, from the least to the most active in training."),
        html_table(("training items", "users", *shown), rows),
    ]


def _by_popularity(evaluation: Evaluation) -> list[str]:
    k = max(evaluation.settings["k"])
    rows = [
        (
            group["label"],
            group["items"],
            group["test_interactions"],
            group[f"recall@{k}"],
            group["share_of_catalogue"],
            group["share_of_test"],
            group[f"share_of_places@{k}"],
        )
        for group in evaluation.by_item_popularity
    ]
    head = ("group", "items", "test interactions", f"recall@{k}", "of catalogue", "of test", f"of places@{k}")
    return [
        "<h2>By item popularity</h2>",
        html_image(plots.item_popularity(evaluation, k), "Recall and shares of head, mid and tail items"),
        html_note(
            "Head, mid and tail items each received a third of the training interactions. Recall here counts interactions, "
            "not users: hits on the group's items among the first places, over test interactions with them."
        ),
        html_table(head, rows),
    ]


def _concentration(evaluation: Evaluation) -> list[str]:
    return [
        "<h2>Popularity of what is recommended and what is consumed</h2>",
        html_image(plots.concentration(evaluation), "Cumulative share over items, most popular first"),
        html_note(
            "Where the blue curve runs above the orange one, the model favours popular items more than the users do. "
            "The dotted diagonal would recommend every item equally often."
        ),
    ]


def _training(run: str | os.PathLike[str] | None) -> list[str]:
    picture = plots.training_curves(journal.read(Path(run))) if run is not None else None
    return [] if picture is None else ["<h2>Training</h2>", html_image(picture, "Loss and validation metrics by epoch")]


def _method(evaluation: Evaluation) -> list[str]:
    masked = "training and validation items" if evaluation.settings["mask_valid"] else "training items"
    counts = evaluation.counts
    rows = [(name.replace("_", " "), value) for name, value in counts.items()]
    rows += [(f"seconds: {name}", value) for name, value in evaluation.seconds.items()]
    return [
        "<h2>How it was measured</h2>",
        html_note(
            f"All items are ranked for every user; {masked} of the user are left out of the list. Metrics are averaged over "
            "users with at least one held-out item. Held-out interactions that repeat a left-out item, or whose "
            "user or item training does not know, do not count: neither as hits nor among the held-out items of a user."
        ),
        html_table(("what", "count"), rows),
        html_note(f"Data fingerprint {evaluation.data[:16]}: evaluations that share it can be compared user by user."),
    ]


def _headline(evaluation: Evaluation) -> str | None:
    """The metric that the breakdown by activity draws: recall at the longest list, or else the first per-user metric."""
    wanted = f"recall@{max(evaluation.settings['k'])}"
    names = evaluation.user_metrics
    return wanted if wanted in names else next(iter(names), None)


def _meaning(metric: str) -> str:
    """First sentence of the metric's docstring."""
    doc = resolve("metric", METRICS, metric).__doc__ if metric in METRICS else ""
    return (doc or "").strip().split("\n\n")[0].replace("\n", " ").replace("    ", "")


def html_image(png: bytes | None, description: str) -> str:
    """Return a picture embedded in the page, or nothing where there is none."""
    if png is None:
        return ""
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'


def html_note(text: str) -> str:
    """Return a paragraph of explanation; `text` is plain."""
    return f'<p class="note">{escape(text)}</p>'


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table, escaped; columns of numbers, also written out ones, align right, None and NaN show as a dash."""
    rows = list(rows)
    numeric = [any(_is_number(row[column]) for row in rows) for column in range(len(head))]
    kinds = [' class="number"' if number else "" for number in numeric]
    lines = [
        "<tr>" + "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True)) + "</tr>"
    ]
    for row in rows:
        cells = (f"<td{kind}>{escape(cell_text(value))}</td>" for kind, value in zip(kinds, row, strict=True))
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def cell_text(value: Any) -> str:
    """Return a value as the text of a cell of a table: four decimals, no zero with a sign, a dash for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{round(value, 4) + 0.0:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and _WRITTEN.fullmatch(value) is not None)
