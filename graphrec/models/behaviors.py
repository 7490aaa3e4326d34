"""Recommenders that read several behaviours (view, cart, purchase) to rank for the target one."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.relations import RecencySettings

_SHARED = "behaviors", "num_layers", "half_life_days"  # settings that the encoders have too


class MultiBehaviorSettings(TrainedSettings, RecencySettings):
    """What the models of several behaviours share. The target behaviour is the store's (`[build] target_behavior`)."""

    behaviors: list[str] | None = None
    """Names in order, the target last; None: all, those with most events first."""
    num_layers: int = Field(default=2, ge=1, le=16)
    """L, hops within each behaviour."""


class MBCGCN(TrainedRecommender):
    """A cascade of graph convolutions through the behaviours, as view, cart, purchase, with the loss on the target alone.

    Source: Cheng et al. 2023, MB-CGCN, arXiv:2303.15720; see `graphrec.nn.behaviors.CascadeEncoder` for what differs.
    """

    name = "mb-cgcn"
    Settings = MultiBehaviorSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = {name: getattr(self.settings, name) for name in _SHARED}
        return {**super()._specs(), "encoder": {"name": "cascade", **own}}


class MBGCNSettings(MultiBehaviorSettings):
    """Settings of MBGCN."""

    item_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the item-based score."""


class MBGCN(TrainedRecommender):
    """Behaviours weighed for each user, and items that are alike within a behaviour.

    Source: Jin et al. 2020, SIGIR; see `graphrec.nn.behaviors.MBGCNEncoder` for what differs.
    """

    name = "mbgcn"
    Settings = MBGCNSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = {name: getattr(self.settings, name) for name in (*_SHARED, "item_share")}
        return {**super()._specs(), "encoder": {"name": "mbgcn", **own}}
