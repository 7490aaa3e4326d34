"""Drawing negatives: items that a user has not chosen, uniformly or by popularity, whole batches at once."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from graphrec.errors import ConfigError, RunError
from graphrec.graph.catalogue import Catalogue
from graphrec.losses.batch import Negatives
from graphrec.ops import AliasTable, Relation
from graphrec.ops.importance import visited_items
from graphrec.ops.sampling import negatives_forward

_HARD_RANKS = 50, 200  # by visits; Ying et al. 2018 take 2,000 to 5,000 among billions
_HARD_WALKS, _HARD_STEPS = 100, 3
_ALWAYS_DRAWN = {"rows": 256, "shared": 1 << 16}  # negatives of a pair and of a batch, with repeats, however few items there are
_ATTEMPTS = 64  # before the draw from what is left, which costs as much as the catalogue is long


def check_count(wanted: Negatives, num_items: int, where: str) -> None:
    """Make sure that a loss does not want far more negatives than there are items, which would only fill the memory.

    Raises:
        ConfigError: it does; the message begins with `where`.
    """
    if wanted.kind not in _ALWAYS_DRAWN:
        return
    most = max(num_items, _ALWAYS_DRAWN[wanted.kind])
    if wanted.count > most:
        each = "pair" if wanted.kind == "rows" else "batch"
        raise ConfigError(
            f"{where} num_negatives = {wanted.count:,} for each {each}, but the store has {num_items:,} items; give at most {most:,}"
        )


class NegativeSource:
    """Draws items with probability q and, for given users, never one of their training items.

    q is uniform over the catalogue, or proportional to popularity ** exponent (items never chosen are never drawn).

    Args:
        catalogue: items, histories and popularity.
        distribution: "uniform" or "popularity".
        exponent: of the popularity; ignored for "uniform".
    """

    def __init__(
        self, catalogue: Catalogue, distribution: Literal["uniform", "popularity"] = "uniform", exponent: float = 0.75
    ) -> None:
        self.num_items = catalogue.num_items
        self._catalogue = catalogue
        self._indptr = catalogue.seen_indptr
        self._degree = np.diff(catalogue.seen_indptr)
        if distribution == "uniform":
            self.q = np.full(self.num_items, 1.0 / self.num_items)
        else:
            weight = np.where(catalogue.item_counts > 0, catalogue.item_counts.astype(np.float64) ** exponent, 0.0)
            self.q = weight / weight.sum()
        self._uniform = distribution == "uniform"
        self._cumulative = None if self._uniform else np.cumsum(self.q)
        self._histories = torch.from_numpy(self._indptr), torch.from_numpy(np.ascontiguousarray(catalogue.seen_indices))
        table = None if self._uniform else AliasTable.from_weights(self.q)
        self._alias = (None, None) if table is None else (table.probability, table.alias)

    def users_without(self) -> np.ndarray:
        """Find the users with a history who have no negatives: all items that can be drawn are in it.

        Returns:
            int64, ascending.

        Raises:
            RunError: every user with a history is one of them; the message names one.
        """
        drawable = int(np.count_nonzero(self.q))
        active = np.flatnonzero(self._degree)
        full = active[self._degree[active] >= drawable]
        if len(full) and len(full) == len(active):
            unchosen = 'set negative_distribution = "uniform", which also draws items that nobody has chosen'
            raise RunError(
                f"all {len(full)} user(s), such as {self._catalogue.users.ids_of(full[:1]).tolist()[0]!r}, have interacted with all "
                f"{drawable} items that can be negatives, so there is nothing to rank below their items; "
                f"{unchosen if drawable < self.num_items else 'take a log with more items'}"
            )
        return full

    def for_users(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one negative for each entry of `users`, with probability q restricted to what the user has not chosen.

        Args:
            users: int64 (n,).
            rng: the source of randomness.

        Returns:
            int64 (n,).
        """
        seed = int(rng.integers(2**63))
        drawn, failed = negatives_forward(
            torch.from_numpy(users), *self._histories, self.num_items, None, *self._alias, seed, 0, _ATTEMPTS
        )
        items = drawn.numpy()
        if int(failed):
            for row in np.flatnonzero(items < 0):  # a user who has chosen nearly all of q: draw from what is left
                left = self.q.copy()
                left[self._catalogue.seen_indices[self._indptr[users[row]] : self._indptr[users[row] + 1]]] = 0.0
                items[row] = _search(np.cumsum(left), rng.random(1))[0]
        return items

    def find_hard(self, relation: Relation, seed: int) -> None:
        """Find each user's hard negatives: items that random walks meet, of the ranks after the most met, not chosen.

        Args:
            relation: the training edges, users as rows, on the CPU.
            seed: of the walks.
        """
        ranks = {"first": _HARD_RANKS[0], "last": _HARD_RANKS[1], "num_walks": _HARD_WALKS, "num_steps": _HARD_STEPS}
        items, _ = visited_items(relation, from_items=False, seed=seed, **ranks)
        chosen = np.repeat(np.arange(len(self._degree)), self._degree) * self.num_items + self._catalogue.seen_indices
        wanted = np.arange(len(items))[:, None] * self.num_items + items
        items[chosen[np.minimum(np.searchsorted(chosen, wanted), len(chosen) - 1)] == wanted] = -1
        self._hard = -np.sort(-items, axis=1)  # those that are there come first
        self._num_hard = (items >= 0).sum(1)

    def hard_for_users(self, users: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw hard negatives (n, h) uniformly, or leave what is in `others` (n, h) for users who have none."""
        count = self._num_hard[users][:, None]
        place = (rng.random(others.shape) * np.maximum(count, 1)).astype(np.int64)
        return np.where(count > 0, self._hard[users[:, None], place], others)

    def shared(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `count` items with probability q, with replacement, whoever has chosen them: int64 (count,)."""
        if self._uniform:
            return rng.integers(self.num_items, size=count)
        return _search(self._cumulative, rng.random(count))


def _search(cumulative: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Invert a cumulative weight at uniforms in [0, 1); steps of height zero are never returned."""
    return np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
