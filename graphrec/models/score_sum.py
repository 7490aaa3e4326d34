"""The sum of fitted models: each one's scores in units of their own spread, with a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from graphrec.errors import UnsupportedError
from graphrec.models.base import Recommender
from graphrec.models.saved import part_of, restore_part
from graphrec.models.spread import sample_users, spread
from graphrec.settings import Settings

if TYPE_CHECKING:
    from typing_extensions import Self

    from graphrec.graph.store import GraphStore
    from graphrec.progress import Reporter

_SPREADS = "spreads"


class ScoreSumSettings(Settings):
    """What a sum is made of; `graphrec.fuse` fills it in."""

    members: list[dict[str, Any]] = Field(default=[])
    """The registered models and their settings, `{"name": ..., "settings": {...}}`."""
    weights: list[float] = Field(default=[])
    """w, one for each member."""
    chosen_on: Literal["given", "valid"] = "given"
    """Whether the weights were chosen on the validation split."""


class ScoreSum(Recommender):
    """s(u, i) = sum over the members m of w_m s_m(u, i) / sigma_m

    with sigma_m the standard deviation of a model's scores over all items and one sample of users, as in
    `graphrec.models.residual`. Members that are trained alike from several seeds err in different places, so that their mean is
    better than each of them; a graph filter beside a trained model keeps what no low-rank product holds.

    It is made of fitted models of one store, with `of`, and saved with all of them. Where every member has embeddings, the sum has
    theirs side by side, which rank as it does where theirs do.

    Source: Montague and Aslam 2001, Relevance score normalization for metasearch; here one deviation per model instead of one
        per query, and weights. Means over seeds: Lakshminarayanan et al. 2017, arXiv:1612.01474.
    """

    name = "sum"
    Settings = ScoreSumSettings

    @classmethod
    def of(
        cls,
        models: Sequence[Recommender],
        weights: Sequence[float],
        seed: int = 0,
        chosen_on: Literal["given", "valid"] = "given",
        spreads: Sequence[float] | None = None,
    ) -> Self:
        """Add fitted models up.

        Args:
            models: fitted on the same store.
            weights: w, one for each model.
            seed: of the sample of users.
            chosen_on: "valid" where the weights were chosen on the validation split.
            spreads: sigma, where `spreads_of` has measured them already.
        """
        members = [{"name": model.name, "settings": model.settings.model_dump(mode="json")} for model in models]
        made = cls(members=members, weights=list(map(float, weights)), chosen_on=chosen_on)
        made.catalogue = models[0].catalogue
        made.members = tuple(models)
        made._spreads = tuple(spreads_of(models, seed) if spreads is None else spreads)
        return made

    @property
    def scores_are_dot_products(self) -> bool:
        return all(member.scores_are_dot_products for member in self.members)

    @property
    def vectors_note(self) -> str:
        """Whose they are, and of which members they do not rank as the scores do."""
        notes = [f"those of {member.name} {member.vectors_note}" for member in self.members if not member.scores_are_dot_products]
        whose = f"are those of its members ({', '.join(member.name for member in self.members)}) side by side"
        return "; ".join([whose, *dict.fromkeys(notes)])

    @property
    def learned_splits(self) -> tuple[str, ...]:
        own = ("valid",) if self.settings.chosen_on == "valid" else ()
        return tuple(dict.fromkeys([*own, *(split for member in self.members for split in member.learned_splits)]))

    def features_used(self, store: GraphStore) -> set[str]:
        return set().union(*(member.features_used(store) for member in self.members))

    @property
    def counting(self) -> list[Recommender]:
        """The members whose weight is not 0."""
        return [member for member, weight in zip(self.members, self.settings.weights, strict=True) if weight]

    def knows(self, users: np.ndarray) -> np.ndarray:
        return np.any([member.knows(users) for member in self.counting], axis=0)

    def standard_scores(self, users: np.ndarray) -> Iterator[torch.Tensor]:
        """Each model's scores in units of their spread, float32 (B, I), one after the other."""
        for member, unit in zip(self.members, self._spreads, strict=True):
            yield member.score(users) / unit

    def embeddings(self) -> dict[str, np.ndarray] | None:
        """The members' embeddings side by side, the users' weighted; None where a member has none."""
        parts = [member.embeddings() for member in self.members]
        if any(part is None for part in parts):
            return None
        factors = [weight / unit for weight, unit in zip(self.settings.weights, self._spreads, strict=True)]
        users = [part["user"] * np.float32(factor) for part, factor in zip(parts, factors, strict=True)]
        return {"user": np.concatenate(users, axis=1), "item": np.concatenate([part["item"] for part in parts], axis=1)}

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return self.sum_of(lambda member: member.score(users))

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        return self.sum_of(lambda member: member._fold_in(histories))

    def sum_of(self, score: Callable[[Recommender], torch.Tensor]) -> torch.Tensor:
        """Add up what the members that count give, in units of their spreads and with their weights.

        Args:
            score: from a member to its scores of all items for some users, float32 (B, I), as `score` gives them.

        Returns:
            float32 (B, I).
        """
        total: torch.Tensor | None = None
        for member, unit, weight in zip(self.members, self._spreads, self.settings.weights, strict=True):
            if weight:
                part = score(member) / unit
                total = part.mul_(weight) if total is None else total.add_(part, alpha=weight)
        return total

    def _item_scores(self, items: np.ndarray) -> torch.Tensor:
        """The first member's: similarities of different models have no common unit."""
        return self.members[0]._item_scores(items)

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        raise UnsupportedError("a sum is made from finished runs: graphrec.fuse(runs, folder)")

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        state = {f"{number}.{name}": array for number, member in enumerate(self.members) for name, array in member._state().items()}
        return {_SPREADS: np.array(self._spreads), **state}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        self._spreads = tuple(state[_SPREADS].tolist())
        self.members = tuple(
            restore_part(member, part_of(state, f"{number}."), self.catalogue) for number, member in enumerate(self.settings.members)
        )


def spreads_of(models: Sequence[Recommender], seed: int = 0) -> list[float]:
    """Measure sigma of each model, on one sample of users that is drawn from the seed."""
    users = sample_users(models[0].catalogue, seed)
    return [spread(model.score, users) for model in models]
