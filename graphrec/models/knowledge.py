"""Recommenders that read a knowledge graph beside the interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings


class KGATSettings(TrainedSettings):
    """Settings of KGAT. Triples come with the log ([log] triples) or from attributes ([build] attribute_triples)."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, "dropout": [0.0, 0.1, 0.3]}

    relations: list[str] | None = None
    """Names of the relations of the knowledge graph to use; None: all between items and entities."""
    layer_sizes: list[Annotated[int, Field(ge=1)]] = Field(default=[64, 32, 16], min_length=1)
    """Columns that each layer gives; the paper's."""
    relation_dim: int = Field(default=64, ge=1)
    """Columns of the space in which a relation compares head and tail; the paper's."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a layer's values left out in training; the paper's."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "transr", "weight": 1.0}])
    """The loss on triples, which is what the attention learns from; with an empty list it stays as it started."""


class KGAT(TrainedRecommender):
    """Attention over the interactions and the triples of a knowledge graph, as one graph, with the BPR loss and TransR.

    Source: Wang et al. 2019, arXiv:1905.07854; see `graphrec.nn.knowledge` and `graphrec.losses.triples` for what differs.
    """

    name = "kgat"
    Settings = KGATSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = self.settings
        names = "relations", "layer_sizes", "relation_dim", "dropout"
        return {**super()._specs(), "encoder": {"name": "kgat", **{name: getattr(own, name) for name in names}}}
