"""DirectAU: LightGCN or matrix factorisation, learned by alignment and uniformity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.relations import RecencySettings


class DirectAUSettings(TrainedSettings, RecencySettings):
    """Settings of DirectAU."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, "num_layers": {"low": 0, "high": 3}}

    num_layers: int = Field(default=2, ge=0, le=16)
    """L, hops of propagation; 0 is matrix factorisation, the paper's simplest encoder."""
    loss: dict[str, Any] = Field(default={"name": "directau"})
    """Alignment and uniformity; see `graphrec.losses.alignment.DirectAU`."""

    @model_validator(mode="after")
    def _hops_to_weigh(self) -> DirectAUSettings:
        if self.half_life_days is not None and not self.num_layers:
            raise ValueError("half_life_days weighs the edges of hops, and num_layers = 0 has none; set [train] half_life_days")
        return self


class DirectAU(TrainedRecommender):
    """s(u, i) = <e_u, e_i>, learned without negatives by the alignment of positives and the uniformity of each side.

    Source: Wang et al. 2022, DirectAU, arXiv:2206.12811, eq. 5-7.
    """

    name = "directau"
    Settings = DirectAUSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = {"num_layers": self.settings.num_layers, "half_life_days": self.settings.half_life_days}
        return {**super()._specs(), "encoder": {"name": "lightgcn", **own} if own["num_layers"] else {"name": "none"}}
