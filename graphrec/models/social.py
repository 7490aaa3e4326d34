"""Recommenders that read links between users beside the interactions."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.relations import RecencySettings


class SocialSettings(TrainedSettings, RecencySettings):
    """What the social models share."""

    num_layers: int = Field(default=2, ge=1, le=16)
    """L, hops of propagation, or steps of the diffusion."""
    social: str = "follows"
    """Name of the relation between users; the social table of a log is "follows"."""


class SocialLightGCNSettings(SocialSettings):
    """Settings of the social LightGCN."""

    social_weight: float = Field(default=1.0, gt=0)
    """How much a link between users counts beside an interaction, which counts 1; the mean link, where their weights differ."""


class SocialLightGCN(TrainedRecommender):
    """LightGCN on the graph of interactions and links between users, all propagated together.

    E = 1/(L+1) sum_{l=0..L} A^l X over users and items, A being D^-1/2 [[w S, R], [R^T, 0]] D^-1/2 with the links S,
    weighed where the log's weights differ.

    Source: He et al. 2020, LightGCN, arXiv:2002.02126, eq. 8, with the links as further edges; as a baseline in Yu et al. 2021
    (MHCN, arXiv:2101.06448, section 4).
    """

    name = "social-lightgcn"
    Settings = SocialLightGCNSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = self.settings
        graph = {"relations": ["target", own.social], "weights": {own.social: own.social_weight}}
        graph["half_life_days"] = own.half_life_days
        encoder = {"name": "joint-lightgcn", "num_layers": own.num_layers, **graph}
        return {**super()._specs(), "encoder": encoder}


class DiffNet(TrainedRecommender):
    """Interests that spread along the links between users, with the BPR loss.

    Source: Wu et al. 2019, arXiv:1904.10322; see `graphrec.nn.social.DiffNetEncoder` for what differs.
    """

    name = "diffnet"
    Settings = SocialSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        return {**super()._specs(), "encoder": {"name": "diffnet", **_shared(self.settings)}}


class MHCNSettings(SocialSettings):
    """Settings of MHCN."""

    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "hierarchical-mi", "weight": 0.01}])
    """The paper's self-supervision with its weight of 0.01; an empty list leaves it out."""


class MHCN(TrainedRecommender):
    """Users in hypergraphs of social triangles, shared purchases of friends, and shared purchases; with self-supervision.

    Source: Yu et al. 2021, arXiv:2101.06448; see `graphrec.nn.hypergraph` and `graphrec.losses.mutual` for what differs.
    """

    name = "mhcn"
    Settings = MHCNSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        return {**super()._specs(), "encoder": {"name": "mhcn", **_shared(self.settings)}}


def _shared(settings: SocialSettings) -> dict[str, Any]:
    """The settings that the encoders have too."""
    return {name: getattr(settings, name) for name in ("num_layers", "social", "half_life_days")}
