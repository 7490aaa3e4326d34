"""What a store holds, in numbers and as a plot."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from graphrec.atomic import atomic_file
from graphrec.errors import StoreError
from graphrec.graph.heterograph import reverse_name
from graphrec.graph.ids import contained, distinct
from graphrec.graph.store import GraphStore

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_COLORS = ("#1f5fa8", "#d1495b", "#2a9d8f", "#edae49", "#6d597a", "#8d99ae")


@dataclass(frozen=True)
class RelationInfo:
    """One edge type; the reverse of a behaviour is not listed, being the same edges.

    Attributes:
        source, relation, target: the canonical edge type.
        edges: number of edges, repeated ones included.
        distinct: distinct (source, target) pairs.
        density: distinct / (source nodes × target nodes).
        sources, targets: nodes with at least one edge.
        isolated_sources, isolated_targets: nodes of the type without any.
        mean_source_degree, mean_target_degree: distinct / nodes of the type.
        reciprocity: share of the distinct pairs (a, b), a ≠ b, whose (b, a) is one too; None between two node types, and where
            there is no such pair.
        loops: distinct pairs of a node with itself; 0 between two node types.
        source_degrees, target_degrees: quantile (as text, "0.5") to degree over all nodes of the type, of distinct pairs.
    """

    source: str
    relation: str
    target: str
    edges: int
    distinct: int
    density: float
    sources: int
    targets: int
    isolated_sources: int
    isolated_targets: int
    mean_source_degree: float
    mean_target_degree: float
    reciprocity: float | None
    loops: int
    source_degrees: dict[str, float]
    target_degrees: dict[str, float]


@dataclass(frozen=True)
class GraphInfo:
    """A store in numbers.

    Attributes:
        nodes: node type to number of nodes.
        relations: edge types.
        components: weakly connected components of the whole training graph, isolated nodes included.
        largest_component: share of all nodes in the largest one.
        isolated: nodes without any edge.
        first, last: times of the first and last training event, or None.
        splits: side to number of events.
        features: node type to the names of its features.
    """

    nodes: dict[str, int]
    relations: list[RelationInfo]
    components: int
    largest_component: float
    isolated: int
    first: datetime | None
    last: datetime | None
    splits: dict[str, int]
    features: dict[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; times in ISO 8601."""
        values = asdict(self)
        return {
            **values,
            **{name: time and time.isoformat() for name, time in (("first", self.first), ("last", self.last))},
        }

    @property
    def metagraph(self) -> list[str]:
        """The edge types drawn as text, `user ──view──> item`."""
        return [f"{part.source} ──{part.relation}──> {part.target}" for part in self.relations]


def graph_info(store: GraphStore) -> GraphInfo:
    """Count what the training graph of `store` holds."""
    graph = store.graph()
    offsets = dict(
        zip(store.node_types, np.cumsum([0, *(store.manifest.nodes[n] for n in store.node_types)]), strict=False)
    )
    total = sum(store.manifest.nodes.values())
    relations, rows, columns = [], [], []
    for source, relation, target in _forward_etypes(store):
        ends = [end.numpy() for end in graph.edges(etype=(source, relation, target))]
        relations.append(_relation_info(store, source, relation, target, *ends))
        rows.append(ends[0] + offsets[source])
        columns.append(ends[1] + offsets[target])
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    whole = sparse.coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(total, total))
    components, label = connected_components(whole, directed=False)
    touched = np.zeros(total, dtype=bool)
    touched[rows] = touched[columns] = True
    times = store.events("train")["timestamp"]
    return GraphInfo(
        nodes=dict(store.manifest.nodes),
        relations=relations,
        components=int(components),
        largest_component=float(np.bincount(label).max() / total),
        isolated=int(total - touched.sum()),
        first=times.min(),
        last=times.max(),
        splits={side: counts.events for side, counts in store.manifest.splits.items()},
        features={ntype: store.features(ntype) for ntype in store.node_types},
    )


def degrees(store: GraphStore, behavior: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct items per user (U,) and distinct users per item (I,) in training, int64.

    Args:
        store: an open store.
        behavior: None means the target behaviour.
    """
    matrix = store.train_matrix(behavior)
    return np.diff(matrix.indptr).astype(np.int64), np.bincount(matrix.indices, minlength=store.num_items)


def plot_degrees(store: GraphStore, path: str | os.PathLike[str]) -> None:
    """Draw how many users and items have at least a given degree, on two logarithmic axes, as a PNG.

    The curve of degree d shows the share of nodes with d or more distinct partners, among those with any. A straight line
    is a power law; unlike a histogram the curve needs no bins and shows the tail whole. Its median is that of the same nodes,
    and so not that of `graph_info`, which counts those without any too.

    Raises:
        StoreError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for number, behavior in enumerate(
        [store.target_behavior, *(b for b in store.behaviors if b != store.target_behavior)]
    ):
        for panel, degree in zip(panels, degrees(store, behavior), strict=True):
            steps, share = _tail_shares(degree)
            color, target = _COLORS[number % len(_COLORS)], number == 0
            label = f"{behavior}, median {np.median(degree[degree > 0]):g}" if degree.any() else f"{behavior}, no edges"
            panel.plot(
                steps, share, color=color, linewidth=2.2 if target else 1.4, alpha=1 if target else 0.8, label=label
            )
    sides = (
        ("Users", store.num_users, "distinct items of a user"),
        ("Items", store.num_items, "distinct users of an item"),
    )
    for panel, (name, count, axis) in zip(panels, sides, strict=True):
        panel.set(xscale="log", yscale="log", xlabel=f"d = {axis}", title=f"{name} ({count:,})")
        panel.grid(True, which="major", color="#d9d9d9", linewidth=0.8)
        panel.grid(True, which="minor", color="#efefef", linewidth=0.5)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, loc="lower left", title="behaviour (nodes with any)")
    panels[0].set_ylabel("share with degree ≥ d, of those with any")
    figure.suptitle(f"Degrees in the training graph of {store.folder.name}", fontweight="bold")
    with atomic_file(path, StoreError) as temporary:
        figure.savefig(temporary, format="png")


def _forward_etypes(store: GraphStore) -> list[tuple[str, str, str]]:
    backwards = {("item", reverse_name(behavior), "user") for behavior in store.behaviors}
    return [etype for etype in store.canonical_etypes if etype not in backwards]


def _relation_info(
    store: GraphStore, source: str, relation: str, target: str, rows: np.ndarray, columns: np.ndarray
) -> RelationInfo:
    sizes = store.manifest.nodes[source], store.manifest.nodes[target]
    pairs = distinct(rows.astype(np.int64) * sizes[1] + columns)
    degree = np.bincount(pairs // sizes[1], minlength=sizes[0]), np.bincount(pairs % sizes[1], minlength=sizes[1])
    reached = [int((side > 0).sum()) for side in degree]
    reciprocity, loops = _reciprocity(pairs, sizes[0]) if source == target else (None, 0)
    return RelationInfo(
        source=source,
        relation=relation,
        target=target,
        edges=len(rows),
        distinct=len(pairs),
        density=len(pairs) / (sizes[0] * sizes[1]) if len(pairs) else 0.0,
        sources=reached[0],
        targets=reached[1],
        isolated_sources=sizes[0] - reached[0],
        isolated_targets=sizes[1] - reached[1],
        mean_source_degree=len(pairs) / sizes[0] if sizes[0] else 0.0,
        mean_target_degree=len(pairs) / sizes[1] if sizes[1] else 0.0,
        reciprocity=reciprocity,
        loops=loops,
        source_degrees=_quantiles(degree[0]),
        target_degrees=_quantiles(degree[1]),
    )


def _reciprocity(pairs: np.ndarray, size: int) -> tuple[float | None, int]:
    """The share of pairs a * size + b (n,), ascending, that occur both ways, loops apart, and the number of loops."""
    left, right = pairs // size, pairs % size
    apart = left != right
    both = contained(right[apart] * size + left[apart], pairs)
    return (float(both.mean()) if len(both) else None), int((~apart).sum())


def _quantiles(degree: np.ndarray) -> dict[str, float]:
    values = pl.Series(degree)
    return {f"{share:g}": float(values.quantile(share, "nearest") or 0) for share in QUANTILES}


def _tail_shares(degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct positive degrees, and the share of nodes with that degree or more."""
    counts = np.bincount(degree[degree > 0])
    steps = np.flatnonzero(counts)
    return steps, counts[::-1].cumsum()[::-1][steps] / counts.sum()
