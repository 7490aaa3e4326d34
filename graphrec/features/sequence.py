"""What tends to be taken next: steps from one item of a user to the following ones, and each user's latest items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from graphrec.graph.split import NO_TIME
from graphrec.graph.store import Interactions

_WINDOW = 5  # steps that count as following, and items that count as latest
_PRIOR = 5.0  # steps that shrink the shares of an item with few


@dataclass(frozen=True)
class NextSteps:
    """Steps between items in the order of time.

    With n_ji the steps from j to i, one at distance d <= 5 counting 1 / d, T_ji = n_ji / (n_j + 5), and a user's latest items
    j_1 (the last), ..., j_5, the score is s(u, i) = sum_l T_(j_l, i) / l.

    Attributes:
        latest: int32 (U, 5), latest first, -1 where a user has fewer.
        follows: T, CSR float32 (I, I).

    Source: the first-order Markov chain of Rendle et al. 2010, Factorizing personalized Markov chains (WWW), section 4, not
        factorised; counting steps over a distance, and a fading memory of the latest items, are additions.
    """

    latest: np.ndarray
    follows: sp.csr_matrix

    @classmethod
    def fit(cls, rows: Interactions, shape: tuple[int, int]) -> NextSteps | None:
        """Count the steps of training events; None where no event has a time. Events without one are left out.

        Args:
            rows: training events of the target behaviour.
            shape: (U, I).
        """
        if rows.timestamp is None or not (rows.timestamp != NO_TIME).any():
            return None
        timed = np.flatnonzero(rows.timestamp != NO_TIME)
        timed = timed[np.lexsort((rows.item[timed], rows.timestamp[timed], rows.user[timed]))]
        user, item = rows.user[timed], rows.item[timed]
        follows = sp.csr_matrix((shape[1], shape[1]), dtype=np.float32)
        for distance in range(1, _WINDOW + 1):
            same = user[distance:] == user[:-distance]
            ends = item[:-distance][same], item[distance:][same]
            follows = follows + sp.csr_matrix((np.full(len(ends[0]), 1 / distance, np.float32), ends), follows.shape)
        total = np.asarray(follows.sum(1)).ravel()
        follows = sp.csr_matrix(follows.multiply(1 / (total + _PRIOR)[:, None]), dtype=np.float32)
        latest = np.full((shape[0], _WINDOW), -1, dtype=np.int32)
        count = np.bincount(user, minlength=shape[0])
        back = np.repeat(np.cumsum(count), count) - 1 - np.arange(len(user))  # 0 for a user's last event
        recent = back < _WINDOW
        latest[user[recent], back[recent]] = item[recent]
        return cls(latest, follows)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return s for users (B,) and all items, float32 (B, I)."""
        latest = self.latest[users]
        row, place = np.nonzero(latest >= 0)
        weight = (1 / (place + 1)).astype(np.float32)
        starts = sp.csr_matrix((weight, (row, latest[row, place])), (len(users), self.follows.shape[0]))
        return (starts @ self.follows).toarray()
