"""A neighbourhood as a picture: one column per hop, colours by node type, arrows by edge type."""

from __future__ import annotations

import os
import unicodedata
from typing import Any

import networkx as nx

from graphrec.graph.neighbors import Link, Neighbourhood, Node
from graphrec.graph.picture import EDGE_COLORS, INK, node_color, picture_format, save_picture

_ROW, _COLUMN = 0.29, 1.9  # inches between two nodes of a column, and between a label's end and the next column
_LETTER = 0.072  # inches of a letter of 8.5 points, rather too many than too few
_LONGEST = 34  # letters of a label; longer ones end in an ellipsis
_DOT, _MARGIN = 0.075, 0.35
_LEGEND_ROW, _HEAD = 0.22, 0.95


def plot_neighbourhood(found: Neighbourhood, path: str | os.PathLike[str]) -> None:
    """Draw the nodes hop by hop from left to right with their titles and ids, and the links between the columns.

    Links leave a node where its label ends, so that none is drawn through a label.

    Args:
        found: what `neighbourhood` returned.
        path: a `.png` or `.svg` file.

    Raises:
        ConfigError: the suffix is another one.
        StoreError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    picture_format(path)
    places = _layout(found)
    title = f"What {found.centre.ntype} {_label(found.centre)} is linked with in training"
    labels = [_label(node) for node in found.nodes]
    ports = [x + _width(node) for (x, _), node in zip(places, found.nodes, strict=True)]
    relations = list(dict.fromkeys(link.relation for link in found.links))
    ys = [y for _, y in places]
    columns = max(1, -(-(len(relations) + 3) // 4))
    foot = _LEGEND_ROW * min(max(len(relations), 3), 4) + 0.3 if relations else _LEGEND_ROW + 0.3
    left, right = -_MARGIN, max(*ports, max(x for x, _ in places) + 1.7, (columns + 1) * 1.9, len(title) * 0.105) + _MARGIN
    low, high = min(ys) - _MARGIN - foot, max(ys) + _HEAD
    figure = Figure(figsize=(right - left, high - low), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.axis("off")
    beside: dict[tuple[int, int], list[Link]] = {}
    for link in found.links:
        beside.setdefault((link.inner, link.outer), []).append(link)
    for pair in beside.values():
        for number, link in enumerate(pair):
            _draw_link(axes, link, places, ports, relations.index(link.relation), (number - (len(pair) - 1) / 2) * 0.055)
    for node, place, label in zip(found.nodes, places, labels, strict=True):
        _draw_node(axes, node, place, label)
    _draw_heads(axes, found, places, max(ys) + 0.33)
    axes.text(0, high - 0.22, title, fontsize=12, weight="bold", color=INK, va="center", parse_math=False)
    _draw_legend(axes, found, relations, columns, low + foot - 0.12)
    save_picture(figure, path)


def _layout(found: Neighbourhood) -> list[tuple[float, float]]:
    """Positions in inches, by networkx's columns; a column's nodes stand in the order of the nodes that lead to them."""
    graph = nx.Graph()
    graph.add_nodes_from((position, {"hop": node.hop}) for position, node in enumerate(found.nodes))
    flat = nx.multipartite_layout(graph, subset_key="hop")
    columns = [[p for p, node in enumerate(found.nodes) if node.hop == hop] for hop in range(found.nodes[-1].hop + 1)]
    most, spread = max(map(len, columns)), max(abs(float(y)) for _, y in flat.values()) or 1.0
    places: dict[int, tuple[float, float]] = {}
    x = 0.0
    for hop, column in enumerate(columns):
        if hop == 1:
            column.sort(key=lambda p: (found.nodes[p].ntype, p))
        elif hop > 1:
            above = {p: [places[link.inner][1] for link in found.links if link.outer == p] for p in column}
            column.sort(key=lambda p: (-sum(above[p]) / len(above[p]), p))
        inches = (most - 1) / 2 * _ROW / spread * min(2.5, most / len(column))  # a short column gets more room
        heights = sorted((float(flat[p][1]) * inches for p in column), reverse=True)
        places |= {p: (x, y) for p, y in zip(column, heights, strict=True)}
        x += _COLUMN + max(_width(found.nodes[p]) for p in column)
    return [places[position] for position in range(len(found.nodes))]


def _draw_link(
    axes: Any, link: Link, places: list[tuple[float, float]], ports: list[float], number: int, shift: float
) -> None:
    """One arrow, `shift` inches off the middle so that the others of its pair stay visible; `number` is its relation's."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (end_x, end_y), (_, start_y) = places[link.outer], places[link.inner]
    start, end = (ports[link.inner] + 0.03, start_y + shift), (end_x - _DOT - 0.03, end_y + shift)
    bend = (end[0] - start[0]) * 0.45
    points = [start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end]
    curve = Curve(points if link.outward else points[::-1], [Curve.MOVETO, *[Curve.CURVE4] * 3])
    color, style = _stroke(number)
    look = {"linewidth": 0.9, "linestyle": style, "color": color, "alpha": 0.85, "zorder": 1}
    axes.add_patch(FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=8, **look))


def _stroke(number: int) -> tuple[str, str]:
    """Colour and line style of a relation."""
    return EDGE_COLORS[number % len(EDGE_COLORS)], "-" if number < len(EDGE_COLORS) else "--"


def _draw_node(axes: Any, node: Node, place: tuple[float, float], label: str) -> None:
    from matplotlib.patches import Circle

    x, y = place
    big = 1.35 if node.hop == 0 else 1.0
    axes.add_patch(Circle(place, _DOT * big, facecolor=node_color(node.ntype), edgecolor="white", linewidth=0.8, zorder=3))
    weight = "bold" if node.hop == 0 else "normal"
    axes.text(x + 0.13, y, label, fontsize=8.5, color=INK, va="center", weight=weight, zorder=4, parse_math=False)


def _draw_heads(axes: Any, found: Neighbourhood, places: list[tuple[float, float]], y: float) -> None:
    """Over each column, how many nodes of the hop are shown."""
    for hop in sorted({node.hop for node in found.nodes} - {0}):
        column = [place for node, place in zip(found.nodes, places, strict=True) if node.hop == hop]
        steps = "1 step away" if hop == 1 else f"{hop} steps away"
        axes.text(column[0][0] - _DOT, y, f"{steps}: {len(column):,} nodes" if len(column) != 1 else f"{steps}: 1 node",
                  fontsize=8.5, color="#6b7280", va="center", style="italic")  # fmt: skip


def _draw_legend(axes: Any, found: Neighbourhood, relations: list[str], columns: int, top: float) -> None:
    """Node types in the first column, edge types with how much of them is shown in the others."""
    from matplotlib.lines import Line2D

    for row, ntype in enumerate(dict.fromkeys(node.ntype for node in found.nodes)):
        y = top - _LEGEND_ROW * row
        axes.plot([0], [y], "o", color=node_color(ntype), markersize=7)
        axes.text(0.16, y, ntype, fontsize=8.5, color=INK, va="center")
    for number, relation in enumerate(relations):
        x, y = 1.2 + 2.6 * (number // 4), top - _LEGEND_ROW * (number % 4)
        color, style = _stroke(number)
        axes.add_line(Line2D([x, x + 0.4], [y, y], color=color, linestyle=style, linewidth=2))
        shown = sum(reach.shown for reach in found.reaches if reach.relation == relation)
        of = sum(reach.found for reach in found.reaches if reach.relation == relation)
        text = f"{_shortened(relation, 18)} ({shown:,} of {of:,})"
        axes.text(x + 0.48, y, text, fontsize=8.5, color=INK, va="center", parse_math=False)


def _label(node: Node) -> str:
    """Title and id; a long title is cut, the id stays whole."""
    if not node.title:
        return _shortened(str(node.id), _LONGEST)
    return f"{_shortened(node.title, max(_LONGEST - len(str(node.id)) - 3, 8))} ({node.id})"


def _width(node: Node) -> float:
    """Inches from a node's middle to the end of its label; East Asian letters are twice as wide, bold ones a seventh wider."""
    letters = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in _label(node))
    return 0.16 + letters * _LETTER * (1.14 if node.hop == 0 else 1)


def _shortened(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
