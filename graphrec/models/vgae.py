"""VGAE: a variational graph autoencoder over users and items, trained to reconstruct their edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from graphrec.losses.batch import Batch
from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.autoencoder import VGAESettings as EncoderSettings
from graphrec.nn.masking import without_pairs
from graphrec.nn.relations import RecencySettings
from graphrec.ops import Relation


class VGAESettings(TrainedSettings, RecencySettings):
    """Settings of VGAE; inputs, head, loss and auxiliary losses can be exchanged."""

    search: ClassVar[Mapping[str, Any]] = {
        **TrainedSettings.search,
        "num_layers": {"low": 1, "high": 3},
        "activation": ["relu", "none"],
        "mask_batch_edges": [False, True],
    }

    num_layers: int = Field(default=2, ge=1, le=8)
    """Convolutions; 2 is the choice of Kipf and Welling 2016, 1 makes the encoder linear."""
    activation: Literal["relu", "none"] = "relu"
    """Between the layers."""
    start_log_std: float = EncoderSettings.model_fields["start_log_std"].default
    """Where log std starts, before the last layer adds to it."""
    mask_batch_edges: bool = False
    """Leave the batch's own edges out of message passing, so that none of them is seen while it is asked for."""
    loss: dict[str, Any] = Field(default={"name": "bce", "num_negatives": 4})
    """Reconstruction; see `graphrec.losses.LOSSES`. "bce" makes the whole the negative evidence lower bound."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "kl", "weight": 0.01}])
    """The KL term, and whatever else; see `graphrec.losses.AUXILIARY`."""


class VGAE(TrainedRecommender):
    """q(z) = N(mean(A, X), std(A, X)^2) a user and an item, p(A_ui = 1) = sigmoid(<z_u, z_i>), minimise -E log p + w KL.

    Means rank: s(u, i) = <mean_u, mean_i>. With `mask_batch_edges` it is a masked autoencoder: each step encodes the graph
    without the edges that it then decodes.

    Source: Kipf and Welling 2016, arXiv:1611.07308; on a user-item graph as in van den Berg et al. 2017 (GC-MC,
    arXiv:1706.02263); masking as in Li et al. 2023 (MaskGAE, arXiv:2205.10053). Here edges and non-edges are sampled in
    batches, the KL weight is free and rises over the first steps.
    """

    name = "vgae"
    Settings = VGAESettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = {key: getattr(self.settings, key) for key in ("num_layers", "activation", "start_log_std", "half_life_days")}
        return {**super()._specs(), "encoder": {"name": "vgae", **own}}

    @property
    def whole_graph_only(self) -> str | None:
        if self.settings.mask_batch_edges:
            return "mask_batch_edges takes edges out of the whole graph; set mask_batch_edges = false"
        return super().whole_graph_only

    def _relation_for(self, batch: Batch) -> Relation:
        if not self.settings.mask_batch_edges:
            return self._relation
        pairs = batch.user_rows[batch.users], batch.item_rows[batch.positives]
        return without_pairs(self._relation, *pairs)
