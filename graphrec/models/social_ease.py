"""EASE with friends: beside what a user's own items predict, the items that the users linked to have taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from graphrec.models.ease import EASE, EASESettings
from graphrec.models.held_out import best_of, held_out, list_quality
from graphrec.models.saved import csr_arrays, csr_from
from graphrec.models.social_filter import both_ways, link_strength
from graphrec.models.spread import sample_rows, spread
from graphrec.nn.relations import Relations
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

SHARES = (0.0, 0.06, 0.12, 0.25, 0.5)  # of the friends, tried when none is given; 0 is EASE itself


class SocialEASESettings(EASESettings):
    """Settings of the social EASE: those of EASE, and two.

    Attributes:
        social: name of the relation between users.
        social_share: w, weight of the friends' items in standard deviations: at 1 both score sets spread alike; None chooses
            it at fit time among 0, 0.06, 0.12, 0.25 and 0.5 on a fifth of the training items.
    """

    social: str = "follows"
    social_share: float | None = Field(None, ge=0)


class SocialEASE(EASE):
    """Adds the votes of friends to the scores f of EASE:

        s(u, i) = f(u, i) / sigma_f + w v(u, i) / sigma_v,  v = D_s^-1/2 S D_s^-1/2 R D_i^-b

    S are the links between users in either direction with their weights, D_s the sums of these. sigma_f and sigma_v are the standard deviations of
    the two score sets over all items and one fixed sample of up to 2,000 users with a training history, drawn from the seed; a
    set without any spread is left as it is. A user without a training item gets the friends' items alone. A user that training
    never saw has no links: EASE answers alone.

    Source: EASE, see there; one hop of the symmetric propagation of Kipf and Welling 2017 (arXiv:1609.02907, eq. 2) over the links
        is the diffusion of Wu et al. 2019 (arXiv:1904.10322) without free vectors. Friends' histories or
        friends themselves as further regressors of EASE were no better than EASE alone on validation items of Last.fm of HetRec 2011.
    """

    name = "social-ease"
    Settings = SocialEASESettings

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        links = _normalised(Relations.from_store(store), self.settings.social)
        super()._fit(store, seed, progress)
        chosen = self.settings.social_share
        self.social_share = self._choose_share(links, seed, progress) if chosen is None else chosen
        self._join(links, seed)

    def knows(self, users: np.ndarray) -> np.ndarray:
        """Of whom it has an own item or, where these count, a friend's vote."""
        own = super().knows(users)
        return own | (np.diff(self._votes.indptr)[users] > 0) if self.social_share else own

    def _choose_share(self, links: sp.csr_matrix, seed: int, progress: Reporter) -> float:
        """The share whose lists find most of a fifth of the training items, hidden at random."""
        train = self._train
        kept, hidden, users = held_out(train, seed)
        if not len(users):
            return SHARES[1]
        self._solve(kept, self.regularisation)
        self._join(links, seed)
        quality = []
        for self.social_share in SHARES:
            quality.append(float(list_quality(self._score(users), kept[users], hidden[users]).mean()))
        self._solve(train, self.regularisation)  # of the whole again
        return best_of(SHARES, quality, "social-ease: friends' share", progress)

    def _join(self, links: sp.csr_matrix, seed: int) -> None:
        """Count the votes, and measure both spreads."""
        self._votes = sp.csr_matrix(links @ self._train @ sp.diags(self._item_scale), dtype=np.float32)
        users = sample_rows(np.diff(self._train.indptr), seed)
        own = spread(super()._score, users)
        self._spreads = own, spread(self._voted, users)

    def _score(self, users: np.ndarray) -> torch.Tensor:
        own, friends = self._spreads
        scores = super()._score(users) / own
        return scores.add_(self._voted(users), alpha=self.social_share / friends)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        return super()._fold_in(histories) / self._spreads[0]

    def _voted(self, users: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._votes[users].toarray())

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        numbers = np.array([self.social_share, *self._spreads])
        return {**super()._state(), **csr_arrays("votes", self._votes), "social": numbers}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        super()._restore(state)
        self._votes = csr_from(state, "votes", self.catalogue.num_items)
        self.social_share, *spreads = state["social"].tolist()
        self._spreads = tuple(spreads)


def _normalised(relations: Relations, name: str) -> sp.csr_matrix:
    """D^-1/2 S D^-1/2 for the links S in either direction, float32 (U, U)."""
    links = both_ways(relations, name, "model social-ease")
    scale = sp.diags(link_strength(links) ** np.float32(-0.5))
    return (scale @ links @ scale).tocsr()
