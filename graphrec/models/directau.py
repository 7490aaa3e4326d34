"""DirectAU: LightGCN or matrix factorisation, learned by alignment and uniformity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings


class DirectAUSettings(TrainedSettings):
    """Settings of DirectAU."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, "num_layers": {"low": 0, "high": 3}}

    num_layers: int = Field(default=2, ge=0, le=16)
    """L, hops of propagation; 0 is matrix factorisation, the paper's simplest encoder."""
    loss: dict[str, Any] = Field(default={"name": "directau"})
    """Alignment and uniformity; see `graphrec.losses.alignment.DirectAU`."""


class DirectAU(TrainedRecommender):
    """s(u, i) = <e_u, e_i>, learned without negatives by the alignment of positives and the uniformity of each side.

    Source: Wang et al. 2022, DirectAU, arXiv:2206.12811, eq. 5-7.
    """

    name = "directau"
    Settings = DirectAUSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        hops = self.settings.num_layers
        return {**super()._specs(), "encoder": {"name": "lightgcn", "num_layers": hops} if hops else {"name": "none"}}
