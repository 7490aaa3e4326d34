"""SimGCL: LightGCN without its layer 0, with BPR, and agreement between two noisy passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.relations import RecencySettings


class SimGCLSettings(TrainedSettings, RecencySettings):
    """Settings of SimGCL."""

    search: ClassVar[Mapping[str, Any]] = {
        **TrainedSettings.search,
        "num_layers": {"low": 1, "high": 4},
        "noise": {"low": 0.01, "high": 1.0, "log": True},
    }

    num_layers: int = Field(default=3, ge=1, le=16)
    """L, hops of propagation; the paper uses 2 and 3."""
    noise: float = Field(default=0.1, ge=0)
    """epsilon, length of the noise in each layer; 0.1 is the paper's choice."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "simgcl", "weight": 0.02}])
    """The contrastive loss with its weight lambda. The paper's 0.5 (Yelp2018) is for large catalogues; on a few dozen items it
    drives everything apart, so the default is gentle."""


class SimGCL(TrainedRecommender):
    """E = 1/L sum_{l=1..L} A^l X, s(u, i) = <e_u, e_i>, loss BPR + lambda * InfoNCE between two passes with noise.

    Source: Yu et al. 2022, SimGCL, arXiv:2112.08679, eq. 7-10.
    """

    name = "simgcl"
    Settings = SimGCLSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = {name: getattr(self.settings, name) for name in ("num_layers", "noise", "half_life_days")}
        return {**super()._specs(), "encoder": {"name": "lightgcn-noise", **own}}
