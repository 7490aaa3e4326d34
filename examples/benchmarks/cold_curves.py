"""What `cold_start.py` draws: validation NDCG@20 after every epoch, epochs to the same value, and Recall@20 of cold items."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

RANDOM = "random ids"
INPUTS = (RANDOM, "init only", "features only", "id+features")
Curve = list[tuple[int, float]]


def epochs_to(curves: dict[tuple[str, str], Curve]) -> list[dict[str, Any]]:
    """Return a row per curve: the epochs after which it reaches the best of the ids at random, and 95 % of that.

    Args:
        curves: (inputs, encoder) to (epoch, validation NDCG@20); among them ("random ids", "").
    """
    best = max(value for _, value in curves[RANDOM, ""])
    rows = []
    for (inputs, encoder), curve in curves.items():
        row: dict[str, Any] = {"inputs": inputs, "text": encoder, "best": round(max(value for _, value in curve), 4)}
        row["best after"] = max(curve, key=lambda point: point[1])[0]
        for share in (0.95, 1.0):
            name = "epochs to the best of random ids" if share == 1 else f"epochs to {share:.0%} of it"
            row[name] = next((epoch for epoch, value in curve if value >= share * best), "never")
        rows.append(row)
    return rows


def write(
    folder: Path, name: str, curves: dict[tuple[str, str], Curve], rows: list[dict[str, Any]], k: int = 20
) -> None:
    """Write `<name>-cold.csv`, `<name>-cold-curves.csv` and `<name>-cold.png` into a folder.

    Args:
        folder: where to.
        name: of the data set.
        curves: as in `epochs_to`.
        rows: of the cold items: model, text, cold, overall.
        k: length of the lists, for the labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}-cold-curves.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("inputs", "text", "epoch", f"valid_ndcg@{k}"))
        for (inputs, encoder), curve in curves.items():
            out.writerows((inputs, encoder, epoch, round(value, 5)) for epoch, value in curve)
    with open(folder / f"{name}-cold.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("inputs", "text", f"recall@{k}_cold", f"recall@{k}_overall"))
        out.writerows((row["model"], row["text"], row["cold"], row["overall"]) for row in rows)
    encoders = list(dict.fromkeys(encoder for _, encoder in curves if encoder))
    colours = {inputs: f"C{number}" for number, inputs in enumerate(INPUTS)}
    figure, axes = plt.subplots(
        1, len(encoders) + 1, figsize=(4.2 * (len(encoders) + 1), 4.2), constrained_layout=True, squeeze=False
    )
    for axis, encoder in zip(axes[0], encoders, strict=False):
        _curves(axis, encoder, curves, colours, k)
        axis.set_ylim(0, 1.05 * max(value for curve in curves.values() for _, value in curve))
    _bars(axes[0][-1], rows, encoders, colours, k)
    figure.suptitle(name)
    figure.savefig(folder / f"{name}-cold.png", dpi=120)
    plt.close(figure)


def _curves(axis: Any, encoder: str, curves: dict[tuple[str, str], Curve], colours: dict[str, str], k: int) -> None:
    for inputs in INPUTS:
        curve = curves.get((inputs, "" if inputs == RANDOM else encoder))
        if curve:
            axis.plot(*zip(*curve, strict=True), marker=".", label=inputs, color=colours[inputs])
    axis.set(xlabel="epochs", ylabel=f"validation NDCG@{k}", title=encoder, xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="lower right")


def _bars(axis: Any, rows: list[dict[str, Any]], encoders: list[str], colours: dict[str, str], k: int) -> None:
    kinds = INPUTS[1:]
    for number, inputs in enumerate(kinds):
        found = {row["text"]: row["cold"] for row in rows if row["model"] == inputs}
        places = [place + (number - 1) * 0.27 for place, encoder in enumerate(encoders) if encoder in found]
        axis.bar(places, [found[name] for name in encoders if name in found], 0.27, label=inputs, color=colours[inputs])
    for name, style in (("popularity", "--"), (RANDOM, ":")):
        value = next((row["cold"] for row in rows if row["model"] == name), None)
        if value is not None:
            axis.axhline(value, color="black", linestyle=style, linewidth=1, label=f"{name} ({value:.3f})")
    axis.set_xticks(range(len(encoders)), encoders, rotation=15)
    axis.set(ylabel=f"Recall@{k} among cold items", title="items without any event")
    axis.set_ylim(0, 1.4 * axis.get_ylim()[1])  # room for the legend above the bars
    axis.legend(fontsize="small", loc="upper left")
