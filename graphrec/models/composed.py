"""A trained model whose every part the run file names."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings


class ComposedSettings(TrainedSettings):
    """Settings of a free composition."""

    encoder: dict[str, Any] = Field(default={"name": "lightgcn"})
    """What mixes embeddings over the graph; see `graphrec.nn.ENCODERS`."""


class Composed(TrainedRecommender):
    """Any inputs, encoder, head and loss: `model = {name = "composed", encoder = {name = "lightgcn", num_layers = 2}}`."""

    name = "composed"
    Settings = ComposedSettings
