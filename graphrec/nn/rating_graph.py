"""The graph of GC-MC: users and items joined by ratings, each of one of R levels.

U users, I items, R levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from graphrec.errors import ConfigError
from graphrec.nn.layer import bipartite_of
from graphrec.nn.masking import edge_positions, keep_drawn
from graphrec.ops import Neighbourhood, NeighbourhoodSampler, Relation, SampledRelation
from graphrec.ops.neighbourhood import USERS


@dataclass(frozen=True, eq=False)
class RatingGraph:
    """A bipartite graph whose edges have a level.

    Attributes:
        levels: one relation (U, I) for each level, lowest first; no edge is in two of them.
        pattern: all edges together, for the degrees.
    """

    levels: tuple[Relation, ...]
    pattern: Relation

    @classmethod
    def from_levels(cls, matrix: scipy.sparse.csr_matrix, num_levels: int) -> RatingGraph:
        """Build from a matrix (U, I) that stores a level in 0..num_levels - 1 for each edge, zeros stored too."""
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        levels = []
        for level in range(num_levels):
            chosen = matrix.data == level
            levels.append(Relation.from_coo(rows[chosen], matrix.indices[chosen], *matrix.shape))
        return cls(tuple(levels), Relation.from_scipy(matrix))

    @classmethod
    def from_dgl(cls, graph: Any, ratings: str | Sequence[Any] | None = None) -> RatingGraph:
        """Build from a DGL graph between users and items, users being rows (`graphrec.nn.layer.sides_of` says which end).

        Args:
            graph: a DGL graph.
            ratings: what tells the levels apart. The name of a feature of the edges, of a graph of one edge type: its distinct
                values are the levels, ascending. Or edge types, lowest level first. None takes the feature "rating" of a graph
                of one edge type, or one level where there is none, and of other graphs all edge types, whose names must be
                numbers.

        Raises:
            ConfigError: there is no such feature, edge types join other nodes, or a pair has several ratings.
        """
        where = "RatingGraph.from_dgl"
        if not hasattr(graph, "canonical_etypes"):
            raise TypeError(f"{where}: graph must be a DGL graph, got {type(graph).__name__}")
        if isinstance(ratings, str) or (ratings is None and len(graph.canonical_etypes) == 1):
            parts = _by_feature(graph, ratings, where)
        else:
            parts = _by_type(graph, ratings, where)
        levels = tuple(bipartite_of(part, where) for part in parts)
        rows, columns = (torch.cat([getattr(level, side) for level in levels]) for side in ("rows", "indices"))
        pattern = Relation.from_coo(rows, columns, levels[0].num_dst, levels[0].num_src)
        if pattern.num_edges != len(rows):
            raise ConfigError(
                f"{where}: a pair must have one rating, got {len(rows) - pattern.num_edges} of {len(rows)} edges that repeat a "
                "pair of another level; keep one of them"
            )
        return cls(levels, pattern)

    @classmethod
    def of(cls, graph: RatingGraph | Relation | Any, device: torch.device | str = "cpu") -> RatingGraph:
        """Return a rating graph as it is, or make one of a relation, with one level, or of a DGL graph (`from_dgl`)."""
        if isinstance(graph, RatingGraph):
            return graph
        return cls((graph,), graph) if isinstance(graph, Relation) else cls.from_dgl(graph).to(device)

    def to(self, device: torch.device | str) -> RatingGraph:
        """Copy to a device."""
        return RatingGraph(tuple(level.to(device) for level in self.levels), self.pattern.to(device))

    def at_layer(self, index: int) -> RatingGraph:
        """The edges of the one layer there is."""
        return self

    def neighbourhoods(self, fanouts: Sequence[int]) -> RatingNeighbourhoods:
        """What draws the neighbourhoods of sampled batches; the graph must be on the CPU."""
        return RatingNeighbourhoods(self, fanouts)


class RatingNeighbourhoods:
    """Draws neighbourhoods as `NeighbourhoodSampler` does, whatever an edge's level, and tells the levels apart afterwards.

    So the draws' pattern says how many edges each drawn one stands for, and the expectation of a row's sum over all levels
    is that of the whole graph.

    Args:
        graph: on the CPU.
        fanouts: edges drawn in each hop; the encoder has one.
    """

    def __init__(self, graph: RatingGraph, fanouts: Sequence[int]) -> None:
        self._sampler, self._graph = NeighbourhoodSampler(graph.pattern, fanouts), graph
        self._level = torch.empty(graph.pattern.num_edges, dtype=torch.int64)
        for number, level in enumerate(graph.levels):
            self._level[edge_positions(graph.pattern, level.rows, level.indices)[0]] = number

    def draw(self, users: Tensor, items: Tensor, *, seed: int) -> Neighbourhood:
        """Draw the neighbourhood of a batch's rows; arguments as in `NeighbourhoodSampler.draw`."""
        hood = self._sampler.draw(users, items, seed=seed)
        to_users, to_items = hood.relation, hood.relation.transpose()
        of_users = self._levels_of(hood.users[to_users.rows], hood.items[to_users.indices])
        of_items = self._levels_of(hood.users[to_items.indices], hood.items[to_items.rows])
        levels = []
        for number in range(len(self._graph.levels)):
            draws = keep_drawn(to_users, of_users == number), keep_drawn(to_items, of_items == number)
            levels.append(SampledRelation.of((draws,), hood.relation.degrees, USERS, 0))
        return Neighbourhood(RatingGraph(tuple(levels), hood.relation), hood.users, hood.items)

    def _levels_of(self, users: Tensor, items: Tensor) -> Tensor:
        return self._level[edge_positions(self._graph.pattern, users, items)[0]]


def _by_feature(graph: Any, name: str | None, where: str) -> list[Any]:
    """The graph of each distinct value of a feature of the edges, with all nodes."""
    if len(graph.canonical_etypes) != 1:
        raise ConfigError(
            f"{where}: a feature tells levels apart in a graph of one edge type, got {len(graph.canonical_etypes)}; pass "
            "graph[edge type], or edge types as ratings"
        )
    if name is None and "rating" not in graph.edata:
        return [graph]
    values = graph.edata.get(name or "rating")
    bad = [] if values is None else torch.nonzero(~torch.isfinite(values.flatten()))[:, 0].tolist()
    if bad and values.numel() == graph.num_edges():
        raise ConfigError(
            f"{where}: ratings must be finite, got {name or 'rating'!r} with NaN or infinity at {len(bad)} of {graph.num_edges()} edges, "
            f"the first being edge {bad[0]}; leave these edges out"
        )
    if values is None or values.numel() != graph.num_edges():
        has = ", ".join(f"{key} {tuple(value.shape)}" for key, value in graph.edata.items()) or "no features"
        raise ConfigError(
            f"{where}: ratings must name a feature that is one finite number for each of {graph.num_edges()} edges, got "
            f"{name or 'rating'!r}; the edges have {has}"
        )
    values = values.flatten()
    return [graph.edge_subgraph(values == value, relabel_nodes=False) for value in values.unique()] or [graph]


def _by_type(graph: Any, names: Sequence[Any] | None, where: str) -> list[Any]:
    """The graph of each edge type."""
    types = graph.canonical_etypes if names is None else [graph.to_canonical_etype(name) for name in names]
    mend = "name those of the levels, lowest first, as ratings = [edge type, ...]"
    if names is None:
        try:
            types = sorted(types, key=lambda etype: float(etype[1]))
        except ValueError:
            listed = ", ".join(map(str, types))
            raise ConfigError(f"{where}: edge types must have numbers as names to be in order, got {listed}; {mend}") from None
    if len({(source, target) for source, _, target in types}) != 1:
        listed = ", ".join(map(str, types)) or "none"
        raise ConfigError(f"{where}: the edge types of all levels must join the same nodes, got {listed}; {mend}")
    return [graph[etype] for etype in types]
