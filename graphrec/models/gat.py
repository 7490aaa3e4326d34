"""GAT: id embeddings, graph attention over users and items, dot product, BPR loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.gat import GATSettings


class GATModelSettings(TrainedSettings, GATSettings):
    """Settings of GAT: those of its encoder and of the other parts; inputs, head and loss can be exchanged."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, **GATSettings.search}


class GAT(TrainedRecommender):
    """s(u, i) = <e_u, e_i>, e being the last of L attention layers over users and items as one graph.

    Source: Veličković et al. 2018, Graph Attention Networks, arXiv:1710.10903, who classify nodes of citation graphs; here
    the nodes are users and items, their features are learned id embeddings, and the BPR loss of Rendle et al. 2009
    (arXiv:1205.2618) takes the place of the classifier. The paper's layers are `examples/runs/gat.toml`.
    """

    name = "gat"
    Settings = GATModelSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = self.settings.model_dump(include=set(GATSettings.model_fields))
        return {**super()._specs(), "encoder": {"name": "gat", **own}}
