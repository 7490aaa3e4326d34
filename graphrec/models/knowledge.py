"""Recommenders that read a knowledge graph beside the interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from graphrec.errors import UnsupportedError
from graphrec.graph.sides import NEW_ITEMS
from graphrec.models.ridge import fit_ridge
from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings
from graphrec.nn.relations import RecencySettings
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    import os

    from graphrec.graph.store import GraphStore


class KGATSettings(TrainedSettings, RecencySettings):
    """Settings of KGAT. Triples come with the log ([log] triples) or from attributes ([build] attribute_triples)."""

    search: ClassVar[Mapping[str, Any]] = {**TrainedSettings.search, "dropout": [0.0, 0.1, 0.3]}

    relations: list[str] | None = None
    """Names of the relations of the knowledge graph to use; None: all between items and entities."""
    layer_sizes: list[Annotated[int, Field(ge=1)]] = Field(default=[64, 32, 16], min_length=1)
    """Columns that each layer gives; the paper's."""
    relation_dim: int = Field(default=64, ge=1)
    """Columns of the space in which a relation compares head and tail; the paper's."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a layer's values left out in training; the paper's."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "transr", "weight": 1.0}])
    """The loss on triples, which is what the attention learns from; with an empty list it stays as it started."""


class LinkedItems(TrainedRecommender):
    """Base of models whose encoders give vectors to items without a training event, too, that triples tie to entities of the
    graph (`graphrec.with_new_items`): a ridge regression, fitted on the trained items, from what an item's entities say to its
    vector. The encoder has `entity_links` and `by_entities`, as `graphrec.nn.knowledge.KGATEncoder` does.
    """

    def prepare(
        self, store: GraphStore, *, seed: int = 0, device: str | torch.device = "cpu", progress: Reporter = SILENT
    ) -> None:
        """Make the parameters and the graph, and find the triples of new items, ready for the first step.

        Raises:
            ConfigError: the store has no triples, or not of a relation that the settings name.
        """
        super().prepare(store, seed=seed, device=device, progress=progress)
        self._new_vectors, self._links = None, None
        found, known = store.new_links(), self.network.encoder.entity_links()
        if found is None or not known:
            return
        ids, table = found
        links = []
        for (relation, is_head), rows in table.group_by("relation", "item_is_head", maintain_order=True):
            if (relation, is_head) in known:
                ends = (torch.from_numpy(rows[side].to_numpy(writable=True)).to(self.device) for side in ("item", "entity"))
                links.append((known[relation, is_head][0], *ends))
        self._links = (list(known.values()), links, len(ids)) if links else None

    @torch.inference_mode()
    def finish(self, block: int | None = None, scratch: str | os.PathLike[str] | None = None) -> None:
        """Compute the vectors that rank, and those of new items."""
        super().finish(block, scratch)
        if self._links is None:
            return
        trained, new, count = self._links
        parts = self._relation, *self.network.inputs()
        base, wanted = (
            self.network.encoder.by_entities(*parts, links, rows).float().cpu().numpy()
            for links, rows in ((trained, len(self._vectors[1])), (new, count))
        )
        known = base.any(axis=1)
        made = fit_ridge(base[known], self._vectors[1].numpy()[known]).predict(wanted)
        made[~wanted.any(axis=1)] = np.nan
        self._new_vectors = torch.from_numpy(made)

    def add_linked_items(self, store: GraphStore) -> int:
        """Add the items of the store without a training event that triples tie to entities of the graph.

        Returns:
            How many were added.

        Raises:
            UnsupportedError: the store had none when the model was trained.
            ConfigError: they are in the catalogue already, or the store is another one.
        """
        found = store.new_links()
        if self._new_vectors is None or found is None or len(found[0]) != len(self._new_vectors):
            raise UnsupportedError(
                f"this {self.name} model has vectors of {0 if self._new_vectors is None else len(self._new_vectors)} new items, and the "
                f"triples of the store {store.folder} tie {0 if found is None else len(found[0])} to entities; give the store "
                "that it was trained on, or list the items and their triples in the log, build and train again"
            )
        ids, listed = found[0].series, store.new_items()
        titles = None if listed is None else store.titles(NEW_ITEMS)
        if titles is not None:
            place = listed[0].find(ids)
            titles = [titles[row] if row >= 0 else "" for row in place.tolist()]
        return self._add_vectors(ids, self._new_vectors.numpy(), titles)

    def _state(self) -> dict[str, Tensor]:
        new = getattr(self, "_new_vectors", None)
        return super()._state() | ({} if new is None else {"linked": new})

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self._new_vectors = state["linked"].clone() if "linked" in state else None


class KGAT(LinkedItems):
    """Attention over the interactions and the triples of a knowledge graph, as one graph, with the BPR loss and TransR.

    Source: Wang et al. 2019, arXiv:1905.07854; see `graphrec.nn.knowledge` and `graphrec.losses.triples` for what differs.
    """

    name = "kgat"
    Settings = KGATSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        own = self.settings
        names = "relations", "layer_sizes", "relation_dim", "dropout", "half_life_days"
        return {**super()._specs(), "encoder": {"name": "kgat", **{name: getattr(own, name) for name in names}}}


class KnowledgeLightGCNSettings(TrainedSettings, RecencySettings):
    """Settings of the knowledge-aware LightGCN. Triples come as those of KGAT do."""

    search: ClassVar[Mapping[str, Any]] = {
        **TrainedSettings.search,
        "num_knowledge_layers": [1, 2],
        "knowledge_weight": {"low": 0.1, "high": 3.0, "log": True},
    }

    relations: list[str] | None = None
    """Names of the relations of the knowledge graph to use; None: all between items and entities."""
    num_layers: int = Field(default=2, ge=1, le=16)
    """L, hops between users and items."""
    num_knowledge_layers: int = Field(default=1, ge=1, le=4)
    """K, hops in the knowledge graph before them."""
    knowledge_weight: float = Field(default=1.0, gt=0)
    """w, how much each hop in the knowledge graph counts."""


class KnowledgeLightGCN(LinkedItems):
    """LightGCN from item vectors to which the knowledge graph has added what an item's entities say.

    Source: He et al. 2020, arXiv:2002.02126, and Kula 2015, arXiv:1507.08439; see `graphrec.nn.knowledge_light`.
    """

    name = "knowledge-lightgcn"
    Settings = KnowledgeLightGCNSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        names = "relations", "num_layers", "num_knowledge_layers", "knowledge_weight", "half_life_days"
        encoder = {name: getattr(self.settings, name) for name in names}
        return {**super()._specs(), "encoder": {"name": "knowledge-lightgcn", **encoder}}
