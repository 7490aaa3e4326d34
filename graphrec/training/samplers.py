"""Samplers: the order in which training pairs and their negatives come.

A sampler keeps no state between batches. Every draw comes from a generator seeded with (seed, epoch, chunk), so a resumed
run draws what the killed one would have drawn, wherever it stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from graphrec.graph.catalogue import Catalogue
from graphrec.graph.ids import distinct
from graphrec.losses.batch import Batch, Negatives
from graphrec.training.negatives import NegativeSource

_DRAWS_AT_ONCE = 1 << 21  # 16 MB of int64


class Sampler(ABC):
    """Yields the batches of an epoch: E pairs (user, positive) in steps of `batch_size`, with negatives.

    Where the loss wants negatives for each pair, the pairs of users who have every item are not among the E: there is nothing
    to rank below them.

    Args:
        catalogue: the training histories.
        batch_size: B; the last batch of an epoch is smaller.
        negatives: what the loss wants.
        source: where negatives that are drawn come from.
        seed: of all draws.
        ages: float64 (E,) in half-lives, in the order of `catalogue.seen_indices`: how often a pair is drawn halves with each;
            None draws all alike.

    Attributes:
        left_out: the users whose pairs are not drawn, int64, ascending.

    Raises:
        RunError: negatives per row are wanted and every user has chosen every item.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        batch_size: int,
        negatives: Negatives,
        source: NegativeSource,
        seed: int,
        ages: np.ndarray | None = None,
    ) -> None:
        self._indptr, self._indices = catalogue.seen_indptr, catalogue.seen_indices
        self._degree = np.diff(self._indptr)
        self.left_out = source.users_without() if negatives.kind == "rows" else np.empty(0, dtype=np.int64)
        if len(self.left_out):
            ages = self._leave_out(ages)
        self._batch_size, self._negatives, self._source, self._seed = batch_size, negatives, source, seed
        self._weight = None if ages is None else self._weights(ages)
        self._starts = None if ages is None else np.concatenate([[0.0], np.cumsum(self._weight)])
        self.num_pairs = len(self._indices)
        self.steps_per_epoch = -(-self.num_pairs // batch_size)
        per_pair = 2 + (negatives.count if negatives.kind == "rows" else 0)
        self._chunk_steps = max(1, _DRAWS_AT_ONCE // (batch_size * per_pair))
        self._slots = np.full(catalogue.num_items, -1, dtype=np.int64)
        q = self.positive_probability() if negatives.kind == "in-batch" else source.q
        self._log_q = np.log(np.maximum(q, np.finfo(np.float64).tiny)).astype(np.float32)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from step `start` on; both count from 0."""
        for chunk in range(start // self._chunk_steps, -(-self.steps_per_epoch // self._chunk_steps)):
            first = chunk * self._chunk_steps
            last = min(first + self._chunk_steps, self.steps_per_epoch)
            low, high = first * self._batch_size, min(last * self._batch_size, self.num_pairs)
            rng = np.random.default_rng([self._seed, epoch, 1 + chunk])
            users, positives = self._pairs(epoch, low, high, rng)
            negatives = self._draw_rows(users, epoch, rng)
            for step in range(first, last):
                rows = slice((step - first) * self._batch_size, (step - first + 1) * self._batch_size)
                if self._negatives.kind in ("rows", "none"):
                    if step >= start:
                        parts = (users[rows], positives[rows], negatives[rows])
                        yield Batch.from_indices(*(torch.from_numpy(part) for part in parts))
                    continue
                drawn = self._draw_shared(positives[rows], rng)  # also before `start`, to keep the generator in step
                if step >= start:
                    yield self._shared_batch(users[rows], positives[rows], drawn)

    def _leave_out(self, ages: np.ndarray | None) -> np.ndarray | None:
        """Take the pairs of the users in `left_out` away, and return the ages of the others."""
        kept = np.ones(len(self._degree), dtype=bool)
        kept[self.left_out] = False
        pairs = np.repeat(kept, self._degree)
        self._degree = self._degree * kept
        self._indptr, self._indices = np.concatenate([[0], np.cumsum(self._degree)]), self._indices[pairs]
        return None if ages is None else ages[pairs]

    @abstractmethod
    def positive_probability(self) -> np.ndarray:
        """Probability that one drawn pair has a given item as its positive: float64 (I,)."""

    @abstractmethod
    def _weights(self, ages: np.ndarray) -> np.ndarray:
        """How often each pair is drawn beside those it competes with, by its age: float64 (E,)."""

    @abstractmethod
    def _pairs(self, epoch: int, low: int, high: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs `low` to `high` of an epoch: int64 users and positives (high - low,)."""

    def _by_weight(self, first: np.ndarray, last: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one of the edges `first` to `last` - 1 each, (n,), in proportion to their weights."""
        low, high = self._starts[first], self._starts[last]
        drawn = np.searchsorted(self._starts, low + rng.random(len(first)) * (high - low), side="right") - 1
        return np.clip(drawn, first, last - 1)  # rounding may reach the edge behind the last

    def _draw_rows(self, users: np.ndarray, epoch: int, rng: np.random.Generator) -> np.ndarray:
        if self._negatives.kind != "rows":
            return np.empty((len(users), 0), dtype=np.int64)
        repeated = np.repeat(users, self._negatives.count)
        drawn = self._source.for_users(repeated, rng).reshape(len(users), self._negatives.count)
        hard = min(self._negatives.hard, epoch)
        if hard:
            drawn[:, :hard] = self._source.hard_for_users(users, drawn[:, :hard], rng)
        return drawn

    def _draw_shared(self, positives: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return positives if self._negatives.kind == "in-batch" else self._source.shared(self._negatives.count, rng)

    def _shared_batch(self, users: np.ndarray, positives: np.ndarray, drawn: np.ndarray) -> Batch:
        columns, counts = np.unique(drawn, return_counts=True)
        user_rows, user_positions = np.unique(users, return_inverse=True)
        item_rows = distinct(np.concatenate([positives, columns]))
        arrays = (
            user_rows,
            item_rows,
            user_positions.reshape(-1),
            np.searchsorted(item_rows, positives),
            np.searchsorted(item_rows, columns),
            counts.astype(np.float32),
            self._hits(users, columns),
            self._log_q[columns],
        )
        return Batch(*(torch.from_numpy(array) for array in arrays))

    def _hits(self, users: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Find where a user's history meets the shared negatives: int64 (2, H), rows of the batch and positions."""
        lengths = self._degree[users]
        ends = np.cumsum(lengths)
        source = np.arange(ends[-1]) + np.repeat(self._indptr[users] - (ends - lengths), lengths)
        self._slots[columns] = np.arange(len(columns))
        slots = self._slots[self._indices[source]]
        self._slots[columns] = -1
        rows = np.repeat(np.arange(len(users)), lengths)
        return np.stack([rows[slots >= 0], slots[slots >= 0]])


class UniformUserSampler(Sampler):
    """Draws a user with a history uniformly, then one of its items uniformly, or by age; E draws are an epoch.

    Source: the public code of LightGCN (He et al. 2020, arXiv:2002.02126), `UniformSample`. There the negative is drawn
    again until it is new; here it is drawn from the right distribution at once.
    """

    def positive_probability(self) -> np.ndarray:
        """q(i) = 1/U sum over the users u of i of 1/degree(u), U counting users with a history; by age w_ui / sum_j w_uj."""
        if self._weight is None:
            share = np.repeat(1.0 / np.maximum(self._degree, 1), self._degree)
        else:
            share = self._weight / np.repeat(np.diff(self._starts[self._indptr]), self._degree)
        return np.bincount(self._indices, share, minlength=len(self._slots)) / np.count_nonzero(self._degree)

    def _pairs(self, epoch: int, low: int, high: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        active = np.flatnonzero(self._degree)
        users = active[rng.integers(len(active), size=high - low)]
        if self._weight is not None:
            return users, self._indices[self._by_weight(self._indptr[users], self._indptr[users + 1], rng)].astype(np.int64)
        positives = self._indices[self._indptr[users] + rng.integers(self._degree[users])]
        return users, positives.astype(np.int64)

    def _weights(self, ages: np.ndarray) -> np.ndarray:
        active = np.flatnonzero(self._degree)
        latest = np.minimum.reduceat(ages, self._indptr[active])  # of each user, so that no history is too old to draw from
        return np.exp2(np.repeat(latest, self._degree[active]) - ages)


class UniformEdgeSampler(Sampler):
    """Goes through a fresh random order of all training edges in each epoch, so that active users count more.

    By age it draws edges with replacement instead.
    """

    def positive_probability(self) -> np.ndarray:
        """q(i) = training interactions of i / E; by age the share of their weights."""
        if self._weight is not None:
            return np.bincount(self._indices, self._weight, minlength=len(self._slots)) / self._weight.sum()
        return np.bincount(self._indices, minlength=len(self._slots)) / self.num_pairs

    def _pairs(self, epoch: int, low: int, high: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self._weight is None:
            order = np.random.default_rng([self._seed, epoch, 0]).permutation(self.num_pairs)[low:high]
        else:
            order = self._by_weight(np.zeros(high - low, np.int64), np.full(high - low, self.num_pairs), rng)
        users = np.searchsorted(self._indptr, order, side="right") - 1
        return users, self._indices[order].astype(np.int64)

    def _weights(self, ages: np.ndarray) -> np.ndarray:
        return np.exp2(ages.min() - ages)
