"""The typed neighbourhood of one node: what it is linked with, how, how strongly and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from typing import Any

import polars as pl

from graphrec.errors import ConfigError, UnknownIdError, unknown_name
from graphrec.graph.heterograph import EdgeType, reverse_name
from graphrec.graph.split import NO_TIME
from graphrec.graph.store import GraphStore

MAX_HOPS = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Node:
    """A node of the neighbourhood.

    Attributes:
        ntype: node type.
        index: within its type.
        id: as in the log.
        title: of its table's `title` or `name`; empty where it has none.
        hop: steps from the centre, 0 for itself.
    """

    ntype: str
    index: int
    id: int | str
    title: str
    hop: int

    @property
    def label(self) -> str:
        """The title with the id, or the id alone."""
        return f"{self.title} ({self.id})" if self.title else str(self.id)


@dataclass(frozen=True)
class Link:
    """The edges of one type between a node and one that is a hop further out.

    Attributes:
        inner, outer: positions in `Neighbourhood.nodes`.
        relation: name of the edge type.
        outward: whether the edge goes from the inner to the outer node.
        edges: how many; more than one where the log kept repeated events.
        weight: their sum; None for edge types without weights.
        time: the latest; None where none is known.
    """

    inner: int
    outer: int
    relation: str
    outward: bool
    edges: int
    weight: float | None
    time: datetime | None


@dataclass(frozen=True)
class Reach:
    """How much of one edge type and direction a hop shows.

    Attributes:
        hop: 1, 2, ...
        relation, outward: as of `Link`.
        ntype: node type at the outer end.
        found: nodes that the hop reaches this way and no hop before.
        shown: those of them in the neighbourhood.
    """

    hop: int
    relation: str
    outward: bool
    ntype: str
    found: int
    shown: int


@dataclass(frozen=True)
class Neighbourhood:
    """A node and what lies around it in the training graph.

    Attributes:
        nodes: the centre first, then hop by hop.
        links: from each hop to the next; links within a hop are not among them.
        reaches: what was found and what is shown.
    """

    nodes: list[Node]
    links: list[Link]
    reaches: list[Reach]

    @property
    def centre(self) -> Node:
        """The node asked for."""
        return self.nodes[0]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; times in ISO 8601."""
        values = asdict(self)
        for link, plain in zip(self.links, values["links"], strict=True):
            plain["time"] = link.time and link.time.isoformat()
        return values

    def ways(self) -> Iterator[list[Link]]:
        """The links of one outer node, relation and direction at a time, the strongest first."""
        groups: dict[tuple[int, str, bool], list[Link]] = {}
        for link in self.links:
            groups.setdefault((link.outer, link.relation, link.outward), []).append(link)
        for key in sorted(groups, key=lambda key: key[0]):
            yield sorted(groups[key], key=lambda link: -(link.weight or 0.0))


def neighbourhood(
    store: GraphStore, node_id: int | str, ntype: str | None = None, *, hops: int = 2, limit: int = 20
) -> Neighbourhood:
    """Walk the training graph from one node outwards, along all edge types in both directions.

    Args:
        store: an open store.
        node_id: an id of the log.
        ntype: "user", "item" or "entity"; None finds the type that has the id.
        hops: 1 to 4.
        limit: nodes that a hop adds at most. Each edge type and direction gets its turn, and gives first the nodes that most
            nodes of the hop before lead to, then those of the largest weight, then the latest.

    Raises:
        ConfigError: hops or limit is out of range, the type is unknown, or several types have the id.
        UnknownIdError: no node has the id; the message names the nearest.
        StoreError: the graph is damaged.
    """
    if not 1 <= hops <= MAX_HOPS:
        raise ConfigError(f"neighbors: hops must be 1 to {MAX_HOPS}, got {hops}; 1 shows what the node itself is linked with")
    if limit < 1:
        raise ConfigError(f"neighbors: limit must be at least 1 node a hop, got {limit}")
    found = _find(store, node_id, ntype)
    return _Walk(store).outwards(*found, hops, limit)


def _find(store: GraphStore, node_id: int | str, ntype: str | None) -> tuple[str, int]:
    """Node type and index of an id."""
    if ntype is not None and ntype not in store.node_types:
        raise unknown_name("node type", ntype, store.node_types)
    types = ["user", "item", *(one for one in store.node_types if one not in ("user", "item"))] if ntype is None else [ntype]
    places = {one: int(store.ids(one).find([node_id])[0]) for one in types}
    known = [one for one in types if places[one] >= 0]
    if len(known) > 1:
        raise ConfigError(
            f"the id {node_id!r} is that of {' and of '.join(f'a node of type {one}' for one in known)}; say which with "
            f"--ntype {known[0]} (ntype={known[0]!r})"
        )
    if not known:
        near = [f"{one} {', '.join(map(repr, ids))}" for one in types if (ids := store.ids(one).near(node_id))]
        alike = [f"{one} {store.ids(one).series[0]!r}" for one in types if len(store.ids(one))]
        hint = f"the nearest are {'; '.join(near)}" if near else f"ids look like {', '.join(alike)}"
        raise UnknownIdError(f"no node of type {' or '.join(types)} in the training graph has the id {node_id!r}; {hint}")
    return known[0], places[known[0]]


class _Walk:
    """One walk over a store's graph."""

    def __init__(self, store: GraphStore) -> None:
        self.store, self.graph = store, store.graph()
        backwards = {("item", reverse_name(behavior), "user") for behavior in store.behaviors}
        self.etypes = [etype for etype in store.canonical_etypes if etype not in backwards]
        self.titles = {ntype: store.titles(ntype) for ntype in store.node_types}
        self.nodes: list[Node] = []
        self.position: dict[tuple[str, int], int] = {}

    def outwards(self, ntype: str, index: int, hops: int, limit: int) -> Neighbourhood:
        """Hop by hop."""
        links: list[Link] = []
        reaches: list[Reach] = []
        frontier = [(ntype, index)]
        self._add(frontier, 0)
        for hop in range(1, hops + 1):
            steps = self._steps(frontier)
            chosen = _take_turns([[(outer, one) for one in ranked] for (_, _, outer), (_, ranked) in steps.items()], limit)
            self._add(chosen, hop)
            for (etype, outward, outer), (pairs, ranked) in steps.items():
                shown = [one for one in ranked if (outer, one) in self.position]
                reaches.append(Reach(hop, etype[1], outward, outer, len(ranked), len(shown)))
                links += self._links(pairs.filter(pl.col("outer").is_in(shown)), etype, outward)
            frontier = chosen
        return Neighbourhood(self.nodes, links, reaches)

    def _add(self, nodes: list[tuple[str, int]], hop: int) -> None:
        for ntype, index in nodes:
            self.position[ntype, index] = len(self.nodes)
            titles = self.titles[ntype]
            [node_id] = self.store.ids(ntype).gather([index]).to_list()
            self.nodes.append(Node(ntype, index, node_id, titles[index] if titles else "", hop))

    def _steps(self, frontier: list[tuple[str, int]]) -> dict[tuple[EdgeType, bool, str], tuple[pl.DataFrame, list[int]]]:
        """(edge type, outward, outer type) to pairs of inner and outer nodes, and the outer ones from strongest to weakest."""
        steps = {}
        for etype in self.etypes:
            for outward in (True, False):
                inner, outer = (etype[0], etype[2]) if outward else (etype[2], etype[0])
                rows = [index for ntype, index in frontier if ntype == inner]
                before = [index for ntype, index in self.position if ntype == outer]
                pairs = self._pairs(etype, outward, rows) if rows else None
                pairs = None if pairs is None else pairs.filter(~pl.col("outer").is_in(before))
                if pairs is not None and len(pairs):
                    strength = pairs.group_by("outer").agg(pl.len(), pl.col("weight").sum(), pl.col("time").max())
                    order = strength.sort("len", "weight", "time", "outer", descending=[True, True, True, False], nulls_last=True)
                    steps[etype, outward, outer] = pairs, order["outer"].to_list()
        return steps

    def _pairs(self, etype: EdgeType, outward: bool, rows: list[int]) -> pl.DataFrame:
        """The edges at some nodes, those of one pair together: inner, outer, edges, weight, time (µs)."""
        import torch

        nodes = torch.tensor(rows, dtype=torch.int32)
        walk = self.graph.out_edges if outward else self.graph.in_edges
        source, target, edge = walk(nodes, form="all", etype=etype)
        inner, outer = (source, target) if outward else (target, source)
        data = self.graph.edges[etype].data
        columns = {"inner": inner.numpy(), "outer": outer.numpy()}
        for name, key in (("weight", "weight"), ("time", "timestamp")):
            columns[name] = data[key][edge.long()].numpy() if key in data else None
        frame = pl.DataFrame(columns, schema_overrides={"weight": pl.Float64, "time": pl.Int64})
        frame = frame.with_columns(pl.when(pl.col("time") != NO_TIME).then("time").alias("time"))
        weight = pl.when(pl.col("weight").is_not_null().any()).then(pl.col("weight").sum())
        return frame.group_by("inner", "outer", maintain_order=True).agg(
            pl.len().alias("edges"), weight.alias("weight"), pl.col("time").max()
        )

    def _links(self, pairs: pl.DataFrame, etype: EdgeType, outward: bool) -> list[Link]:
        inner, outer = (etype[0], etype[2]) if outward else (etype[2], etype[0])
        return [
            Link(
                inner=self.position[inner, row["inner"]],
                outer=self.position[outer, row["outer"]],
                relation=etype[1],
                outward=outward,
                edges=row["edges"],
                weight=row["weight"],
                time=None if row["time"] is None else _EPOCH + timedelta(microseconds=row["time"]),
            )
            for row in pairs.iter_rows(named=True)
        ]


def _take_turns(ranked: list[list[tuple[str, int]]], limit: int) -> list[tuple[str, int]]:
    """The first of every list, then the second of every list, and so on, each node once, until there are `limit`."""
    turns = (one for turn in zip_longest(*ranked) for one in turn if one is not None)
    return list(dict.fromkeys(turns))[:limit]
