"""KGCN: items whose vectors depend on the user, so that no two tables of vectors hold its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch
from graphrec.models.base import cannot_fold_in
from graphrec.models.parts import Part
from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import InputSettings
from graphrec.nn.kgcn import KGCNEncoder, KGCNSettings, ReceptiveField

_FIELD = "field."  # before the names of the receptive field's parameters in a saved model


class KGCNModelSettings(InputSettings, KGCNSettings):
    """Settings of KGCN; encoder and head belong together and cannot be exchanged. Triples come as those of KGAT do."""

    search: ClassVar[Mapping[str, Any]] = {
        **InputSettings.search,
        "num_neighbours": [4, 8, 16],
        "num_hops": [1, 2],
        "aggregator": ["sum", "concat", "neighbour"],
    }

    loss: dict[str, Any] = Field(default={"name": "bpr"})
    """What is minimised: a loss with negatives for each pair. The paper's, which predicts clicks, is `{name = "bce",
    num_negatives = 1}`; this is what the other models here rank by."""
    without: list[str] = Field(default=[])
    """Names of relations whose edges the model does not get; see `graphrec benchmark --ablate`."""


class KGCN(TrainedRecommender):
    """Scores an item by a sample of its neighbours in the knowledge graph, weighed by what the user thinks of their relations.

    There are no vectors of items to export or to compare: `embeddings` is None, and new users cannot be placed.

    Source: Wang et al. 2019, arXiv:1904.12575; see `graphrec.nn.kgcn.ReceptiveField` and `KGCNEncoder` for what differs.
    """

    name = "kgcn"
    Settings = KGCNModelSettings

    def _specs(self) -> dict[str, Any]:
        own = self.settings
        encoder = KGCNSettings(**own.model_dump(include=set(KGCNSettings.model_fields)))
        parts = {"encoder": Part("kgcn", KGCNEncoder, encoder), "head": {"name": "dot"}}
        return {"inputs": own.inputs, "loss": own.loss, **parts}

    def _check_head(self) -> None:
        if self.loss.negatives.kind != "rows" or getattr(self.loss, "needs_cosine", False):
            raise ConfigError(
                f'model kgcn: loss "{self._parts["loss"].name}" does not fit, for items have other vectors for every user; set '
                'loss = "bce" or "bpr"'
            )

    def _rank_loss(self, user: Tensor, item: Tensor, batch: Batch, precision: str) -> Tensor:
        encoder = self.network.encoder
        items = batch.item_rows[torch.cat([batch.positives[:, None], batch.negatives], 1)]  # (B, 1 + n)
        scores = encoder.field.pairs(user[batch.users], items, encoder.nodes()).float()
        return self.loss(scores[:, 0], scores[:, 1:], batch)

    def finish(self, block: int | None = None, scratch: Any = None) -> None:
        """Keep what scores: the vectors of users and nodes, and the receptive field."""
        super().finish(block, scratch)
        encoder = self.network.encoder
        self._nodes = encoder.nodes().detach().float().cpu().clone()
        self._keep_field({name: value.cpu() for name, value in encoder.field.state_dict().items()})

    def embeddings(self) -> None:
        """None: an item has another vector for every user."""
        return

    @property
    def scores_are_dot_products(self) -> bool:
        """No: see `embeddings`."""
        return False

    def _own_scores(self, users: np.ndarray) -> Tensor:
        user = self._vectors[0][torch.from_numpy(users)]
        return self._field.matrix(user, self._nodes, self.catalogue.num_items).contiguous()

    def _folded(self) -> Any:
        raise cannot_fold_in(self.name)

    def _keep_field(self, state: Mapping[str, Tensor]) -> None:
        """Make the receptive field anew from its parameters, on the CPU."""
        own = self.settings
        relations, dim = state["relation_vectors"].shape
        self._field = ReceptiveField(state["near"], state["kind"], relations, dim, own.num_hops, own.aggregator)
        self._field.load_state_dict(state)
        self._field.eval().requires_grad_(False)

    def _state(self) -> dict[str, Tensor]:
        own = {_FIELD + name: value for name, value in self._field.state_dict().items()}
        return {**super()._state(), "nodes": self._nodes, **own}

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self._nodes = state["nodes"].clone()
        self._keep_field({k.removeprefix(_FIELD): v.clone() for k, v in state.items() if k.startswith(_FIELD)})
