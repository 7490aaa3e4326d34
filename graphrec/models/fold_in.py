"""Vectors of users that training never saw, from a few events: what trained users' vectors would be after as few."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from graphrec.graph.ids import distinct
from graphrec.models.ridge import Ridge, fit_ridge

_LONGEST = 50  # events; longer histories share one regression, on whole histories
_FEWEST = 200  # training users with as many events that a regression wants; below, shorter histories help out
_USERS = 20_000  # training users that a regression is fitted on, at most


class FoldIn:
    """e_new = m W_n + b_n, with m the mean of the item vectors of n events.

    W_n and b_n are a ridge regression from such means to trained user vectors, fitted on training users of whom n random
    events are taken: the best linear guess of a user's vector after n events. With few events it falls back on the mean
    user, with many it trusts the history. It is fitted when a history of a length first comes and then kept.

    Args:
        user: float32 (U, D), trained.
        item: float32 (I, D'), trained.
        train: (U, I), the seen items.
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, train: sp.csr_matrix) -> None:
        self._user, self._item, self._train = user, item, train
        self._fitted: dict[int, Ridge] = {}

    def vectors(self, histories: sp.csr_matrix) -> np.ndarray:
        """Return float32 (B, D) for histories (B, I), each of at least one event; weights count in the mean."""
        lengths = np.minimum(np.diff(histories.indptr), _LONGEST)
        means = _means(histories, self._item)
        found = np.empty((histories.shape[0], self._user.shape[1]), dtype=np.float32)
        for length in distinct(lengths):
            rows = lengths == length
            found[rows] = self._regression(int(length)).predict(means[rows])
        return found

    def of_means(self, means: np.ndarray, length: int) -> np.ndarray:
        """Return float32 (B, D) for means (B, D') of the vectors of `length` events."""
        return self._regression(min(length, _LONGEST)).predict(means)

    def _regression(self, length: int) -> Ridge:
        if length not in self._fitted:
            counts = np.diff(self._train.indptr)
            enough = np.flatnonzero(counts >= length)
            if len(enough) < _FEWEST:
                enough = np.argsort(-counts, kind="stable")[: min(_FEWEST, int((counts > 0).sum()))]
            generator = np.random.default_rng(length)
            if len(enough) > _USERS:
                enough = np.sort(generator.choice(enough, _USERS, replace=False))
            rows = self._train[enough]
            if length < _LONGEST:
                rows = _sample(rows, length, generator)
            self._fitted[length] = fit_ridge(_means(rows, self._item), self._user[enough])
        return self._fitted[length]


def _means(histories: sp.csr_matrix, item: np.ndarray) -> np.ndarray:
    total = np.maximum(np.asarray(histories.sum(axis=1), dtype=np.float32), 1e-30)
    return np.asarray(histories @ item / total, dtype=np.float32)


def _sample(rows: sp.csr_matrix, count: int, generator: np.random.Generator) -> sp.csr_matrix:
    """Keep `count` random entries of each row, all of weight one; shorter rows stay whole."""
    owner = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((generator.random(len(owner)), owner))  # shuffled within each row
    kept = order[np.arange(len(owner)) - rows.indptr[owner] < count]
    lengths = np.minimum(np.diff(rows.indptr), count)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((np.ones(len(kept), np.float32), rows.indices[kept], indptr), shape=rows.shape)
