"""Encoders of multimodal recommenders: FREEDOM's frozen item graph, and BM3's predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from graphrec.errors import ConfigError
from graphrec.nn.encoder import Encoder
from graphrec.nn.item_graph import LearnedItemGraph
from graphrec.nn.layer import at_rows, sides_of
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.masking import keep_edges
from graphrec.nn.modalities import Modalities, ModalitySettings, read_modalities
from graphrec.nn.relations import RecencySettings
from graphrec.ops import Relation, spmm, topk_scores
from graphrec.ops.spmm import scale_dtype

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class FreedomSettings(ModalitySettings, RecencySettings):
    """Settings of the `freedom` encoder."""

    num_layers: int = Field(default=2, ge=1, le=16)
    """Hops between users and items; 2 is the paper's choice."""
    num_item_layers: int = Field(default=1, ge=1, le=16)
    """Hops in the item graph; 1 is the paper's choice."""
    num_neighbours: int = Field(default=10, ge=1)
    """k, most similar items of each, itself among them; 10 is the paper's choice."""
    modality_weights: dict[str, float] = Field(default={})
    """How much a modality's neighbours count; 1 where it is not named. They are scaled to sum to one for every item."""
    prune: float = Field(default=0.8, ge=0, lt=1)
    """Share of the interactions that a training step leaves out; the paper's best are 0.8 and 0.9."""
    graph: Literal["frozen", "learned"] = "frozen"
    """Which items are neighbours: those of the raw features, or, beside these, those of features that training maps."""
    frozen_share: float = Field(default=0.7, ge=0, le=1)
    """With "learned": lambda, the share of the frozen graph; 0.7 is the value of LATTICE's public code."""
    refresh_steps: int = Field(default=100, ge=1)
    """With "learned": training steps after which neighbours are looked for anew; LATTICE looks once in an epoch."""
    item_weight: float = Field(default=1.0, gt=0)
    """How much the hops in the item graph count beside those between users and items; 1 is the paper's choice."""


class FreedomEncoder(Encoder):
    """LightGCN on interactions from which training leaves out most, plus hops in a graph of items that look or sound alike.

    e_u = LightGCN_u, e_i = LightGCN_i + w S^L x_i. S is the mean over modalities of the k nearest items by cosine of the raw features,
    made once and frozen; with `graph = "learned"` it is lambda times that and 1 - lambda times a `LearnedItemGraph`. A step keeps (1 - prune) E edges, drawn with probability proportional to 1 / sqrt(d_u d_i).

    An item that lacks a modality has the neighbours of those it has, at their full weight, and is nobody's neighbour in the
    one it lacks; one that has none is its own only neighbour.

    Source: Zhou and Shen 2023, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation" (FREEDOM),
    arXiv:2211.06924, eq. 1-9, after Zhang et al. 2021 (LATTICE), arXiv:2104.09036. Edges are drawn in each step, there in each epoch.
    """

    Settings = FreedomSettings
    reads_weights = True

    def build(self, generator: torch.Generator | None) -> None:
        """Make the hops between users and items."""
        self._hops = LightGCNEncoder(LightGCNSettings(num_layers=self.settings.num_layers), self.dim)

    def read(self, store: GraphStore, generator: torch.Generator) -> None:
        """Read the items' features, and make the item graph and the maps that the auxiliary loss trains.

        Raises:
            ConfigError: the store has no such features, or a weight names none of them.
        """
        own = self.settings
        features = read_modalities(store, own.modalities, "encoder freedom")
        unknown = sorted(set(own.modality_weights) - set(features.names))
        if unknown or any(weight <= 0 for weight in own.modality_weights.values()):
            raise ConfigError(
                f"encoder freedom: modality_weights must be above 0 and name modalities that are read "
                f"({', '.join(features.names)}), got {own.modality_weights}"
            )
        self.modalities = Modalities(features, own, self.dim, generator)
        weights = [own.modality_weights.get(name, 1.0) for name in features.names]
        self._similar, self._weight = item_graph(features.arrays, features.masks, weights, own.num_neighbours)
        masks = [torch.from_numpy(mask) for mask in features.masks]
        learned = own.graph == "learned"
        self.learned = LearnedItemGraph(masks, own.num_neighbours, own.refresh_steps) if learned else None

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode; arguments and result as of `LightGCNEncoder.forward`."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        if self._similar.device != item_x.device:
            self._similar, self._weight = self._similar.to(item_x.device), self._weight.to(item_x.device)
        if self.training and self.settings.prune > 0:
            relation = prune(relation, self.settings.prune)
        user, item = self._hops(relation, user_x, item_x, users, items)
        own, near, weight = self.settings, item_x, self._weight.to(scale_dtype(item_x))
        if self.learned is None:
            for _ in range(own.num_item_layers - 1):
                near = spmm(self._similar, near, edge_weight=weight)
            near = spmm(self._similar, near, edge_weight=weight, rows=items)
            return user, item + (near if own.item_weight == 1 else own.item_weight * near)
        mapped = [values for values, _ in self.modalities(torch.arange(len(item_x), device=item_x.device))]
        for _ in range(own.num_item_layers):
            frozen = spmm(self._similar, near, edge_weight=weight)
            near = own.frozen_share * frozen + (1 - own.frozen_share) * self.learned(near, mapped)
        return user, item + own.item_weight * (near if items is None else near.index_select(0, items))

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """With a learned graph a_m, the shares of the modalities in it; none is learned where the graph is frozen."""
        if self.learned is None:
            return {}
        shares = torch.softmax(self.learned.logits, 0).tolist()
        return {f"{name} neighbours to item": share for name, share in zip(self.modalities.names, shares, strict=True)}


def item_graph(
    arrays: Sequence[np.ndarray], masks: Sequence[np.ndarray], weights: Sequence[float], count: int
) -> tuple[Relation, Tensor]:
    """The weighted mean over modalities of each item's nearest by cosine.

    Args:
        arrays: float32 (I, F_m) for each modality.
        masks: bool (I,), the items that have it.
        weights: of the modalities, above 0.
        count: k, neighbours in a modality, the item itself among them.

    Returns:
        A relation (I, I) and float32 edge weights, whose rows sum to one. The (I, I) similarities are never written.
    """
    num_items = len(masks[0])
    total = sum(weight * mask for weight, mask in zip(weights, masks, strict=True))
    rows, columns, values = [np.flatnonzero(total == 0)], [np.flatnonzero(total == 0)], [np.ones(int((total == 0).sum()))]
    for array, mask, weight in zip(arrays, masks, weights, strict=True):
        known = np.flatnonzero(mask)
        x = normalize(torch.from_numpy(array[known]), dim=1)
        near = topk_scores(x, x, min(count, len(known)))[1].numpy()
        rows.append(np.repeat(known, near.shape[1]))
        columns.append(known[near.ravel()])
        values.append(np.repeat(weight / total[known] / near.shape[1], near.shape[1]))
    parts = (np.concatenate(part) for part in (values, rows, columns))
    value, row, column = parts
    matrix = sp.csr_matrix((value.astype(np.float32), (row, column)), shape=(num_items, num_items))
    matrix.sum_duplicates()
    return Relation.from_scipy(matrix), torch.from_numpy(matrix.data)


def prune(relation: Relation, share: float) -> Relation:
    """Keep (1 - share) of the edges, drawn without replacement with probability proportional to 1 / sqrt(d_u d_i).

    Draws from torch's own generator. Source: Zhou and Shen 2023, arXiv:2211.06924, eq. 5-6.
    """
    degrees = relation.degree_dst[relation.rows].double() * relation.degree_src[relation.indices.long()].double()
    clock = torch.empty(relation.num_edges, dtype=torch.float64).exponential_().to(relation.device) * degrees.sqrt()
    kept = max(1, round((1 - share) * relation.num_edges))
    keep = torch.zeros(relation.num_edges, dtype=torch.bool, device=relation.device)
    keep[clock.topk(kept, largest=False).indices] = True
    return keep_edges(relation, keep)


class BM3EncoderSettings(ModalitySettings, RecencySettings):
    """Settings of BM3's encoder."""

    num_layers: int = Field(default=1, ge=1, le=16)
    """Hops between users and items; the paper's best are 1 and 2."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the target's values left out; the paper's best are 0.3 and 0.5."""


class BM3Encoder(Encoder):
    """e = P(h), h_u = LightGCN_u, h_i = LightGCN_i + x_i, and P a linear predictor that modalities go through too.

    In training it leaves in `targets` what the loss compares with: h of the rows asked for, with dropout and without a gradient.

    Source: Zhou et al. 2023, "Bootstrap Latent Representations for Multi-modal Recommendation" (BM3), arXiv:2207.05969, eq. 1-9.
    """

    Settings = BM3EncoderSettings
    reads_weights = True

    def build(self, generator: torch.Generator | None) -> None:
        """Make the hops and the predictor."""
        self._hops = LightGCNEncoder(LightGCNSettings(num_layers=self.settings.num_layers), self.dim)
        self.predictor = nn.utils.skip_init(nn.Linear, self.dim, self.dim)
        nn.init.xavier_uniform_(self.predictor.weight, generator=generator)
        nn.init.zeros_(self.predictor.bias)
        self.targets: tuple[Tensor, Tensor] | None = None

    def read(self, store: GraphStore, generator: torch.Generator) -> None:
        """Read the items' features and make their maps.

        Raises:
            ConfigError: the store has no such features.
        """
        features = read_modalities(store, self.settings.modalities, "encoder bm3")
        self.modalities = Modalities(features, self.settings, self.dim, generator)

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode; arguments and result as of `LightGCNEncoder.forward`."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        user, item = self._hops(relation, user_x, item_x, users, items)
        item = item + at_rows(item_x, items)
        if self.training:
            self.targets = self.target(user), self.target(item)
        return self.predictor(user), self.predictor(item)

    def target(self, x: Tensor) -> Tensor:
        """What a prediction is compared with: the rows without a gradient, some values left out."""
        return dropout(x.detach(), self.settings.dropout, self.training)
