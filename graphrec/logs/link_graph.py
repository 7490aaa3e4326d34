"""`LinkGraph`: one homogeneous graph with training edges and held-out links, what link prediction starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from graphrec.errors import LogError, UnsupportedError

SIDES = ("valid", "test")


@dataclass(frozen=True)
class HeldOut:
    """Links to be found among pairs that are none: either the same negatives for all links, or K of its own for each.

    Attributes:
        positives: int64 (n, 2), source and target.
        negatives: int64 (m, 2), shared by all positives; None where each has its own.
        negative_targets: int64 (n, K), other targets for the same source; None where negatives are shared.
    """

    positives: np.ndarray
    negatives: np.ndarray | None = None
    negative_targets: np.ndarray | None = None

    @property
    def num_negatives(self) -> int:
        """How many pairs that are no links there are, m or n K."""
        return len(self.negatives) if self.negatives is not None else self.negative_targets.size

    @property
    def negative_pairs(self) -> np.ndarray:
        """All negatives as int64 (m, 2), or (n K, 2), those of one positive after the other."""
        if self.negatives is not None:
            return self.negatives
        sources = np.repeat(self.positives[:, 0], self.negative_targets.shape[1])
        return np.stack([sources, self.negative_targets.reshape(-1)], axis=1)


@dataclass(frozen=True)
class LinkGraph:
    """A graph with nodes and edges of one type, each, and a split of its edges.

    The training edges are distinct and without self-loops; those of an undirected graph stand once, the smaller end first.
    Make one from raw edges with `clean_edges`, which counts what it drops.

    Attributes:
        num_nodes: N.
        train: int64 (E, 2), ascending.
        valid, test: held-out links.
        directed: whether (u, v) and (v, u) are different links.
        features: float32 (N, F), finite, or None.
        weight: float32 (E,) of the training edges, or None; for the messages of graph encoders.
        year: int64 (E,) of the training edges, or None; no link predictor reads it.
        ids: (N,) original ids, Int64 or String, or None where nodes are numbers.
        dropped: reason to number of training edges left out.
        metric: what the source is judged by ("hits@50"), or None.
        benchmark: the data set of OGB ("ogbl-collab") whose own split this is, or None; ogb's Evaluator then measures it too.
        negatives_are: how the pairs that are no links were found, for people.
        source: where it came from, for people.

    Raises:
        LogError: a table is empty, has another shape, names nodes that are not there, or features are not finite.
    """

    num_nodes: int
    train: np.ndarray
    valid: HeldOut
    test: HeldOut
    directed: bool = False
    features: np.ndarray | None = None
    weight: np.ndarray | None = None
    year: np.ndarray | None = None
    ids: pl.Series | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    metric: str | None = None
    benchmark: str | None = None
    negatives_are: str = "given"
    source: str = "memory"

    def __post_init__(self) -> None:
        self._check_pairs("train", self.train)
        for name in SIDES:
            side: HeldOut = getattr(self, name)
            self._check_pairs(name, side.positives)
            if (side.negatives is None) == (side.negative_targets is None):
                raise ValueError(f"LinkGraph: {name} needs either negatives or negative_targets")
            if side.negatives is not None:
                self._check_pairs(f"{name} negatives", side.negatives)
            elif len(side.negative_targets) != len(side.positives) or side.negative_targets.size == 0:
                raise LogError(
                    f"{self.source}: {name} needs negative targets for each of its {len(side.positives)} links, got an array "
                    f"of shape {side.negative_targets.shape}"
                )
            else:
                self._check_range(f"{name} negatives", side.negative_targets)
        self._check_sorted()
        for name in ("weight", "year"):
            values = getattr(self, name)
            if values is not None and values.shape != (len(self.train),):
                raise LogError(f"{self.source}: {name} must have one value for each of the {len(self.train)} training edges, "
                               f"got shape {values.shape}")  # fmt: skip
        self._check_features()

    def __repr__(self) -> str:
        kind = "directed" if self.directed else "undirected"
        held = ", ".join(f"{len(getattr(self, name).positives):,} {name}" for name in SIDES)
        return f"LinkGraph({self.source!r}, {kind}, {self.num_nodes:,} nodes, {len(self.train):,} train, {held} edges)"

    def _check_pairs(self, name: str, pairs: np.ndarray) -> None:
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != np.int64:
            raise ValueError(f"LinkGraph: {name} must be int64 (n, 2), got {pairs.dtype} {pairs.shape}")
        if not len(pairs):
            raise LogError(f"{self.source}: the split has no {name} edges; give more edges or hold out another share")
        self._check_range(name, pairs)

    def _check_range(self, name: str, nodes: np.ndarray) -> None:
        if nodes.min() < 0 or nodes.max() >= self.num_nodes:
            raise LogError(
                f"{self.source}: {name} edges must name nodes 0..{self.num_nodes - 1}, got {nodes.min()}..{nodes.max()}"
            )

    def _check_sorted(self) -> None:
        keys = self.train[:, 0] * self.num_nodes + self.train[:, 1]
        ordered = (np.diff(keys) > 0).all() and (self.train[:, 0] != self.train[:, 1]).all()
        if not ordered or not (self.directed or (self.train[:, 0] < self.train[:, 1]).all()):
            raise ValueError("LinkGraph: training edges must be distinct, ascending and without self-loops; use clean_edges")

    def _check_features(self) -> None:
        if self.features is None:
            return
        if self.features.dtype != np.float32:
            raise LogError(f"{self.source}: node features must be float32, got {self.features.dtype}; cast them with astype")
        if self.features.ndim != 2 or len(self.features) != self.num_nodes:
            raise LogError(
                f"{self.source}: node features must have one row for each of the {self.num_nodes} nodes, got shape "
                f"{self.features.shape}; add or remove rows"
            )
        broken = np.flatnonzero(~np.isfinite(self.features).all(axis=1))
        if len(broken):
            raise LogError(
                f"{self.source}: node features must be finite, and {len(broken)} rows are not; the first is that of node "
                f"{broken[0]}; replace NaN and infinities"
            )


def clean_edges(
    edges: np.ndarray, num_nodes: int, directed: bool, weight: np.ndarray | None = None, year: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, dict[str, int]]:
    """Drop self-loops and repetitions, and in an undirected graph put the smaller end first.

    Args:
        edges: int64 (n, 2).
        num_nodes: N.
        directed: keep (u, v) and (v, u) apart.
        weight: float32 (n,); those of a repeated edge are summed.
        year: int64 (n,); of a repeated edge the latest stays.

    Returns:
        Edges (E, 2), ascending; their weight and year; and the counts of "self-loops" and "duplicates". The two
        directions of one undirected edge count as one duplicate.
    """
    loops = edges[:, 0] == edges[:, 1]
    kept = edges[~loops]
    if not directed:
        kept = np.sort(kept, axis=1)
    keys, place = np.unique(kept[:, 0] * num_nodes + kept[:, 1], return_inverse=True)
    clean = np.stack([keys // num_nodes, keys % num_nodes], axis=1)
    dropped = {"self-loops": int(loops.sum()), "duplicates": len(kept) - len(keys)}
    if weight is not None:
        weight = np.bincount(place, weight[~loops], minlength=len(keys)).astype(np.float32)
    if year is not None:
        latest = np.full(len(keys), np.iinfo(np.int64).min)
        np.maximum.at(latest, place, year[~loops])
        year = latest
    return clean, weight, year, dropped


def refuse_two_types(source: str, what: str) -> UnsupportedError:
    """The error for a graph whose edges join nodes of two types."""
    return UnsupportedError(
        f"{source}: link prediction needs edges between nodes of one type, got {what}; give an edge list, a store with social "
        "links (user, follows, user), or recommend over users and items with graphrec train"
    )
