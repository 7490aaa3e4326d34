"""A fixed residual of a trained model: the scores of a closed-form model, added when the trained one scores and ranks.

The two err differently: gradient steps fit a low-rank product, the graph filter or EASE keep the item-item part of the graph
that no such product holds. Nothing of it is trained: neither the loss nor the vectors know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from pydantic import Field, field_validator
from torch import Tensor

from graphrec import models
from graphrec.errors import ConfigError
from graphrec.models.base import Recommender
from graphrec.models.saved import part_of
from graphrec.models.spread import sample_users, spread
from graphrec.nn.component import as_table, parse_component
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue
    from graphrec.graph.store import GraphStore

_PREFIX = "residual."


class ResidualSettings(Settings):
    """Settings of the residual. It is not trained: it enters only when scoring and ranking."""

    weight: float = Field(default=0.5, gt=0)
    """w, the share of the filter in standard deviations: at 1 both score sets spread alike."""
    filter: dict[str, Any] = Field(default={"name": "graph-filter"})
    """The closed-form model to add, a name or a table `{name = ..., <its settings>}`: the graph filter where no name is given;
    "ease" and "social-ease" are others."""

    @field_validator("filter", mode="before")
    @classmethod
    def _as_table(cls, value: Any) -> Any:
        return as_table(value, "graph-filter")


class Residual:
    """Turns the scores <e_u, e_i> of a trained model into

        s(u, i) = <e_u, e_i> / sigma_e + w f(u, i) / sigma_f

    with f the scores of `filter`, fitted on the same training edges. sigma_e and sigma_f are the standard deviations of the two
    score sets over all items and one fixed sample of up to 2,000 users with a training history, drawn from the seed; a set
    without any spread is left as it is. Means are not subtracted: they are the same for all items, so no ranking sees them.

    Args:
        settings: the weight and the filter's settings.
        where: what to call the place in messages ("model lightgcn residual").

    Raises:
        ConfigError: the filter is unknown or learns by gradient steps, or a setting of it is unknown or out of range.

    Source: fusion of scores after scaling to unit variance, Montague and Aslam 2001, Relevance score normalization for
        metasearch; here with one deviation per ranker instead of one per query, and a weight.
    """

    def __init__(self, settings: ResidualSettings, where: str = "residual") -> None:
        name = settings.filter["name"]
        kind, own = parse_component("model", models.MODELS, settings.filter, f"{where} filter")
        if kind._fit is Recommender._fit:
            raise ConfigError(
                f'{where} filter: it is fitted in closed form beside the trained model, and "{name}" learns by gradient steps; take '
                '"graph-filter", "ease" or "social-ease"'
            )
        self.settings = settings.model_copy(update={"filter": {"name": name, **own.model_dump(mode="json")}})
        self.filter: Recommender = kind(own)
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
        progress.note(f"residual: {self.filter.name} with weight {self.settings.weight:g}, fixed while the model trains")
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

    def alone(self, scores: Tensor) -> Tensor:
        """Return the trained part of s, from the trained model's own scores (B, I), which are overwritten."""
        return scores.div_(self._trained_spread)

    def _added(self, scores: Tensor, filtered: Tensor) -> Tensor:
        return self.alone(scores).add_(filtered, alpha=self.settings.weight / self._filter_spread)

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
        self.filter._restore(part_of(state, _PREFIX))
