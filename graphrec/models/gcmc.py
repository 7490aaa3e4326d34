"""GC-MC: learns the ratings themselves, a probability for each level, from messages that differ by level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from graphrec.errors import ConfigError
from graphrec.graph.ids import distinct
from graphrec.graph.recency import half_life_of
from graphrec.losses.batch import Batch
from graphrec.losses.ratings import LevelCrossEntropy, LevelCrossEntropySettings
from graphrec.models.parts import Part
from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import InputSettings
from graphrec.nn.gcmc import GCMCEncoder, GCMCEncoderSettings, RatingHead, RatingHeadSettings
from graphrec.nn.rating_graph import RatingGraph
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class GCMCSettings(InputSettings, GCMCEncoderSettings, LevelCrossEntropySettings):
    """Settings of GC-MC; encoder, head and loss belong together and cannot be exchanged."""

    search: ClassVar[Mapping[str, Any]] = {**InputSettings.search, **GCMCEncoderSettings.search}

    num_bases: int = Field(default=2, ge=1, le=32)
    """S, matrices that the levels' decoders share; 2 is the paper's choice for MovieLens."""
    max_levels: int = Field(default=20, ge=1, le=100)
    """Most levels that the training weights may have; every level has weights of its own."""


class GCMC(TrainedRecommender):
    """s(u, i) = Σ_r rating_r · p_r(u, i), the expected rating, which both ranks and predicts ratings (rmse, mae).

    The levels are the distinct weights of the training data; of a pair that occurs several times the last one counts. Where
    all weights are equal (w), nothing tells levels apart: the model then learns chosen (w) against not chosen (0), with
    drawn negatives, and its score is w times the probability of a choice.

    Source: van den Berg et al. 2017, Graph Convolutional Matrix Completion, arXiv:1706.02263, with learned embeddings (or
    projected features) in place of one-hot rows, see `graphrec.nn.gcmc.GCMCEncoder`. The paper's setting is
    `examples/runs/gc-mc.toml`.
    """

    name = "gc-mc"
    Settings = GCMCSettings

    @property
    def predicts_ratings(self) -> bool:
        return True

    def prepare(
        self, store: GraphStore, *, seed: int = 0, device: str | torch.device = "cpu", progress: Reporter = SILENT
    ) -> None:
        """Find the levels, and make parameters and graph ready for the first step.

        Raises:
            ConfigError: the training weights have too many levels, or are all equal and not above 0, or were built with a
                half-life.
        """
        days = half_life_of(store)
        if days is not None:
            raise ConfigError(
                f"gc-mc: the training weights must be ratings, and [build] half_life_days = {days:g} has multiplied them by their "
                f"age; build the store without it, and set [train] half_life_days = {days:g}, which draws old ratings less often"
            )
        self._ratings = _last_ratings(store)
        found = distinct(self._ratings.data)
        self._check_levels(found)
        self._set_levels(np.append(0.0, found) if len(found) == 1 else found.astype(np.float64))
        encoder = replace(self._parts["encoder"], part=partial(GCMCEncoder, num_levels=len(found)))
        self._parts = {**self._parts, "encoder": encoder}
        progress.note(f"rating levels: {', '.join(f'{level:g}' for level in self._levels)}")
        super().prepare(store, seed=seed, device=device, progress=progress)

    def _specs(self) -> dict[str, Any]:
        encoder = GCMCEncoderSettings(**self.settings.model_dump(include=set(GCMCEncoderSettings.model_fields)))
        return {
            "inputs": self.settings.inputs,
            "encoder": Part("gc-mc", GCMCEncoder, encoder),
            "head": Part("rating", RatingHead, RatingHeadSettings(num_bases=self.settings.num_bases)),
            "loss": Part(
                "level-cross-entropy",
                LevelCrossEntropy,
                LevelCrossEntropySettings(num_negatives=self.settings.num_negatives),
            ),
        }

    def _check_head(self) -> None:
        """The parts are made for each other."""

    def _check_levels(self, found: np.ndarray) -> None:
        if len(found) > self.settings.max_levels:
            raise ConfigError(
                f"gc-mc: the training weights must have at most max_levels = {self.settings.max_levels} distinct values, one "
                f"for each rating level, got {len(found)} ({found[0]:g} to {found[-1]:g}); round them before building the "
                "store, or choose a model that does not learn ratings, such as ngcf"
            )
        if len(found) == 1 and found[0] <= 0:
            raise ConfigError(
                f"gc-mc: training weights that are all equal must be above 0, got {found[0]:g}; build the store without "
                "weights, or map the rating column to weight when reading the log"
            )

    def _set_levels(self, levels: np.ndarray) -> None:
        """Tell the head the rating of each level."""
        head = self._parts["head"]
        settings = head.settings.model_copy(update={"levels": tuple(levels.tolist())})
        self._levels = levels
        self._parts = {**self._parts, "head": replace(head, settings=settings)}

    def _training_matrix(self, store: GraphStore) -> sp.csr_matrix:
        """The position of each rating among the levels that occur."""
        levels = np.searchsorted(distinct(self._ratings.data), self._ratings.data)
        return sp.csr_matrix((levels, self._ratings.indices, self._ratings.indptr), shape=self._ratings.shape)

    def _make_relation(self, train: sp.csr_matrix) -> RatingGraph:
        return RatingGraph.from_levels(train, int(train.data.max()) + 1)

    def _rank_loss(self, user: Tensor, item: Tensor, batch: Batch, precision: str) -> Tensor:
        head = self.network.head
        user, item = head.prepare(user, item)
        user = user.index_select(0, batch.users)
        positive = head.logits(user, item.index_select(0, batch.positives))
        repeated = user.repeat_interleave(batch.negatives.shape[1], 0)
        negative = head.logits(repeated, item.index_select(0, batch.negatives.reshape(-1)))
        return self.loss(positive.float(), negative.float(), batch)

    def _state(self) -> dict[str, Tensor]:
        return super()._state() | {"levels": torch.from_numpy(self._levels)}

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        self._set_levels(state["levels"].numpy().copy())
        super()._restore({name: value for name, value in state.items() if name != "levels"})


def _last_ratings(store: GraphStore) -> sp.csr_matrix:
    """The last recorded weight of each training pair (U, I), zeros stored too."""
    train = store.interactions("train")
    keys = train.user.astype(np.int64) * store.num_items + train.item
    order = np.argsort(keys, kind="stable")
    last = order[np.append(np.diff(keys[order]) > 0, True)]
    indptr = np.zeros(store.num_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(train.user[last], minlength=store.num_users), out=indptr[1:])
    return sp.csr_matrix((train.weight[last], train.item[last], indptr), shape=(store.num_users, store.num_items))
