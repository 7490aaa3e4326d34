"""The metagraph of a store as a picture: node types as nodes, edge types as labelled arrows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import networkx as nx

from graphrec.graph.info import GraphInfo, RelationInfo
from graphrec.graph.picture import EDGE_COLORS, INK, node_color, picture_format, save_picture

_GAP, _RADIUS = 5.0, 0.62  # inches between the centres of two node types, and their radius
_BUNDLE = 5  # arrows of one pair of node types that are drawn one by one; the rest share the last
_LANE = 0.62  # inches between two arrows of one pair


def plot_metagraph(info: GraphInfo, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw node types with their sizes and, for each edge type, an arrow with its name and number of edges.

    Node types stand in columns by how many edge types lie between them and the users. Where many edge types join the same two
    node types the largest are drawn, and one arrow stands for the others.

    Args:
        info: what `graph_info` counted.
        path: a `.png` or `.svg` file.
        title: above the picture.

    Raises:
        ConfigError: the suffix is another one.
        StoreError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    picture_format(path)
    places = _layout(info)
    groups = _groups(info.relations)
    most = max((len(group) for group in groups.values()), default=1)
    top = max([_RADIUS + _LANE * len(group) for (a, b), group in groups.items() if a == b] or [_RADIUS]) + 0.4
    bottom = max(_RADIUS, _LANE * most / 2) + 0.7
    xs, ys = zip(*places.values(), strict=True)
    left, right = min(xs) - _RADIUS - 1.5, max(xs) + _RADIUS + 1.5
    low, high = min(ys) - bottom, max(ys) + top
    figure = Figure(figsize=(right - left, high - low + 0.5), dpi=150)
    axes = figure.add_axes((0, 0, 1, (high - low) / (high - low + 0.5)))
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.axis("off")
    for (source, target), group in groups.items():
        if source == target:
            _draw_loops(axes, places[source], group)
        else:
            _draw_lanes(axes, places, source, target, group)
    for ntype, (x, y) in places.items():
        axes.add_patch(_circle(x, y, node_color(ntype)))
        axes.text(x, y, f"{ntype}\n{info.nodes[ntype]:,}", color="white", ha="center", va="center", fontsize=12, weight="bold")
    figure.suptitle(title or "Node types and edge types", fontsize=13, weight="bold", color=INK, y=0.985, parse_math=False)
    save_picture(figure, path)


def _layout(info: GraphInfo) -> dict[str, tuple[float, float]]:
    """Positions in inches: networkx's columns by the distance from the users, those that no edge type joins last."""
    graph = nx.Graph()
    graph.add_nodes_from(sorted(info.nodes, key=lambda ntype: (ntype != "user", ntype != "item", ntype)))
    graph.add_edges_from((part.source, part.target) for part in info.relations)
    start = "user" if "user" in graph else next(iter(graph))
    steps = nx.single_source_shortest_path_length(graph, start)
    for ntype in graph:
        graph.nodes[ntype]["column"] = steps.get(ntype, max(steps.values()) + 1)
    found = nx.multipartite_layout(graph, subset_key="column")
    columns = {ntype: graph.nodes[ntype]["column"] for ntype in graph}
    spread = max((abs(float(y)) for _, y in found.values()), default=0.0)
    return {
        ntype: (columns[ntype] * _GAP, float(found[ntype][1]) / spread * _GAP / 2 if spread > 1e-9 else 0.0)
        for ntype in graph
    }


def _groups(relations: Sequence[RelationInfo]) -> dict[tuple[str, str], list[tuple[str, str, int]]]:
    """(source, target) to (label, source, edges) of each arrow, both directions of a pair together, the largest first."""
    found: dict[tuple[str, str], list[RelationInfo]] = {}
    for part in relations:
        key = (part.source, part.target) if (part.target, part.source) not in found else (part.target, part.source)
        found.setdefault(key, []).append(part)
    arrows = {}
    for key, parts in found.items():
        parts = sorted(parts, key=lambda part: -part.edges)
        kept, rest = (parts, []) if len(parts) <= _BUNDLE else (parts[: _BUNDLE - 1], parts[_BUNDLE - 1 :])
        arrows[key] = [(f"{part.relation}\n{_counted(part.edges)}", part.source, part.edges) for part in kept]
        if rest:
            edges = sum(part.edges for part in rest)
            arrows[key].append((f"{len(rest)} other relations\n{_counted(edges)}", rest[0].source, edges))
    return arrows


def _counted(edges: int) -> str:
    return "no edges" if not edges else "1 edge" if edges == 1 else f"{edges:,} edges"


def _draw_lanes(
    axes: Any, places: dict[str, tuple[float, float]], a: str, b: str, group: Sequence[tuple[str, str, int]]
) -> None:
    """Arrows between two node types, side by side, each with its label at its middle."""
    (ax, ay), (bx, by) = places[a], places[b]
    length = math.hypot(bx - ax, by - ay)
    ux, uy = (bx - ax) / length, (by - ay) / length
    for lane, (label, source, edges) in enumerate(group):
        offset = (lane - (len(group) - 1) / 2) * _LANE
        middle = (ax + bx) / 2 - uy * offset, (ay + by) / 2 + ux * offset
        start, end = (_rim(place, (middle[0] - uy * offset, middle[1] + ux * offset)) for place in ((ax, ay), (bx, by)))
        control = tuple(2 * middle[axis] - (start[axis] + end[axis]) / 2 for axis in (0, 1))  # the curve meets the middle
        if source != a:
            start, end = end, start
        _arrow(axes, [start, control, end], lane, edges)
        _label(axes, middle, label, lane)


def _draw_loops(axes: Any, place: tuple[float, float], group: Sequence[tuple[str, str, int]]) -> None:
    """Arrows from a node type to itself, one over the other above it."""
    x, y = place
    for lane, (label, _, edges) in enumerate(group):
        height, width = _RADIUS + 0.6 + _LANE * lane, 1.25 + 0.45 * lane
        start, end = (_rim(place, (x + sign * (0.5 + 0.12 * lane), y + 1)) for sign in (-1, 1))
        control = y + (4 * height - (start[1] - y)) / 3  # the curve's middle is then at the height
        _arrow(axes, [start, (x - width, control), (x + width, control), end], lane, edges)
        _label(axes, (x, y + height), label, lane)


def _arrow(axes: Any, points: Sequence[tuple[float, float]], lane: int, edges: int) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    kind = Curve.CURVE3 if len(points) == 3 else Curve.CURVE4
    curve = Curve(points, [Curve.MOVETO, *[kind] * (len(points) - 1)])
    color, style = EDGE_COLORS[lane % len(EDGE_COLORS)], "solid" if edges else "dashed"
    axes.add_patch(
        FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=17, linewidth=1.9, linestyle=style, color=color, zorder=1)
    )


def _label(axes: Any, place: tuple[float, float], text: str, lane: int) -> None:
    box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": "none"}
    axes.text(*place, text, ha="center", va="center", fontsize=9.5, linespacing=1.15, color=INK, bbox=box, zorder=3 + lane,
              parse_math=False)  # fmt: skip


def _rim(place: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """The point of a node's rim on the way to another point."""
    x, y = towards[0] - place[0], towards[1] - place[1]
    length = math.hypot(x, y) or 1.0
    return place[0] + x / length * (_RADIUS + 0.04), place[1] + y / length * (_RADIUS + 0.04)


def _circle(x: float, y: float, color: str) -> Any:
    from matplotlib.patches import Circle

    return Circle((x, y), _RADIUS, facecolor=color, edgecolor="white", linewidth=2, zorder=2)
