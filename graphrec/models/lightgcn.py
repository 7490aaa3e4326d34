"""LightGCN: id embeddings, averaged over the layers of a linear graph convolution, dot product, BPR loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.relations import RecencySettings


class LightGCNSettings(TrainedSettings, RecencySettings):
    """Settings of LightGCN; inputs, head and loss can be exchanged."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, "num_layers": {"low": 1, "high": 4}}

    num_layers: int = Field(default=3, ge=1, le=16)
    """L, hops of propagation; 3 is the paper's choice, 1 suits softmax losses."""


class LightGCN(TrainedRecommender):
    """E = 1/(L+1) sum_{l=0..L} A^l X with A = D^-1/2 (adjacency) D^-1/2 over users and items, s(u, i) = <e_u, e_i>.

    Source: He et al. 2020, LightGCN, arXiv:2002.02126, eq. 3-9. Here each batch computes only the rows it needs, which
    gives the same numbers. With `half_life_days` A holds the interactions' weights by age, and D their sums.
    """

    name = "lightgcn"
    Settings = LightGCNSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = {"num_layers": self.settings.num_layers, "half_life_days": self.settings.half_life_days}
        return {**super()._specs(), "encoder": {"name": "lightgcn", **own}}
