"""The graph filter with friends: a user's history gains what the users linked to have taken, before it is filtered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from graphrec.models.graph_filter import GraphFilter, GraphFilterSettings
from graphrec.models.held_out import best_of, held_out, judged_at_once, list_quality
from graphrec.models.saved import csr_arrays, csr_from
from graphrec.models.spectral import NormalisedInteractions, leading_directions
from graphrec.nn.relations import Relations
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

SHARES = (0.0, 0.1, 0.2, 0.4, 0.8)  # of the friends' mass, tried when none is given; 0 is the graph filter itself


class SocialGraphFilterSettings(GraphFilterSettings):
    """Settings of the social graph filter: those of the graph filter, and two.

    Attributes:
        social: name of the relation between users.
        social_share: w, the mass of the friends' items beside the user's own, which is 1; None chooses it at fit time among
            0, 0.1, 0.2, 0.4 and 0.8 on a fifth of the training items.
    """

    social: str = "follows"
    social_share: float | None = Field(None, ge=0)


class SocialGraphFilter(GraphFilter):
    """Filters h_u = r_u + w n_u mean over friends v, by the links' weights, of r_v / n_v, with n_u the sum of r_u, as `GraphFilter` filters r_u.

    Friends are the users linked with u in either direction. A user without a training item of the target behaviour gets the
    friends' mean. The filter itself is that of the interactions alone.

    Source: the filter, see `GraphFilter`; one step of averaging over links before it is the simplest low-pass of the social
        graph, as in the diffusion of Wu et al. 2019 (arXiv:1904.10322), in closed form.
    """

    name = "social-graph-filter"
    Settings = SocialGraphFilterSettings

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        links = _mean_over_links(Relations.from_store(store), self.settings.social)
        super()._fit(store, seed, progress)
        chosen = self.settings.social_share
        self.social_share = self._choose(links, seed, progress) if chosen is None else chosen
        self._histories = with_friends(self._train, links, self.social_share)

    def knows(self, users: np.ndarray) -> np.ndarray:
        """Of whom it has an own item or, where these count, one of a friend's."""
        _ = self.catalogue
        return np.diff(self._histories.indptr)[users] > 0

    def _choose(self, links: sp.csr_matrix, seed: int, progress: Reporter) -> float:
        """The share whose filter finds most of a fifth of the training items, hidden as `hold_out` says."""
        kept, hidden, users = held_out(self._train, seed, self.settings.hold_out)
        if not len(users):
            return SHARES[1]
        probe = GraphFilter(self.settings.model_dump(exclude={"social", "social_share"}))
        interactions = NormalisedInteractions(kept, self.settings.user_exponent, self.settings.item_exponent)
        generator = torch.Generator().manual_seed(seed)
        values, directions = leading_directions(interactions, len(self._values), generator, progress)
        probe._take(kept, interactions, values, directions, self.responses)
        quality, step = [], judged_at_once(kept.shape[1])
        for share in SHARES:
            histories = with_friends(kept, links, share)
            found = []
            for start in range(0, len(users), step):
                some = users[start : start + step]
                found.append(list_quality(probe._filtered(histories[some]), kept[some], hidden[some]))
            quality.append(float(np.concatenate(found).mean()))
        return best_of(SHARES, quality, "social graph filter: friends' share", progress)

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        share = np.array([self.social_share])
        return {**super()._state(), **csr_arrays("histories", self._histories), "social_share": share}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        super()._restore(state)
        self._histories = csr_from(state, "histories", self.catalogue.num_items)
        self.social_share = float(state["social_share"])


def with_friends(train: sp.csr_matrix, links: sp.csr_matrix, share: float) -> sp.csr_matrix:
    """h = r + share * n * (links @ (r / n)), float32 (U, I), columns sorted.

    Args:
        train: r, (U, I), non-negative.
        links: (U, U), rows that sum to one or nothing.
        share: 0 or more.
    """
    if share == 0:
        return train
    mass = np.asarray(train.sum(axis=1), dtype=np.float32).ravel()
    unit = sp.diags(np.where(mass > 0, 1 / np.maximum(mass, 1e-30), 0).astype(np.float32)) @ train
    gained = sp.diags(share * np.where(mass > 0, mass, 1).astype(np.float32)) @ (links @ unit)
    histories = sp.csr_matrix(train + gained, dtype=np.float32)
    histories.sort_indices()
    return histories


def _mean_over_links(relations: Relations, name: str) -> sp.csr_matrix:
    """Links in either direction as a float32 (U, U) matrix whose rows sum to one or nothing."""
    links = both_ways(relations, name, "model social-graph-filter")
    return (sp.diags(1 / link_strength(links)) @ links).tocsr()


def link_strength(links: sp.csr_matrix) -> np.ndarray:
    """The sum of the weights of each user's links, 1 for a user without any: float32 (U,)."""
    strength = np.asarray(links.sum(axis=1), dtype=np.float32).ravel()
    return np.where(strength > 0, strength, np.float32(1))


def both_ways(relations: Relations, name: str, where: str) -> sp.csr_matrix:
    """Links between users, in whichever direction they are given, with their weights, the larger of the two directions, or as
    ones where all are equal: float32 (U, U), symmetric.

    Args:
        relations: of the store.
        name: of the relation.
        where: what wants it, for messages ("model social-ease").

    Raises:
        ConfigError: the store has no such links.
    """
    relation = relations.social(name, where)
    shape = relation.num_dst, relation.num_src
    weight = np.ones(relation.num_edges, np.float32) if relation.weight is None else relation.weight.numpy()
    links = sp.csr_matrix((weight, relation.indices.numpy(), relation.indptr.numpy()), shape=shape)
    return links.maximum(links.T).tocsr()
