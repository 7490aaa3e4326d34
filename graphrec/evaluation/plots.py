"""The pictures of an evaluation, as PNG bytes. Every picture names its axes and their units."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from graphrec.evaluation.result import Evaluation

BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d9822b", "#3a8f5c", "#8a8f98"
_COLOURS = (BLUE, ORANGE, GREEN, "#8c5fb0", "#b3475a")
_ACCURACY = ("recall", "ndcg", "precision", "hit", "mrr", "map")


def metric_bars(evaluation: Evaluation) -> bytes | None:
    """Accuracy metrics at each k as bars with their intervals; None where none was measured."""
    names = [name for name in _ACCURACY if any(metric.startswith(f"{name}@") for metric in evaluation.metrics)]
    ks = [k for k in evaluation.settings["k"] if names]
    if not names:
        return None
    figure, axes = new_figure(7.2, 3.6)
    width = 0.8 / len(ks)
    for number, k in enumerate(ks):
        place = np.arange(len(names)) + (number - (len(ks) - 1) / 2) * width
        values = [evaluation.metrics[f"{name}@{k}"] for name in names]
        axes.bar(place, values, width * 0.92, color=_COLOURS[number % len(_COLOURS)], label=f"first {k} places")
        bounds = [
            evaluation.intervals.get(f"{name}@{k}", [value, value]) for name, value in zip(names, values, strict=True)
        ]
        spread = np.abs(np.array(bounds).T - np.array(values))
        axes.errorbar(place, values, yerr=spread, fmt="none", ecolor="#333333", elinewidth=1, capsize=2.5)
        for x, value, high in zip(place, values, np.array(bounds)[:, 1], strict=True):
            axes.annotate(
                f"{value:.3f}", (x, high), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=7.5
            )
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylabel("mean over users")
    axes.margins(y=0.12)
    return png(figure, axes, legend=len(ks) > 0)


def activity(evaluation: Evaluation, metric: str) -> bytes | None:
    """`metric` by how many items the users had in training; None where it was not measured."""
    groups = evaluation.by_user_activity
    if not groups or metric not in groups[0]["metrics"]:
        return None
    figure, axes = new_figure(7.2, 3.2)
    values = [group["metrics"][metric] or 0.0 for group in groups]
    bars = axes.bar(range(len(groups)), values, 0.6, color=BLUE)
    axes.bar_label(bars, [f"{value:.3f}" for value in values], label_type="center", color="white", fontsize=9)
    axes.axhline(evaluation.metrics[metric], color=ORANGE, linestyle="--", linewidth=1.4, label="all users")
    axes.set_xticks(range(len(groups)), [f"{group['label']}\n({group['users']:,} users)" for group in groups])
    axes.set_xlabel("training items of the user")
    axes.set_ylabel(metric)
    axes.margins(y=0.15)
    return png(figure, axes, legend_place="upper right")


def item_popularity(evaluation: Evaluation, k: int) -> bytes:
    """Recall and shares of head, mid and tail items side by side."""
    groups = evaluation.by_item_popularity
    figure = Figure(figsize=(7.2, 3.4), dpi=130)
    left, right = figure.subplots(1, 2, width_ratios=(3, 4))
    names = [f"{group['label']}\n({group['items']:,} items)" for group in groups]
    values = [group[f"recall@{k}"] or 0.0 for group in groups]
    bars = left.bar(range(len(groups)), values, 0.6, color=BLUE)
    left.bar_label(bars, [f"{value:.3f}" for value in values], padding=3, fontsize=8)
    left.set_ylabel(f"recall@{k} of test interactions")
    left.margins(y=0.15)
    shares = (
        ("share_of_catalogue", "of the catalogue", GREY),
        ("share_of_test", "of test interactions", ORANGE),
        (f"share_of_places@{k}", "of recommended places", BLUE),
    )
    for number, (key, label, colour) in enumerate(shares):
        place = np.arange(len(groups)) + (number - 1) * 0.27
        bars = right.bar(place, [group[key] for group in groups], 0.25, color=colour, label=label)
        right.bar_label(bars, [f"{group[key]:.0%}" for group in groups], padding=2, fontsize=7)
    right.set_ylabel("share")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.margins(y=0.12)
    for axes in (left, right):
        axes.set_xticks(range(len(groups)), names, fontsize=8)
    right.legend(
        frameon=False,
        fontsize=7.5,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        columnspacing=1,
        handlelength=1,
    )
    return png(figure, left, right, legend=False)


def concentration(evaluation: Evaluation) -> bytes:
    """Cumulative share of recommendations, of consumption and of training over items, most popular first."""
    curves = evaluation.concentration
    figure, axes = new_figure(5.6, 3.8)
    x = curves["catalogue_share"]
    axes.plot(x, curves["recommended"], color=BLUE, linewidth=2, label="recommended places")
    axes.plot(x, curves["consumed"], color=ORANGE, linewidth=2, label="test interactions")
    axes.plot(x, curves["training"], color=GREY, linewidth=1.4, label="training interactions")
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":", label="every item alike")
    axes.set_xlabel("share of the catalogue, most popular items first")
    axes.set_ylabel("cumulative share")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return png(figure, axes, legend_place="lower right")


def training_curves(records: list[dict[str, Any]]) -> bytes | None:
    """Loss and validation metrics by epoch from the lines of `metrics.jsonl`; None where there are no epochs."""
    epochs = [record for record in records if isinstance(record.get("epoch"), int)]
    losses = [(record["epoch"], record["loss"]) for record in epochs if isinstance(record.get("loss"), int | float)]
    valid = [(record["epoch"], record["valid"]) for record in epochs if isinstance(record.get("valid"), dict)]
    panels = [name for name, series in (("loss", losses), ("valid", valid)) if series]
    if not panels:
        return None
    figure = Figure(figsize=(7.2, 3.2), dpi=130)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, panel in zip(all_axes, panels, strict=True):
        if panel == "loss":
            axes.plot(*zip(*losses, strict=True), color=BLUE, marker=".", markersize=4)
            axes.set_ylabel("training loss")
        else:
            for number, name in enumerate(valid[0][1]):
                series = [(epoch, values[name]) for epoch, values in valid if name in values]
                colour = _COLOURS[number % len(_COLOURS)]
                axes.plot(*zip(*series, strict=True), color=colour, marker=".", markersize=5, label=name)
            axes.set_ylabel("on the validation split")
            axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    return png(figure, *all_axes, legend=False)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty picture of that size in inches, and its axes."""
    figure = Figure(figsize=(width, height), dpi=130)
    return figure, figure.subplots()


def png(figure: Figure, *panels: Axes, legend: bool = True, legend_place: str = "best") -> bytes:
    """Give all pictures the same plain look and return the PNG."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
        if legend:
            axes.legend(frameon=False, fontsize=8, loc=legend_place)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
