"""Random draws over a `Relation`: negatives for users and neighbours of rows, the same on every device and thread count.

U rows (users), I columns (items), E edges, S slots of a pool or I, F fanout. Every draw comes from Philox counters (`seed`,
`offset` + position of the entry), so drawing a list in parts with matching offsets gives what drawing it at once gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import bounds_of, check_index, check_integer, check_shaped, signed_seed
from graphrec.ops.philox import below, counters, philox, race, unit
from graphrec.ops.registration import register
from graphrec.ops.relation import Relation


@dataclass(frozen=True, eq=False)
class AliasTable:
    """A discrete distribution that is drawn from in constant time.

    A slot is drawn uniformly and replaced by `alias[slot]` with probability 1 - `probability[slot]`.

    Attributes:
        probability: float32 (S,), in [0, 1].
        alias: int32 (S,), in 0..S - 1.

    Raises:
        ValueError: a dtype, a shape or a device is another, or on the CPU an alias is out of range.

    Source: Vose 1991, "A linear algorithm for generating random numbers with a given distribution". The pairing of light
    with heavy slots is found by one search in running sums instead of two stacks, so there is no loop.
    """

    probability: Tensor
    alias: Tensor

    def __post_init__(self) -> None:
        for name, value, dtype in (("probability", self.probability, torch.float32), ("alias", self.alias, torch.int32)):
            if value.dtype != dtype or value.ndim != 1:
                raise ValueError(
                    f"AliasTable: {name} must be {dtype} (S,), got {value.dtype} {tuple(value.shape)}; make tables from_weights"
                )
        if len(self.probability) != len(self.alias) or self.probability.device != self.alias.device:
            raise ValueError(
                "AliasTable: probability and alias must have one length and one device, got "
                f"{len(self.probability)} on {self.probability.device} and {len(self.alias)} on {self.alias.device}"
            )
        if len(self.alias) and self.alias.device.type == "cpu" and type(self.alias) is Tensor:  # a fake one has no values
            [(low, high)] = bounds_of(self.alias)
            if low < 0 or high >= len(self.alias):
                raise ValueError(f"AliasTable: alias must be in 0..{len(self.alias) - 1}, got {low}..{high}")

    @classmethod
    def from_weights(cls, weights: np.ndarray | Tensor) -> AliasTable:
        """Build from weights (S,), finite, at least 0 and not all 0; slots of weight 0 are never drawn.

        Raises:
            ValueError: a weight is negative or not finite, or there is nothing to draw.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
            values = f", from {weights.min():g} to {weights.max():g}" if weights.size else ""
            raise ValueError(f"AliasTable: weights must be (S,), finite, >= 0 and not all 0, got shape {weights.shape}{values}")
        share = weights * (len(weights) / weights.sum())  # 1 on average
        share[share.argmax()] = max(1.0, share.max())  # rounding must not leave every slot light
        probability, alias = share.copy(), np.arange(len(share))
        light, heavy = np.flatnonzero(share < 1), np.flatnonzero(share >= 1)
        # Padded so that a search always ends at an entry, whatever rounding did to the two totals, which are equal.
        lack = np.concatenate([[0.0], np.cumsum(1 - share[light]), [np.inf]])
        surplus = np.cumsum(share[heavy] - 1)[:-1]
        # A light slot is filled by the first heavy one whose surplus the lacks before it have not used up.
        alias[light] = heavy[np.searchsorted(surplus, lack[:-2], side="right")]
        # The light slot that uses up a heavy one takes more than is left: the heavy one becomes light, filled by the next.
        over = lack[np.searchsorted(lack, surplus, side="left")] - surplus
        probability[heavy] = 1.0
        probability[heavy[:-1]] -= np.where(over < 1, over, 0.0)
        alias[heavy[:-1]] = heavy[1:]
        return cls(torch.from_numpy(probability.astype(np.float32)), torch.from_numpy(alias.astype(np.int32)))

    @classmethod
    def from_popularity(cls, counts: np.ndarray | Tensor, exponent: float = 0.75) -> AliasTable:
        """Build with weights counts ** exponent; slots with count 0 are never drawn.

        Source of the default: Mikolov et al. 2013, arXiv:1310.4546, section 2.2.
        """
        counts = np.asarray(counts, dtype=np.float64)
        if not (counts >= 0).all():
            raise ValueError(f"AliasTable: counts must be at least 0, got {counts[~(counts >= 0)][0]:g}")
        return cls.from_weights(np.where(counts > 0, np.maximum(counts, 1e-300) ** exponent, 0.0))

    def to(self, device: torch.device | str) -> AliasTable:
        """Copy to a device."""
        return AliasTable(self.probability.to(device), self.alias.to(device))


def sample_negatives(
    relation: Relation,
    users: Tensor,
    num_items: int | None = None,
    *,
    seed: int,
    offset: int = 0,
    distribution: AliasTable | None = None,
    pool: Tensor | None = None,
    max_attempts: int = 1000,
) -> Tensor:
    """Draw for each entry of `users` an item that is no neighbour of the user in `relation`.

    With probability proportional to `distribution` (uniform without one) restricted to what the user has not got: an item of
    the history is drawn again. With a `pool`, such as the items of a batch, slots of the pool are drawn, so that an item that
    occurs twice is twice as likely. Moves about 32·n bytes and, for each attempt of an entry, 8 each of the distribution and of
    the pool and 4·log2(degree) of the history.

    Args:
        relation: (U, I), the histories: every edge, whatever it weighs.
        users: int64 (n,), duplicates allowed.
        num_items: how many items there are, 0 … num_items - 1, at most 2^31 - 1; I by default.
        seed: an integer, of all draws; 64 bits of it count.
        offset: counter of the first entry.
        distribution: over pool slots, or over items without a pool.
        pool: int64 (S,), items to draw from.
        max_attempts: draws for one entry.

    Returns:
        int64 (n,).

    Raises:
        ValueError: a size or an index does not fit.
        RuntimeError: for some entry every attempt hit the history; the message names a user.

    The reference is in NumPy, which has the unsigned 64-bit products of the generator; it draws the same.
    """
    where = "sample_negatives"
    least = 1 if pool is None else 0
    num_items = check_integer(where, "num_items", relation.num_src if num_items is None else num_items, least, 2**31 - 1)
    check_index(where, "users", users, relation.num_dst)
    if pool is not None:
        check_index(where, "pool", pool, max(num_items, relation.num_src))
        if not len(pool):
            raise ValueError(f"{where}: pool must hold an item to draw, got none; leave it out to draw from all items")
        pool = pool.contiguous()
    slots = num_items if pool is None else len(pool)
    if distribution is not None and not isinstance(distribution, AliasTable):
        got = type(distribution).__name__
        raise TypeError(f"{where}: distribution must be an AliasTable, got {got}; make one with AliasTable.from_weights")
    if distribution is not None and len(distribution.probability) != slots:
        raise ValueError(f"{where}: distribution must have {slots} slots, got {len(distribution.probability)}")
    max_attempts = check_integer(where, "max_attempts", max_attempts, 1)
    seed, offset = signed_seed(where, seed), check_integer(where, "offset", offset, 0)
    table = (None, None) if distribution is None else (distribution.probability, distribution.alias)
    index = relation.indptr, relation.indices
    items, failed = _NEGATIVES(users.contiguous(), *index, num_items, pool, *table, seed, offset, max_attempts)
    if int(failed):
        user = int(users[int((items < 0).nonzero()[0])])
        raise RuntimeError(
            f"sample_negatives: {int(failed)} of {len(users)} entries found no item outside the history in {max_attempts} "
            f"attempts, such as user {user} with {int(relation.degree_dst[user])} of {num_items} items; leave such users out "
            "or raise max_attempts"
        )
    return items


def sample_neighbors(
    relation: Relation,
    rows: Tensor,
    fanout: int,
    *,
    weights: Tensor | None = None,
    replace: bool = False,
    seed: int,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw up to `fanout` edges of each row of `relation`.

    Without replacement a row with no more than `fanout` edges gives all of them, and weighted draws are successive: each next
    edge in proportion to its weight among those left. Edges of weight 0 are never drawn. Moves about B·(24 + 20·F) bytes, and
    with weights 4 for each edge of each entry's row.

    Args:
        relation: (U, I); one with weights is drawn from in proportion to them, and uniformly as `relation.with_weight(None)`.
        rows: int64 (B,), duplicates allowed; each entry draws for itself.
        fanout: F, at least 1.
        weights: float32 (E,) in the order of `relation.indices`, finite and at least 0, in place of the relation's own; None for
            these, equal ones where it has none.
        replace: draw independently, so that an edge may come more than once.
        seed, offset: as in `sample_negatives`.

    Returns:
        The columns and the edges drawn, int64 (B, F) both, -1 where a row has no more. Distinct edges ascend.

    Raises:
        ValueError: a size, an index or a weight does not fit.

    Source: Floyd's method for distinct uniform draws (Bentley and Floyd 1987); Efraimidis and Spirakis 2006 for weighted
    ones, with the logarithm in integers so that every device orders the keys alike.

    The reference is in NumPy, as that of `sample_negatives`.
    """
    check_index("sample_neighbors", "rows", rows, relation.num_dst)
    fanout = check_integer("sample_neighbors", "fanout", fanout, 1)
    seed, offset = signed_seed("sample_neighbors", seed), check_integer("sample_neighbors", "offset", offset, 0)
    if weights is not None:
        check_shaped("sample_neighbors", "weights", weights, (relation.num_edges,), torch.float32)
        if len(weights) and not (bool(torch.isfinite(weights).all()) and float(weights.min()) >= 0):
            low, high = (float(bound) for bound in weights.aminmax())
            raise ValueError(f"sample_neighbors: weights must be finite and at least 0, got {low:g}..{high:g}")
        weights = weights.contiguous()
    else:
        weights = relation.weight  # looked at when the relation was made
    index = relation.indptr, relation.indices
    return _NEIGHBORS(rows.contiguous(), *index, weights, fanout, replace, seed, offset)


def negatives_forward(
    users: Tensor,
    indptr: Tensor,
    indices: Tensor,
    num_items: int,
    pool: Tensor | None,
    probability: Tensor | None,
    alias: Tensor | None,
    seed: int,
    offset: int,
    max_attempts: int,
) -> tuple[Tensor, Tensor]:
    """`sample_negatives` without checks: the items, -1 where every attempt failed, and how many did, int64 (1,)."""
    return _NEGATIVES(users, indptr, indices, num_items, pool, probability, alias, seed, offset, max_attempts)


def _negatives(users, indptr, indices, num_items, pool, probability, alias, seed, offset, max_attempts):  # type: ignore[no-untyped-def]
    if _kernels.library(users.device.type) is None:
        arrays = (part if part is None else part.cpu().numpy() for part in (users, indptr, indices, pool, probability, alias))
        items = torch.from_numpy(_negatives_reference(*arrays, num_items, seed, offset, max_attempts)).to(users.device)
        return items, (items < 0).sum().reshape(1)
    items, failed = torch.empty_like(users), users.new_zeros(1)
    if len(users):
        _kernels.call(
            *("sample_negatives", users, len(users), num_items, users, indptr, indices, pool, 0 if pool is None else len(pool)),
            *(probability, alias, seed, offset, max_attempts, items, failed),
        )
    return items, failed


def _negatives_reference(users, indptr, indices, pool, probability, alias, num_items, seed, offset, max_attempts):  # type: ignore[no-untyped-def]
    slots = num_items if pool is None else len(pool)
    items = np.full(len(users), -1)
    left, low = np.arange(len(users)), counters(offset, len(users))
    # Sorted keys row * width + item; a history may name items beyond num_items, and a pool too.
    width = max(num_items, 1 + int(indices.max(initial=0)), 1 + (0 if pool is None else int(pool.max())))
    keys = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) * width + indices
    for attempt in range(max_attempts):
        if not len(left):
            break
        words = philox(seed, low[left], attempt)
        slot = below(words[0], slots)
        if probability is not None:
            slot = np.where(unit(words[1]) >= probability[slot], alias[slot], slot)
        drawn = slot if pool is None else pool[slot]
        wanted = users[left] * width + drawn
        place = np.searchsorted(keys, wanted)
        known = keys[np.minimum(place, len(keys) - 1)] == wanted if len(keys) else np.zeros(len(left), dtype=bool)
        items[left[~known]] = drawn[~known]
        left = left[known]
    return items


def _neighbors(rows, indptr, indices, weights, fanout, replace, seed, offset):  # type: ignore[no-untyped-def]
    columns, edges = (rows.new_empty(len(rows), fanout) for _ in range(2))
    if _kernels.library(rows.device.type) is None:
        arrays = (part if part is None else part.cpu().numpy() for part in (rows, indptr, weights))
        edges = torch.from_numpy(_neighbors_reference(*arrays, fanout, replace, seed, offset)).to(rows.device)
        columns = indices[edges.clamp_min(0)].long() if len(indices) else edges
        return columns.masked_fill(edges < 0, -1), edges
    if len(rows):
        _kernels.call(
            *("sample_neighbors", rows, len(rows), fanout, int(replace), rows, indptr, indices, weights, seed, offset),
            *(columns, edges),
        )
    return columns, edges


def _neighbors_reference(rows, indptr, weights, fanout, replace, seed, offset):  # type: ignore[no-untyped-def]
    edges = np.full((len(rows), fanout), -1)
    for i, row in enumerate(rows):
        begin, degree = int(indptr[row]), int(indptr[row + 1] - indptr[row])
        weight = None if weights is None else weights[begin : begin + degree].astype(np.float64)
        places = _places(weight, degree, fanout, replace, seed, offset + i)
        edges[i, : len(places)] = begin + places
    return edges


def _places(weight, degree, fanout, replace, seed, counter):  # type: ignore[no-untyped-def]
    """Where in its row the drawn edges of one entry are; the rule is in graphrec_operators.h."""
    words = max(degree if weight is not None and not replace else 0, fanout)
    blocks = np.arange(-(-words // 4))
    word = philox(seed, np.full(len(blocks), counter, dtype=np.uint64), blocks).T.reshape(-1)
    positive = np.arange(degree) if weight is None else np.flatnonzero(weight > 0)
    if not len(positive) or (not replace and len(positive) <= fanout):
        return positive
    if weight is None and replace:
        return below(word[:fanout], degree)
    if weight is None:
        taken: list[int] = []
        for n, last in enumerate(range(degree - fanout, degree)):
            place = int(below(word[n], last + 1))
            taken.append(last if place in taken else place)
        return np.sort(taken)
    if replace:
        sums = np.cumsum(weight[positive])
        target = word[:fanout].astype(np.float64) * 2.0**-32 * sums[-1]
        return positive[np.minimum(np.searchsorted(sums, target, side="right"), len(positive) - 1)]
    keys = race(word[positive]) / weight[positive]
    return np.sort(positive[np.argsort(keys, kind="stable")[:fanout]])


_NEGATIVES = register(
    "sample_negatives(Tensor users, Tensor indptr, Tensor indices, int num_items, Tensor? pool, Tensor? probability, "
    "Tensor? alias, int seed, int offset, int max_attempts) -> (Tensor, Tensor)",
    _negatives,
    lambda users, *_: (torch.empty_like(users), users.new_empty(1)),
)
_NEIGHBORS = register(
    "sample_neighbors(Tensor rows, Tensor indptr, Tensor indices, Tensor? weights, int fanout, bool replace, int seed, "
    "int offset) -> (Tensor, Tensor)",
    _neighbors,
    lambda rows, indptr, indices, weights, fanout, *_: tuple(rows.new_empty(len(rows), fanout) for _ in range(2)),
)
