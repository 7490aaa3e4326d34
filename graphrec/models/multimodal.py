"""Recommenders that read the vectors of items' images, sounds or texts beside the interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from graphrec.losses.batch import Batch
from graphrec.losses.modality import Bootstrap, BootstrapSettings
from graphrec.models.new_items import NewItems
from graphrec.models.parts import Part
from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import InputSettings, TrainedSettings
from graphrec.nn.multimodal import BM3Encoder, BM3EncoderSettings
from graphrec.nn.relations import RecencySettings
from graphrec.settings import Settings


class Multimodal(TrainedRecommender):
    """Base of models that read item features by the setting `modalities`; with names, new items get vectors from them."""

    reads_features = True

    def __init__(self, settings: Settings | Mapping[str, Any] | None = None, **overrides: Any) -> None:
        super().__init__(settings, **overrides)
        names = self.settings.modalities
        self._new_items = NewItems(names) if names else None


class MultimodalSettings(TrainedSettings):
    """What the multimodal models share."""

    modalities: list[str] = Field(default=[])
    """Names of item features in the store; empty for all that it has. With names, new items get vectors from them."""
    project: Literal["none", "pca", "whiten"] = "pca"
    """What each feature goes through first, once and in closed form."""
    project_dim: int = Field(default=256, ge=1)
    """Columns that it leaves, at most."""


class VBPRSettings(MultimodalSettings):
    """Settings of VBPR. Its inputs are made of ids and features and cannot be exchanged."""

    inputs: dict[str, Any] = Field(default={"name": "vbpr"})
    """Half of the columns are of ids and half of features; `scale` is the size of both at the start."""


class VBPR(Multimodal):
    """Matrix factorisation with a part of its own for what items look, sound or read like, with the BPR loss.

    Source: He and McAuley 2016, arXiv:1510.01784; see `graphrec.nn.vbpr.VBPRInputs` for what differs.
    """

    name = "vbpr"
    Settings = VBPRSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = self.settings
        features = {"modalities": own.modalities, "project": own.project, "project_dim": own.project_dim}
        return {**super()._specs(), "inputs": {**own.inputs, "name": "vbpr", **features}, "encoder": {"name": "none"}}


class FreedomSettings(MultimodalSettings, RecencySettings):
    """Settings of FREEDOM."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, "prune": [0.0, 0.5, 0.8, 0.9]}

    num_layers: int = Field(default=2, ge=1, le=16)
    """Hops between users and items; the paper's."""
    num_item_layers: int = Field(default=1, ge=1, le=16)
    """Hops in the item graph; the paper's."""
    num_neighbours: int = Field(default=10, ge=1)
    """Most similar items of each; the paper's."""
    modality_weights: dict[str, float] = Field(default={})
    """How much a modality's neighbours count; 1 where it is not named."""
    prune: float = Field(default=0.8, ge=0, lt=1)
    """Share of the interactions that a training step leaves out."""
    graph: Literal["frozen", "learned"] = "frozen"
    """Which items are neighbours: those of the raw features, or, beside these, those of features that training maps (LATTICE)."""
    frozen_share: float = Field(default=0.7, ge=0, le=1)
    """With "learned": the share of the frozen graph."""
    refresh_steps: int = Field(default=100, ge=1)
    """With "learned": training steps after which neighbours are looked for anew."""
    item_weight: float = Field(default=1.0, gt=0)
    """How much the hops in the item graph count."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "modality-bpr", "weight": 0.001}])
    """The paper's loss on modalities, with one of its weights."""


class Freedom(Multimodal):
    """A frozen or learned graph of similar items beside LightGCN on a thinned-out graph of interactions.

    Source: Zhou and Shen 2023, arXiv:2211.06924; see `graphrec.nn.multimodal.FreedomEncoder` for what differs.
    """

    name = "freedom"
    Settings = FreedomSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        names = ("modalities", "project", "project_dim", "num_layers", "num_item_layers", "num_neighbours",
                 "modality_weights", "prune", "graph", "frozen_share", "refresh_steps", "item_weight", "half_life_days")  # fmt: skip
        encoder = {name: getattr(self.settings, name) for name in names}
        return {**super()._specs(), "encoder": {"name": "freedom", **encoder}}


class BM3Settings(InputSettings, BM3EncoderSettings, BootstrapSettings):
    """Settings of BM3; encoder, head and loss belong together and cannot be exchanged."""

    search: ClassVar[Mapping[str, Any]] = {**InputSettings.search, "dropout": [0.3, 0.5], "num_layers": [1, 2]}


class BM3(Multimodal):
    """Users, items and modalities that predict one another, without negatives.

    Source: Zhou et al. 2023, arXiv:2207.05969; see `graphrec.nn.multimodal.BM3Encoder` and `graphrec.losses.modality.Bootstrap`.
    """

    name = "bm3"
    Settings = BM3Settings

    def _specs(self) -> dict[str, Any]:
        encoder, loss = (
            kind(**self.settings.model_dump(include=set(kind.model_fields)))
            for kind in (BM3EncoderSettings, BootstrapSettings)
        )
        return {
            "inputs": self.settings.inputs,
            "encoder": Part("bm3", BM3Encoder, encoder),
            "head": {"name": "dot"},
            "loss": Part("bootstrap", Bootstrap, loss),
        }

    def _rank_loss(self, user: Tensor, item: Tensor, batch: Batch, precision: str) -> Tensor:
        return self.loss.of_step(user, item, self.network.encoder, batch)
