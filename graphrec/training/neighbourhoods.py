"""Batches with a sampled neighbourhood each, so that a training step costs the same however large the graph is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch
from graphrec.models.base import Recommender
from graphrec.models.trained import TrainedRecommender
from graphrec.ops import Neighbourhood, NeighbourhoodSampler
from graphrec.training.samplers import Sampler
from graphrec.training.settings import TrainSettings

DEFAULT_FANOUT = 10
DEFAULT_BLOCK = 16_384
_STREAM = 0x6E656967  # keeps these draws apart from the samplers', which are seeded with the same numbers


class Neighbourhoods(Protocol):
    """Makes the neighbourhood of a batch's rows: `NeighbourhoodSampler`, or what an encoder or a graph brings itself."""

    def draw(self, users: Tensor, items: Tensor, *, seed: int) -> Neighbourhood:
        """The neighbourhood of the distinct rows `users` (u,) and `items` (i,), which come first in it."""


class NeighbourhoodBatches:
    """The batches of a sampler, each with the neighbourhood of its rows.

    Draws are seeded by (seed, epoch, step), so a resumed run draws what the killed one would have drawn.

    Args:
        sampler: where the batches come from.
        neighbourhoods: draws them; see `neighbourhoods_of`.
        seed: of all draws.
    """

    def __init__(self, sampler: Sampler, neighbourhoods: Neighbourhoods, seed: int) -> None:
        self._sampler, self._neighbourhoods, self._seed = sampler, neighbourhoods, seed
        self.num_pairs, self.steps_per_epoch = sampler.num_pairs, sampler.steps_per_epoch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from step `start` on; both count from 0."""
        for step, batch in enumerate(self._sampler.batches(epoch, start), start):
            seed = int(np.random.SeedSequence([self._seed, epoch, step, _STREAM]).generate_state(1, np.uint64)[0])
            yield replace(batch, neighbourhood=self._neighbourhoods.draw(batch.user_rows, batch.item_rows, seed=seed))


def with_block(settings: TrainSettings, model: Recommender) -> TrainSettings:
    """The settings with `DEFAULT_BLOCK` where batches are sampled and no block is given, for the record of what was done.

    An encoder that has no single layers keeps the pass over the whole graph at once.
    """
    asked = settings.batching == "sampled" and settings.inference_block is None
    if asked and isinstance(model, TrainedRecommender) and all(hasattr(model.parts["encoder"].part, name) for name in ("hops", "layer")):
        return settings.model_copy(update={"inference_block": DEFAULT_BLOCK})
    return settings


def neighbourhoods_of(model: TrainedRecommender, fanouts: Sequence[int] | None) -> Neighbourhoods:
    """Make what draws the neighbourhoods of a prepared model.

    Args:
        model: prepared.
        fanouts: edges drawn in each hop, the batch's own rows first; None for `DEFAULT_FANOUT` in each.

    Raises:
        ConfigError: the model or its encoder cannot work on a sample, has another number of hops, or takes no fanouts.
    """
    encoder = model.network.encoder
    hops = getattr(encoder, "hops", None)
    if hops is None:
        raise ConfigError(
            f'train batching: the encoder of {model.name} ({type(encoder).__name__}) needs the whole graph in every step; '
            'set batching = "full"'
        )
    if model.whole_graph_only is not None:
        raise ConfigError(f'train batching: {model.whole_graph_only}, or set batching = "full"')
    if fanouts is not None and not hasattr(encoder, "neighbourhoods") and len(fanouts) != hops:
        raise ConfigError(
            f"train fanouts: give one number for each of the {hops} hops of {model.name}, the batch's own rows first, got "
            f"{len(fanouts)}: {list(fanouts)}"
        )
    if hasattr(encoder, "neighbourhoods"):
        if fanouts is not None:
            raise ConfigError(
                f"train fanouts: {model.name} finds its own neighbours, got {list(fanouts)}; leave fanouts out and set "
                "num_neighbors of its encoder"
            )
        return encoder.neighbourhoods()
    relation = model.relation.to("cpu")
    make = getattr(relation, "neighbourhoods", None) or partial(NeighbourhoodSampler, relation)
    return make([DEFAULT_FANOUT] * hops if fanouts is None else fanouts)
