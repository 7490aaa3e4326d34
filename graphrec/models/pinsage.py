"""PinSAGE: learned inputs, convolutions over the items that random walks meet most often, max-margin loss."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings


class PinSAGEModelSettings(TrainedSettings):
    """Settings of PinSAGE; inputs, head and loss can be exchanged."""

    encoder: dict[str, Any] = Field(default={"name": "pinsage"})
    """Layers and walks; see `graphrec.nn.pinsage.PinSAGESettings`."""
    head: dict[str, Any] = Field(default={"name": "cosine"})
    """Cosines keep the margin of the loss to scale; the paper takes inner products of unit-like vectors."""
    loss: dict[str, Any] = Field(default={"name": "max-margin"})
    """What is minimised; see `graphrec.losses.LOSSES`."""


class PinSAGE(TrainedRecommender):
    """Importance-pooled convolutions of the T items that random walks from a node meet most often.

    See `graphrec.nn.pinsage.PinSAGEEncoder` and `graphrec.losses.margin.MaxMargin`. With `train.batching = "sampled"` a step
    reads the important neighbours of its batch only, which is how the paper trains.

    Source: Ying et al. 2018, "Graph convolutional neural networks for web-scale recommender systems", arXiv:1806.01973.
    """

    name = "pinsage"
    Settings = PinSAGEModelSettings
