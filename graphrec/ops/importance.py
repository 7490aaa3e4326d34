"""Important neighbours: the items that short random walks from a node meet most often.

U users, I items, T neighbours kept, R walks, S steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphrec.ops.neighbourhood import Neighbourhood
from graphrec.ops.relation import Relation
from graphrec.ops.sampling import sample_neighbors

_ENTRIES_AT_ONCE = 1 << 22  # visits counted at once: 32 MB of int64 keys


def visited_items(
    relation: Relation, *, from_items: bool, first: int, last: int, num_walks: int, num_steps: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the items that random walks from each node meet, and keep those of the ranks `first` to `last`.

    A step goes from a user to one of its items, or from an item to one of its users and on to one of theirs. The start itself
    does not count. Ties go to the lower item. Where the relation has weights, a step takes an edge in proportion to its weight.

    Args:
        relation: users as rows, items as columns, on the CPU.
        from_items: whether walks start from items, else from users.
        first, last: ranks kept, counted from 0, `last` not included.
        num_walks, num_steps: R and S.
        seed: of the walks; the same for every number of threads.

    Returns:
        int64 (n, last - first), -1 where fewer were met, and their visits, float32 of that shape. Ranks ascend.
    """
    num_nodes = relation.num_src if from_items else relation.num_dst
    found = np.full((num_nodes, last - first), -1), np.zeros((num_nodes, last - first), dtype=np.float32)
    block = max(1, _ENTRIES_AT_ONCE // (num_walks * num_steps))
    for low in range(0, num_nodes, block):
        starts = torch.arange(low, min(low + block, num_nodes)).repeat_interleave(num_walks)
        items = _walk(relation, starts, from_items, num_steps, seed, low * num_walks)  # (n R, S)
        start = np.repeat(starts.numpy() - low, num_steps)
        items = items.reshape(-1)
        counted = items >= 0
        if from_items:
            counted &= items != start + low
        keys, counts = np.unique(start[counted] * relation.num_src + items[counted], return_counts=True)
        start, items = keys // relation.num_src, keys % relation.num_src
        order = np.lexsort((items, -counts, start))
        start, items, counts = start[order], items[order], counts[order]
        rank = np.arange(len(start)) - np.searchsorted(start, start)
        kept = (rank >= first) & (rank < last)
        place = start[kept] + low, rank[kept] - first
        found[0][place], found[1][place] = items[kept], counts[kept]
    return found


def _walk(relation: Relation, starts: Tensor, from_items: bool, num_steps: int, seed: int, offset: int) -> np.ndarray:
    """The items that each walk meets, (n, S), -1 from where a walk cannot go on."""
    met = np.full((len(starts), num_steps), -1)
    towards_users = relation.transpose()
    alive, at = np.arange(len(starts)), starts
    for step in range(num_steps):
        if from_items or step:
            users = sample_neighbors(towards_users, at, 1, replace=True, seed=seed + 2 * step, offset=offset)[0][:, 0]
            alive, at = alive[users.numpy() >= 0], users[users >= 0]
        items = sample_neighbors(relation, at, 1, replace=True, seed=seed + 2 * step + 1, offset=offset)[0][:, 0]
        alive, at = alive[items.numpy() >= 0], items[items >= 0]
        met[alive, step] = at.numpy()
    return met


@dataclass(frozen=True, eq=False)
class Importance:
    """Edges from important items to users and to items, weighted by their share of the visits.

    Attributes:
        to_users, to_items: relations (U, I) and (I, I).
        user_weight, item_weight: float32 in the order of their `indices`; those of a row sum to 1.
    """

    to_users: Relation
    user_weight: Tensor
    to_items: Relation
    item_weight: Tensor

    def at_layer(self, index: int) -> Importance:
        """The edges of any layer: the same."""
        return self

    def to(self, device: torch.device | str) -> Importance:
        """Copy to a device."""
        return Importance(*(part.to(device) for part in vars(self).values()))


class ImportantNeighbourhoods:
    """Important neighbours of all nodes, and for a batch the few nodes and edges that its rows are computed from.

    Args:
        relation: users as rows, items as columns, on the CPU.
        num_neighbors: T.
        num_hops: how far a batch's neighbourhood reaches.
        num_walks, num_steps: of the walks.
        seed: of the walks.

    Source: Ying et al. 2018, PinSAGE, arXiv:1806.01973, section 3.1. There the graph is walked anew for each batch; here once,
    so that training and inference see the same neighbours.
    """

    def __init__(
        self, relation: Relation, num_neighbors: int, num_hops: int, num_walks: int, num_steps: int, seed: int
    ) -> None:
        self._hops = num_hops
        walks = {"first": 0, "last": num_neighbors, "num_walks": num_walks, "num_steps": num_steps}
        self._users = visited_items(relation, from_items=False, seed=seed, **walks)
        self._items = visited_items(relation, from_items=True, seed=seed + 2 * num_steps, **walks)
        self._slots = np.full(relation.num_src, -1, dtype=np.int64)

    def whole(self) -> Importance:
        """The neighbours of all nodes."""
        size = len(self._slots)
        return Importance(*_weighted(*self._users, len(self._users[0]), size), *_weighted(*self._items, size, size))

    def draw(self, users: Tensor, items: Tensor, *, seed: int) -> Neighbourhood:
        """The neighbourhood of a batch's rows, as `NeighbourhoodSampler.draw`; nothing is drawn, so `seed` is not used."""
        nodes, found = items.numpy(), self._users[0][users.numpy()]
        self._slots[nodes] = np.arange(len(nodes))
        for _ in range(self._hops):
            inner = len(nodes)  # items that are computed and so need neighbours
            found = np.unique(np.concatenate([found.reshape(-1), self._items[0][nodes].reshape(-1)]))
            new = found[(found >= 0) & (self._slots[found] < 0)]
            self._slots[new] = np.arange(inner, inner + len(new))
            nodes, found = np.concatenate([nodes, new]), found[:0]
        towards = []
        for (neighbours, visits), rows, num_rows in (
            (self._users, users.numpy(), len(users)), (self._items, nodes[:inner], len(nodes)),
        ):  # fmt: skip
            columns = neighbours[rows]
            towards += _weighted(np.where(columns >= 0, self._slots[columns], -1), visits[rows], num_rows, len(nodes))
        self._slots[nodes] = -1
        return Neighbourhood(Importance(*towards), users, torch.from_numpy(nodes))


def _weighted(columns: np.ndarray, visits: np.ndarray, num_dst: int, num_src: int) -> tuple[Relation, Tensor]:
    """The relation of padded rows of columns, and each edge's share of its row's visits."""
    share = visits / np.maximum(visits.sum(1, keepdims=True), 1)
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])[columns.reshape(-1) >= 0]
    share, columns = share[columns >= 0], columns[columns >= 0]
    order = np.lexsort((columns, rows))
    relation = Relation.from_coo(rows, columns, num_dst, num_src)
    return relation, torch.from_numpy(share[order].astype(np.float32))
