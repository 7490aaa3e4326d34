"""Sampled neighbourhoods: the few nodes and edges that the rows of a batch are computed from, as relations of their own.

u, i rows of a batch, n, m local users and items, L hops. Work and memory of a draw follow the batch and the fanouts, never
the graph; only the numbering of nodes (4 bytes a node, made once) is as long as the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from graphrec.ops.relation import Relation
from graphrec.ops.sampling import sample_neighbors

USERS, ITEMS = 0, 1


@dataclass(frozen=True, eq=False)
class Draw:
    """The edges drawn in one hop towards one side, in local numbers.

    Attributes:
        indptr, indices, t_indptr, t_indices: as in `Relation`.
        correction: float64 (rows,), edges in the graph / edges drawn; 0 for rows that drew nothing.
        weight: float32 (edges,), in the order of `indices`, how much of its row's weight each stands for, where the graph has
            weights; the correction is then 1.
    """

    indptr: Tensor
    indices: Tensor
    t_indptr: Tensor
    t_indices: Tensor
    correction: Tensor
    weight: Tensor | None = None

    def to(self, device: torch.device | str) -> Draw:
        """Copy to a device."""
        parts = (getattr(self, part.name) for part in fields(self))
        return Draw(*(None if part is None else part.to(device) for part in parts))


@dataclass(frozen=True, eq=False)
class SampledRelation(Relation):
    """Drawn edges between local nodes that stand for the relation of the whole graph: see `Relation` for what layers may do.

    For rows v of layer l and any fixed X, E[sum over drawn edges (v, w) of scale_dst(a)_v scale_src(b)_w x_w] is the same sum
    over all edges of v in the graph: `scale_dst` is degree^a * degree / drawn. A row that drew all of its edges has them
    exactly. The draws of different layers are independent, so products of layers are unbiased too. Of a graph with weights, the
    weights of a row's drawn edges add up to those of all its edges, and are each unbiased; a maximum is one of what was drawn.

    Attributes:
        draws: for each layer from the inputs to the outputs, the draws towards users and towards items.
        degrees: int64 (n,) and (m,), edges of the local users and items in the whole graph; floats where they are estimates or
            sums of weights.
        side: whether users or items are the rows.
        layer: which layer this is.
        past: what the inputs and each layer gave for the local users and items, (n, D) and (m, D), in an earlier pass over the
            whole graph; empty where there was none.
    """

    draws: tuple[tuple[Draw, Draw], ...] = ()
    degrees: tuple[Tensor, Tensor] = ()
    side: int = USERS
    layer: int = 0
    past: tuple[tuple[Tensor, Tensor], ...] = ()

    @classmethod
    def of(cls, draws: tuple[tuple[Draw, Draw], ...], degrees: tuple[Tensor, Tensor], side: int, layer: int) -> SampledRelation:
        """Make the relation of one side and layer."""
        draw = draws[layer][side]
        sizes = len(degrees[side]), len(degrees[1 - side])
        arrays = draw.indptr, draw.indices, draw.t_indptr, draw.t_indices
        own = {"draws": draws, "degrees": degrees, "side": side, "layer": layer}
        return cls(*arrays, *sizes, weight=draw.weight, trusted=True, **own)

    @property
    def draw(self) -> Draw:
        """The draw of this side and layer."""
        return self.draws[self.layer][self.side]

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.draws)

    @property
    def full_degree_dst(self) -> Tensor:
        """Edges of each row in the whole graph, int64, or the sum of their weights."""
        return self.degrees[self.side]

    @property
    def full_degree_src(self) -> Tensor:
        """Edges of each column in the whole graph, int64, or the sum of their weights."""
        return self.degrees[1 - self.side]

    strength_dst, strength_src = full_degree_dst, full_degree_src

    def at_layer(self, index: int) -> SampledRelation:
        """The draws of layer `index`, counted from the inputs."""
        return SampledRelation.of(self.draws, self.degrees, self.side, index)

    def transpose(self) -> SampledRelation:
        """The draws of the same layer towards the other side: not the transposed matrix."""
        return SampledRelation.of(self.draws, self.degrees, 1 - self.side, self.layer)

    def with_past(self, past: Sequence[tuple[Tensor, Tensor]]) -> SampledRelation:
        """The same draws with `past`, for an encoder that `takes_past`."""
        made = SampledRelation.of(self.draws, self.degrees, self.side, self.layer)
        return replace(made, past=tuple(past), trusted=True)

    def to(self, device: torch.device | str) -> SampledRelation:
        """Copy to a device, all layers, without `past`."""
        draws = tuple((users.to(device), items.to(device)) for users, items in self.draws)
        return SampledRelation.of(draws, tuple(part.to(device) for part in self.degrees), self.side, self.layer)

    def scale_dst(self, exponent: float, dtype: torch.dtype = torch.float32, loops: int = 0) -> Tensor:
        """(degree + loops) ** exponent * degree / drawn: the scale of a drawn sum that stands for the sum over all edges."""
        key = "corrected", exponent, dtype, loops
        if key not in self._kept:
            scale = self._scale("dst", exponent, torch.float64, loops)
            self._kept[key] = (scale * self.draw.correction).to(dtype)
        return self._kept[key]


@dataclass(frozen=True, eq=False)
class RowBlock(Relation):
    """All edges of some rows of a whole relation and only the columns that they reach, with the degrees of the whole.

    For messages to its rows; its transpose knows nothing of the whole.

    Attributes:
        columns: int64 (C,), ascending: what the columns are in the whole relation.
        degrees: (B,) and (C,), `strength_dst` and `strength_src` of the rows and columns in the whole relation.
    """

    columns: Tensor | None = None
    degrees: tuple[Tensor, Tensor] = ()

    @classmethod
    def of(cls, relation: Relation, rows: Tensor) -> RowBlock:
        """Make the block of `rows`, int64 (B,), distinct, in their order."""
        part = relation.take_rows(rows)
        reached = part.degree_src > 0
        columns, number = reached.nonzero()[:, 0], reached.cumsum(0) - 1
        t_indptr = part.t_indptr[torch.cat([columns.new_zeros(1), columns + 1])]
        degrees = relation.strength_dst[rows], relation.strength_src[columns]
        sizes, kept = (len(rows), len(columns)), {"rows": part.rows, "t_edges": part.t_edges}
        indices = number[part.indices].int()
        arrays = part.indptr, indices, t_indptr, part.t_indices
        return cls(*arrays, *sizes, kept, part.weight, trusted=True, columns=columns, degrees=degrees)

    @property
    def full_degree_dst(self) -> Tensor:
        """Edges of each row in the whole relation, int64 (B,), or the sum of their weights: those of the block."""
        return self.degrees[0]

    @property
    def full_degree_src(self) -> Tensor:
        """Edges of each column in the whole relation, int64 (C,), or the sum of their weights."""
        return self.degrees[1]

    strength_dst, strength_src = full_degree_dst, full_degree_src


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What the rows of one batch are computed from.

    Attributes:
        relation: between local users (rows) and local items, at the layer next to the inputs.
        users, items: int64 (n,) and (m,), the local nodes' indices in the graph; the batch's own rows come first, in order.
    """

    relation: Relation
    users: Tensor
    items: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Neighbourhood:
        """Copy to a device."""
        nodes = (part.to(device, non_blocking=non_blocking) for part in (self.users, self.items))
        return Neighbourhood(self.relation.to(device), *nodes)


class NeighbourhoodSampler:
    """Draws neighbourhoods of L hops for rows of both sides.

    Hop h draws up to fanouts[h] edges, without replacement, of every node found so far, so a node's draws in different hops
    are independent; fanouts[0] is for the batch's own rows. With fanouts of at least the largest degree the encoded rows are
    those of the whole graph.

    Edges of a relation with weights are drawn in proportion to them: a node of more than fanouts[h] edges draws that many times,
    with replacement, and each draw stands for an equal share of the sum of its weights.

    Args:
        relation: users as rows, items as columns, on the CPU.
        fanouts: edges a hop, each at least 1.

    Raises:
        ValueError: a fanout is below 1.

    Source: Hamilton et al. 2017, GraphSAGE, arXiv:1706.02216, algorithm 2. There a sampled mean stands for the mean; here
    full degrees and degree / drawn (`SampledRelation`) make any scaled sum unbiased.
    """

    def __init__(self, relation: Relation, fanouts: Sequence[int]) -> None:
        if any(fanout < 1 for fanout in fanouts):
            raise ValueError(f"NeighbourhoodSampler: fanouts must be at least 1, got {list(fanouts)}")
        self._towards = relation, relation.transpose()
        self._fanouts = tuple(fanouts)
        self._indptr = relation.indptr.numpy(), relation.t_indptr.numpy()
        weighted = relation.weight is not None
        self._strength = (relation.strength_dst.numpy(), relation.strength_src.numpy()) if weighted else None
        self._slots = tuple(np.full(len(indptr) - 1, -1, dtype=np.int32) for indptr in self._indptr)

    def draw(self, users: Tensor, items: Tensor, *, seed: int) -> Neighbourhood:
        """Draw the neighbourhood of a batch.

        Args:
            users, items: int64 (u,) and (i,), distinct.
            seed: of the draw; seeds that differ by less than 2 L are not independent.
        """
        nodes = [users.numpy(), items.numpy()]
        for side in (USERS, ITEMS):
            self._slots[side][nodes[side]] = np.arange(len(nodes[side]), dtype=np.int32)
        try:
            hops = []
            for hop, fanout in enumerate(self._fanouts):
                hops.append([self._neighbours(side, nodes[side], fanout, seed + 2 * hop + side) for side in (USERS, ITEMS)])
                nodes = [self._extended(side, nodes[side], hops[-1][1 - side][0]) for side in (USERS, ITEMS)]
            degrees = [self._degrees(side, nodes[side]) for side in (USERS, ITEMS)]
            hops = hops or [[(np.empty((0, 1), dtype=np.int64), None)] * 2]  # an encoder without hops sees nodes without edges
            draws = tuple(tuple(self._local(side, *drawn[side], degrees) for side in (USERS, ITEMS)) for drawn in hops[::-1])
        finally:
            for side in (USERS, ITEMS):
                self._slots[side][nodes[side]] = -1
        relation = SampledRelation.of(draws, tuple(map(torch.from_numpy, degrees)), USERS, 0)
        return Neighbourhood(relation, *map(torch.from_numpy, nodes))

    def _degrees(self, side: int, nodes: np.ndarray) -> np.ndarray:
        """Edges of nodes in the graph, or the sums of their weights."""
        indptr = self._indptr[side]
        return indptr[nodes + 1] - indptr[nodes] if self._strength is None else self._strength[side][nodes]

    def _neighbours(self, side: int, rows: np.ndarray, fanout: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Drawn columns (rows, fanout), -1 where a row has no more, and what they weigh, None without weights."""
        relation, nodes = self._towards[side], torch.from_numpy(rows)
        if self._strength is None:
            return sample_neighbors(relation, nodes, fanout, seed=seed)[0].numpy(), None
        columns, edges = torch.empty(2, len(rows), fanout, dtype=torch.int64)
        few = relation.indptr[nodes + 1] - relation.indptr[nodes] <= fanout
        for part, again in ((few, False), (~few, True)):  # without replacement an edge's chance would be no simple number
            columns[part], edges[part] = sample_neighbors(relation, nodes[part], fanout, replace=again, seed=seed)
        weight = torch.from_numpy(self._strength[side][rows] / fanout)[:, None].repeat(1, fanout)
        own = few[:, None] & (edges >= 0)
        weight[own] = relation.weight[edges[own]].double()
        return columns.numpy(), weight.numpy()

    def _extended(self, side: int, known: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Number the nodes in `columns` that have no number yet, in ascending order, after the known ones."""
        slots = self._slots[side]
        found = columns[columns >= 0]
        found = found[slots[found] < 0]
        # Each index keeps the last of its positions, so that is the one occurrence that stays: distinct without a sort.
        slots[found] = np.arange(len(found), dtype=np.int32)
        new = np.sort(found[slots[found] == np.arange(len(found))])
        slots[new] = np.arange(len(known), len(known) + len(new), dtype=np.int32)
        return np.concatenate([known, new])

    def _local(self, side: int, columns: np.ndarray, weight: np.ndarray | None, degrees: list[np.ndarray]) -> Draw:
        num_dst, num_src = len(degrees[side]), len(degrees[1 - side])
        kept, drawn = columns >= 0, np.zeros(num_dst, dtype=np.int64)
        drawn[: len(columns)] = kept.sum(1)
        indices = self._slots[1 - side][columns[kept]]
        indptr = np.concatenate([[0], np.cumsum(drawn)])
        values = np.ones(len(indices), dtype=np.int8) if weight is None else weight[kept]
        matrix = scipy.sparse.csr_matrix((values, indices, indptr), shape=(num_dst, num_src))
        if weight is not None:
            matrix.sum_duplicates()
        by_src = matrix.tocsc()
        by_dst = by_src.tocsr()  # both ascend now
        correction = (drawn > 0) * (1.0 if weight is not None else degrees[side] / np.maximum(drawn, 1))
        parts = (by_dst.indptr, np.int64), (by_dst.indices, np.int32), (by_src.indptr, np.int64), (by_src.indices, np.int32)
        counts = None if weight is None else torch.from_numpy(by_dst.data.astype(np.float32))
        return Draw(*(torch.from_numpy(part.astype(dtype)) for part, dtype in parts), torch.from_numpy(correction), counts)
