"""NGCF: id embeddings, messages with the product of both ends, all layers side by side, dot product, BPR loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.ngcf import NGCFSettings


class NGCFModelSettings(TrainedSettings, NGCFSettings):
    """Settings of NGCF: those of its encoder and of the other parts; inputs, head and loss can be exchanged."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, **NGCFSettings.search}


class NGCF(TrainedRecommender):
    """s(u, i) = <e_u, e_i>, e = [x ‖ e_1 ‖ … ‖ e_L] with the layers of `graphrec.nn.ngcf.NGCFLayer`.

    Source: Wang et al. 2019, Neural Graph Collaborative Filtering, arXiv:1905.08108. The paper's setting is
    `examples/runs/ngcf.toml`.
    """

    name = "ngcf"
    Settings = NGCFModelSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = self.settings.model_dump(include=set(NGCFSettings.model_fields))
        return {**super()._specs(), "encoder": {"name": "ngcf", **own}}
