"""Pairs of items that one user has chosen: what a text encoder is taught to bring together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from graphrec.errors import ConfigError


@dataclass(frozen=True)
class Pairs:
    """n pairs.

    Attributes:
        users: int64 (n,), who has chosen both.
        first, second: int64 (n,), the items.
    """

    users: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, rows: np.ndarray | slice) -> Pairs:
        return Pairs(self.users[rows], self.first[rows], self.second[rows])


class PairSource:
    """Draws pairs (i, j) of items in one training history, and holds out the texts of some items to validate with.

    Training pairs are of kept items only. A validation pair is one held-out item and a kept one of the same user, so it asks how
    near a text that was never trained on comes to what its users have.

    Args:
        train: training weights (U, I); only where they are matters.
        usable: bool (I,), items with a text.
        valid_share: share of the usable items that is held out.
        generator: source of the held-out items and of every later draw.
        min_pairs: fewest training pairs in a pass.

    Raises:
        ConfigError: the histories give fewer pairs than that, or no validation pair.
    """

    def __init__(
        self,
        train: sp.csr_matrix,
        usable: np.ndarray,
        valid_share: float,
        generator: np.random.Generator,
        min_pairs: int = 1,
    ) -> None:
        self._generator = generator
        held = np.zeros(train.shape[1], dtype=bool)
        candidates = np.flatnonzero(usable & (np.bincount(train.indices, minlength=train.shape[1]) > 0))
        held[generator.permutation(candidates)[: max(1, round(valid_share * len(candidates)))]] = True
        self.held_out = np.flatnonzero(held)
        self.chosen = sp.csr_matrix((np.ones(train.nnz, dtype=bool), train.indices, train.indptr), shape=train.shape)
        owner = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
        kept = usable[train.indices] & ~held[train.indices]
        self._owner, self._item = owner[kept], train.indices[kept].astype(np.int64)
        self._held_owner, self._held_item = (
            owner[held[train.indices]],
            train.indices[held[train.indices]].astype(np.int64),
        )
        counts = np.bincount(self._owner, minlength=train.shape[0])
        self.per_pass = int((counts // 2).sum())
        if self.per_pass < min_pairs:
            raise ConfigError(
                f"fine-tuning needs at least {min_pairs:,} pairs of items with text in one training history, got "
                f"{self.per_pass:,}; use the encoder as it is, bring a longer log, or lower features.finetune.min_pairs"
            )

    @property
    def state(self) -> dict[str, Any]:
        """Of the generator, as JSON can hold it; with it set, the draws that follow are those that followed then."""
        return self._generator.bit_generator.state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state

    def draw(self, limit: int) -> Pairs:
        """Pair each history's items anew at random, every item at most once, and return `limit` of the pairs or all."""
        order = np.lexsort((self._generator.random(len(self._owner)), self._owner))
        owner, item = self._owner[order], self._item[order]
        first = np.flatnonzero(_place(owner)[:-1] % 2 == 0)
        first = first[owner[first] == owner[first + 1]]
        first = self._generator.permutation(first)[:limit]
        return Pairs(owner[first], item[first], item[first + 1])

    def validation(self, limit: int) -> Pairs:
        """Return up to `limit` pairs of a held-out item, first, and a kept one of the same user.

        Raises:
            ConfigError: no user has both.
        """
        counts = np.bincount(self._owner, minlength=self.chosen.shape[0])
        start = np.concatenate([[0], np.cumsum(counts)])
        rows = np.flatnonzero(counts[self._held_owner] > 0)
        if not len(rows):
            raise ConfigError(
                "fine-tuning: no user has both a held-out item and another one, so nothing could be validated; raise "
                "features.finetune.valid_share"
            )
        rows = self._generator.permutation(rows)[:limit]
        users = self._held_owner[rows]
        other = start[users] + (self._generator.random(len(rows)) * counts[users]).astype(np.int64)
        return Pairs(users, self._held_item[rows], self._item[other])

    def known_positives(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return bool (n, m): whether user n has item m in training, so that it is no negative of hers."""
        return self.chosen[users][:, items].toarray()


def _place(owner: np.ndarray) -> np.ndarray:
    """The position of each entry within its run of equal owners."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.arange(len(owner)) - np.repeat(starts, np.diff(np.append(starts, len(owner))))
