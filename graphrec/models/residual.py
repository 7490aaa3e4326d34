"""A fixed residual of a trained model: the scores of the graph filter, added when the model scores and ranks.

The two err differently: gradient steps fit a low-rank product, the filter keeps the item-item part of the graph that no
such product holds. Nothing of it is trained: neither the loss nor the vectors know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from torch import Tensor

from graphrec.models.graph_filter import GraphFilter, GraphFilterSettings
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue
    from graphrec.graph.store import GraphStore

_PREFIX = "residual."
_USERS = 2000  # whose scores give the two standard deviations; on Gowalla 82 million scores each
_USERS_AT_ONCE = 64  # bounds the memory of that: a few MB per signal


class ResidualSettings(Settings):
    """Settings of the residual. It is not trained: it enters only when scoring and ranking."""

    weight: float = Field(default=0.5, gt=0)
    """w, the share of the filter in standard deviations: at 1 both score sets spread alike."""
    filter: GraphFilterSettings = GraphFilterSettings()
    """The graph filter's own settings."""


class Residual:
    """Turns the scores <e_u, e_i> of a trained model into

        s(u, i) = <e_u, e_i> / sigma_e + w f(u, i) / sigma_f

    with f the `GraphFilter` fitted on the same training edges. sigma_e and sigma_f are the standard deviations of the two
    score sets over all items and one fixed sample of up to 2,000 users with a training history, drawn from the seed; a set
    without any spread is left as it is. Means are not subtracted: they are the same for all items, so no ranking sees them.

    Args:
        settings: the weight and the filter's settings.

    Source: fusion of scores after scaling to unit variance, Montague and Aslam 2001, Relevance score normalization for
        metasearch; here with one deviation per ranker instead of one per query, and a weight.
    """

    def __init__(self, settings: ResidualSettings) -> None:
        self.settings = settings
        self.filter = GraphFilter(settings.filter)
        self._users = np.empty(0, np.int64)
        self._filter_spread = self._trained_spread = 1.0

    def fit(self, store: GraphStore, *, seed: int = 0, progress: Reporter = SILENT) -> None:
        """Fit the filter on the training edges, draw the sample of users, and measure sigma_f.

        Args:
            store: the graph store.
            seed: of the filter and of the sample; the same seed gives the same residual bit for bit on CPU.
            progress: receives the filter's steps.

        Raises:
            ConfigError: a training weight is negative.
        """
        progress.note(f"residual: the graph filter with weight {self.settings.weight:g}, fixed while the model trains")
        self.filter.fit(store, seed=seed, progress=progress)
        self._users = sample_users(self.filter.catalogue, seed)
        self._filter_spread = spread(self.filter.score, self._users)

    def measure(self, score: Callable[[np.ndarray], Tensor]) -> None:
        """Measure sigma_e of a fitted residual.

        Args:
            score: from users (B,) to the trained model's own scores (B, I).
        """
        self._trained_spread = spread(score, self._users)

    def add(self, scores: Tensor, users: np.ndarray) -> Tensor:
        """Return s for the trained model's own scores.

        Args:
            scores: <e_u, e_i>, float32 (B, I) on the CPU; overwritten.
            users: int64 (B,), dense user indices.
        """
        return self._added(scores, self.filter.score(users))

    def add_for_new(self, scores: Tensor, histories: sp.csr_matrix) -> Tensor:
        """Return s for users that training never saw, from the trained model's own scores (B, I) and histories (B, I)."""
        return self._added(scores, self.filter._fold_in(histories))

    def _added(self, scores: Tensor, filtered: Tensor) -> Tensor:
        scores.div_(self._trained_spread)
        return scores.add_(filtered, alpha=self.settings.weight / self._filter_spread)

    def state(self) -> dict[str, Tensor | np.ndarray]:
        """The filter and the two deviations, by names that begin with `residual.`."""
        spreads = np.array([self._trained_spread, self._filter_spread])
        return {_PREFIX + name: array for name, array in {**self.filter._state(), "spreads": spreads}.items()}

    def restore(self, state: dict[str, Tensor], catalogue: Catalogue) -> None:
        """Take over what `state` gave; other names are left alone.

        Args:
            state: of the whole model.
            catalogue: the users and items that the model was fitted on.

        Raises:
            KeyError: a part is missing.
        """
        self._trained_spread, self._filter_spread = state[_PREFIX + "spreads"].tolist()
        self.filter.catalogue = catalogue
        own = {name.removeprefix(_PREFIX): array for name, array in state.items() if name.startswith(_PREFIX)}
        self.filter._restore(own)


def sample_users(catalogue: Catalogue, seed: int) -> np.ndarray:
    """Draw up to 2,000 users with a training history, whose scores stand for all: int64, ascending."""
    active = np.flatnonzero(np.diff(catalogue.seen_indptr))
    return np.sort(np.random.default_rng(seed).permutation(active)[:_USERS])


def spread(score: Callable[[np.ndarray], Tensor], users: np.ndarray) -> float:
    """Return the standard deviation of all scores of `users`, or 1 where there is none to speak of.

    Args:
        score: from users (B,) to scores (B, I); what it returns may be overwritten.
        users: int64, dense user indices.
    """
    count, total, squares, shift = 0, 0.0, 0.0, 0.0
    for start in range(0, len(users), _USERS_AT_ONCE):
        block = score(users[start : start + _USERS_AT_ONCE]).double()
        if not count:
            shift = float(block.mean())  # sums of what is near 0 lose no digits
        block -= shift
        count, total, squares = count + block.numel(), total + float(block.sum()), squares + float(block.square().sum())
    if not count:
        return 1.0
    deviation = max(0.0, squares / count - (total / count) ** 2) ** 0.5
    return deviation if deviation > np.finfo(np.float32).tiny else 1.0
