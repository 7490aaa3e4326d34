"""Drawing negatives: items that a user has not chosen, uniformly or by popularity, whole batches at once."""

from __future__ import annotations

from typing import Literal

import numpy as np

from graphrec.errors import RunError
from graphrec.graph.catalogue import Catalogue

_REJECTION_ROUNDS = 64


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
        self._keys = self._history_keys()

    def check_users(self) -> None:
        """Make sure that every user with a history has a negative.

        Raises:
            RunError: some user has chosen every item that can be drawn; the message names one.
        """
        drawable = int(np.count_nonzero(self.q))
        full = np.flatnonzero((self._degree > 0) & (self._degree >= drawable))
        if len(full):
            user_id = self._catalogue.users.ids_of(full[:1]).tolist()[0]
            raise RunError(
                f"{len(full)} user(s), such as {user_id!r}, have interacted with all {drawable} items, so they have no "
                'negatives; leave them out of the log, or set loss = "sampled-softmax" with in-batch negatives'
            )

    def for_users(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one negative for each entry of `users`, with probability q restricted to what the user has not chosen.

        Args:
            users: int64 (n,).
            rng: the source of randomness.

        Returns:
            int64 (n,).
        """
        return self._uniform_for(users, rng) if self._uniform else self._popular_for(users, rng)

    def shared(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `count` items with probability q, with replacement, whoever has chosen them: int64 (count,)."""
        if self._uniform:
            return rng.integers(self.num_items, size=count)
        return self._by_popularity(rng.random(count))

    def _history_keys(self) -> np.ndarray:
        """Ascending int64 (nnz,): what the two ways of drawing search in.

        Popularity: user * I + item. Uniform: user * I + (item - position in the history), so that the number of keys up to
        user * I + r is the number of history items that come before the r-th item missing from the history.
        """
        indices = self._catalogue.seen_indices.astype(np.int64)
        row = np.repeat(np.arange(len(self._degree), dtype=np.int64) * self.num_items, self._degree)
        if self._uniform:
            indices -= np.arange(len(indices)) - np.repeat(self._indptr[:-1], self._degree)
        return row + indices

    def _uniform_for(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        # The same distribution as drawing again until the item is new, in one search and no loop.
        missing = rng.integers(self.num_items - self._degree[users])
        before = np.searchsorted(self._keys, users * self.num_items + missing, side="right") - self._indptr[users]
        return missing + before

    def _popular_for(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        items = self._by_popularity(rng.random(len(users)))
        open_rows = np.flatnonzero(self._chosen(users, items))
        for _ in range(_REJECTION_ROUNDS):
            if not len(open_rows):
                return items
            items[open_rows] = self._by_popularity(rng.random(len(open_rows)))
            open_rows = open_rows[self._chosen(users[open_rows], items[open_rows])]
        for row in open_rows:  # a user who has chosen nearly all of the mass: draw from what is left
            left = self.q.copy()
            left[self._catalogue.seen_indices[self._indptr[users[row]] : self._indptr[users[row] + 1]]] = 0.0
            items[row] = _search(np.cumsum(left), rng.random(1))[0]
        return items

    def _by_popularity(self, uniforms: np.ndarray) -> np.ndarray:
        return _search(self._cumulative, uniforms)

    def _chosen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Tell for each pair whether it is in the training history: bool (n,)."""
        keys = users * self.num_items + items
        position = np.searchsorted(self._keys, keys)
        return self._keys[np.minimum(position, len(self._keys) - 1)] == keys


def _search(cumulative: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Invert a cumulative weight at uniforms in [0, 1); steps of height zero are never returned."""
    return np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
