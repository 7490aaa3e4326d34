"""Two stages: a fitted recommender retrieves candidates for a user, and a network with raw features ranks them.

`graphrec.training.rank` makes one from a finished retrieval run; it is saved and loaded as every other model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from graphrec import ops
from graphrec.errors import ConfigError, UnsupportedError
from graphrec.features.interaction import InteractionFeatures, standardise_lists
from graphrec.features.sequence import NextSteps
from graphrec.graph.catalogue import Catalogue
from graphrec.models import MADE_FROM_RUNS
from graphrec.models.base import Recommender
from graphrec.models.saved import csr_arrays, csr_from, part_of, restore_part
from graphrec.nn.scorer import CandidateScorer, ScorerSettings
from graphrec.progress import Reporter
from graphrec.settings import Settings

_RETRIEVAL, _FEATURES, _NETWORK = "retrieval.", "features.", "network."  # before the names of saved arrays
_NAMES, _LATEST, _FOLLOWS = "names", "latest", "follows"
_USERS_AT_ONCE = 256
_COSINE_DIGITS = 5
_NEAREST = 3  # items of the history that "near history" averages over


class TwoStageSettings(Settings):
    """What a two-stage model is made of; `graphrec.training.rank` fills it in."""

    retrieval: dict[str, Any] = Field(default={"name": "graph-filter", "settings": {}})
    """The first stage, a registered model or a sum of such, and its settings."""
    candidates: int = Field(default=200, ge=2)
    """N, items that the first stage hands to the second."""
    network: ScorerSettings = ScorerSettings()
    """The scoring network."""
    vectors: bool = False
    """Whether it reads the first stage's vectors, too."""
    labels: Literal["valid", "hold-out"] = "valid"
    """What the second stage learned from."""


@dataclass(frozen=True)
class Candidates:
    """What the first stage retrieved for B users.

    Attributes:
        items: int64 (B, N), best first; 0 where a list is short.
        known: bool (B, N), the places that hold a candidate.
        scores: float32 (B, N) of the first stage.
    """

    items: np.ndarray
    known: np.ndarray
    scores: np.ndarray


class TwoStage(Recommender):
    """Retrieves the N best unseen items by the first stage's scores and orders them by a `CandidateScorer`.

    `score` covers all items: candidates have the network's score, and all others (seen items among them) stand below every
    candidate in the order of the first stage. So lists longer than N go on with the first stage's items, and every metric
    that asks for scores of the whole catalogue is defined.

    `embeddings` are those of the first stage, which is what a vector index is to retrieve by.

    Source: Covington et al. 2016, Deep neural networks for YouTube recommendations (RecSys), for the two stages; the parts are
        cited where they are.
    """

    name = "two-stage"
    Settings = TwoStageSettings

    def assemble(self, retrieval: Recommender, features: InteractionFeatures, catalogue: Catalogue) -> None:
        """Take over a fitted first stage and the features of the same training side."""
        self.retrieval, self.features, self._catalogue = retrieval, features, catalogue
        vectors = retrieval.embeddings()
        unit = {side: torch.nn.functional.normalize(torch.from_numpy(table), dim=1) for side, table in (vectors or {}).items()}
        self._unit = unit.get("item")
        self._vectors = None
        if self.settings.vectors:
            if not ("user" in unit and "item" in unit and unit["user"].shape[1] == unit["item"].shape[1]):
                raise ConfigError(
                    f"vectors: {retrieval.name} has no vectors of users and items of one length for the second stage to read; "
                    "leave [rank] vectors out, or take another retrieval"
                )
            self._vectors = {side: unit[side] * unit[side].shape[1] ** 0.5 for side in ("user", "item")}  # entries around 1

    def make_network(self, generator: torch.Generator) -> None:
        """Make the scoring network for the features at hand, with a random start."""
        sizes = self.features.arrays["user"].shape[1], self.features.arrays["item"].shape[1], len(self.pair_names)
        more = 0 if self._vectors is None else self._vectors["item"].shape[1]
        self.network = CandidateScorer(self.settings.network, tuple(size + more for size in sizes), generator)

    @property
    def pair_names(self) -> list[str]:
        """Names of the columns of `pairs`."""
        near = [] if self._unit is None else ["nearest in history", "near history", "near latest"]
        near = near[:2] if self.features.steps is None else near
        return ["retrieval score", "retrieval rank", *near, *self.features.pair_names]

    @property
    def learned_splits(self) -> tuple[str, ...]:
        """Held-out splits whose interactions the second stage was trained on, and those of the first stage."""
        own = ("valid",) if self.settings.labels == "valid" else ()
        return tuple(dict.fromkeys([*own, *self.retrieval.learned_splits]))

    def candidates(self, users: np.ndarray, scores: Tensor | None = None) -> Candidates:
        """Retrieve for users (B,); `scores` (B, I) of the first stage are computed where they are not given."""
        scores = self.retrieval.score(users) if scores is None else scores
        values, items = ops.select_topk(scores, self.settings.candidates, *self.catalogue.seen(users))
        known = items.numpy() >= 0
        return Candidates(np.where(known, items.numpy(), 0), known, np.where(known, values.numpy(), 0.0))

    def pairs(self, users: np.ndarray, found: Candidates) -> np.ndarray:
        """Features of users (B,) with their candidates, each standardised within its list: float32 (B, N, Fp)."""
        place = np.broadcast_to(-np.log2(np.arange(2, found.items.shape[1] + 2)), found.items.shape)
        columns = [found.scores, place, *self._near(users, found)]
        values = np.concatenate([np.stack(columns, 2), self.features.pairs(users, found.items)], 2, dtype=np.float32)
        return standardise_lists(values, found.known)

    def network_scores(self, users: np.ndarray, items: np.ndarray, pairs: np.ndarray) -> Tensor:
        """Run the network on users (B,), candidates (B, N) and pair features (B, N, Fp): (B, N)."""
        rows = {"user": torch.from_numpy(users), "item": torch.from_numpy(items)}
        user, item = (torch.from_numpy(self.features.arrays[side])[at] for side, at in rows.items())
        pair = torch.from_numpy(pairs)
        if self._vectors is not None:
            of_user, of_item = (self._vectors[side][at] for side, at in rows.items())
            product = of_user.unsqueeze(1) * of_item
            user, item, pair = (torch.cat(both, -1) for both in ((user, of_user), (item, of_item), (pair, product)))
        return self.network(user, item, pair)

    def knows(self, users: np.ndarray) -> np.ndarray:
        """Of whom the first stage knows something: the candidates are its."""
        return self.retrieval.knows(users)

    def embeddings(self) -> dict[str, np.ndarray] | None:
        """The vectors of the first stage, or None where it has none."""
        _ = self.catalogue
        return self.retrieval.embeddings()

    @property
    def scores_are_dot_products(self) -> bool:
        """Never: the second stage orders the candidates anew."""
        return False

    @property
    def vectors_note(self) -> str:
        """The vectors retrieve; the second stage is not in them, and perhaps not all of the first."""
        first = self.retrieval
        note = f"are those of its first stage ({first.name}), whose candidates the second stage orders anew"
        if first.scores_are_dot_products and first.name not in MADE_FROM_RUNS:
            return note
        return f"{note}; those of {first.name} {first.vectors_note}"

    @torch.inference_mode()
    def _score(self, users: np.ndarray) -> Tensor:
        return torch.cat([self._block(users[start : start + _USERS_AT_ONCE]) for start in self._starts(users)])

    def _block(self, users: np.ndarray) -> Tensor:
        scores = self.retrieval.score(users).cpu()
        found = self.candidates(users, scores)
        known, items = torch.from_numpy(found.known), torch.from_numpy(found.items)
        ranked = self.network_scores(users, found.items, self.pairs(users, found))
        lowest = ranked.masked_fill(~known, torch.inf).amin(1, keepdim=True).nan_to_num(posinf=0.0)
        top, bottom = scores.amax(1, keepdim=True), scores.amin(1, keepdim=True)
        below = lowest - 1 - (top - scores) / (top - bottom).clamp_min(torch.finfo(torch.float32).tiny)
        # A short list's unused places all name item 0: what is written there must not win over a true candidate.
        rows = torch.arange(len(users)).unsqueeze(1).expand_as(items)
        return below.index_put_((rows[known], items[known]), ranked[known])

    def _starts(self, users: np.ndarray) -> range:
        return range(0, max(1, len(users)), _USERS_AT_ONCE)

    def _near(self, users: np.ndarray, found: Candidates) -> list[np.ndarray]:
        """Cosine of each candidate's vector to the nearest item of the history, the mean of the three nearest, and the mean
        over the latest where times are known."""
        if self._unit is None:
            return []
        nearest = np.zeros((2, *found.items.shape), dtype=np.float32)
        indptr, seen = self.catalogue.seen(users)
        for row, items in enumerate(found.items):
            history = self._unit[torch.from_numpy(seen[indptr[row] : indptr[row + 1]]).long()]
            if len(history):
                best = (self._unit[torch.from_numpy(items)] @ history.T).topk(min(_NEAREST, len(history)), 1).values
                nearest[0, row], nearest[1, row] = best[:, 0].numpy(), best.mean(1).numpy()
        # Where vectors are orthogonal, cosines are 0 but for rounding, which scaling within the list would blow up.
        return [cosines.round(_COSINE_DIGITS) for cosines in (*nearest, *self._near_latest(users, found))]

    def _near_latest(self, users: np.ndarray, found: Candidates) -> list[np.ndarray]:
        if self.features.steps is None:
            return []
        latest = self.features.steps.latest[users]  # (B, 5)
        share = (latest >= 0) / np.maximum(1, (latest >= 0).sum(1, keepdims=True))
        weight = torch.from_numpy(share.astype(np.float32))
        mean = (self._unit[torch.from_numpy(np.maximum(latest, 0)).long()] * weight.unsqueeze(2)).sum(1)  # (B, D)
        return [(mean @ self._unit.T).gather(1, torch.from_numpy(found.items)).numpy()]

    def _item_scores(self, items: np.ndarray) -> Tensor:
        return self.retrieval._item_scores(items)

    def _fit(self, store: Any, seed: int, progress: Reporter) -> None:
        raise UnsupportedError("a two-stage model is made from a finished run: graphrec.train_ranker(run, folder)")

    def _state(self) -> dict[str, Tensor | np.ndarray]:
        names = np.frombuffer(json.dumps(self.features.names).encode(), dtype=np.uint8)
        steps = self.features.steps
        order = {} if steps is None else {_LATEST: steps.latest, **csr_arrays(_FOLLOWS, steps.follows)}
        parts = {
            _RETRIEVAL: self.retrieval._state(),
            _FEATURES: {**self.features.arrays, **order, _NAMES: names.copy()},
            _NETWORK: self.network.state_dict(),
        }
        return {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}

    def _restore(self, state: dict[str, Tensor]) -> None:
        copied = {name: value.clone() for name, value in state.items()}
        own = {prefix: part_of(copied, prefix) for prefix in (_RETRIEVAL, _FEATURES, _NETWORK)}
        retrieval = restore_part(self.settings.retrieval, own[_RETRIEVAL], self.catalogue)
        arrays = {name: value.numpy() for name, value in own[_FEATURES].items()}
        names = json.loads(arrays.pop(_NAMES).tobytes())
        steps = None
        if _LATEST in arrays:
            steps = NextSteps(arrays.pop(_LATEST), csr_from(own[_FEATURES], _FOLLOWS, self.catalogue.num_items))
            arrays = {name: array for name, array in arrays.items() if not name.startswith(_FOLLOWS)}
        features = InteractionFeatures(arrays, names, history_of(self.catalogue), steps)
        self.assemble(retrieval, features, self.catalogue)
        self.make_network(torch.Generator())
        self.network.load_state_dict(own[_NETWORK])
        self.network.eval()


def history_of(catalogue: Catalogue) -> sp.csr_matrix:
    """The training pairs as a CSR matrix of ones, float32 (U, I)."""
    ones = np.ones(len(catalogue.seen_indices), dtype=np.float32)
    return sp.csr_matrix(
        (ones, catalogue.seen_indices, catalogue.seen_indptr), (catalogue.num_users, catalogue.num_items)
    )
