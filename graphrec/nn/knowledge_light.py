"""LightGCN from items that have first gathered what the triples of a knowledge graph say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import sides_of
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.relations import RecencySettings, Relations
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype

_OWN_SCALE = 0.1  # standard deviation of the entities' first vectors, as of the inputs


class KnowledgeLightSettings(RecencySettings):
    """Settings of the `knowledge-lightgcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_layers": [1, 2, 3],
        "num_knowledge_layers": [1, 2],
        "knowledge_weight": {"low": 0.1, "high": 3.0, "log": True},
    }

    relations: list[str] | None = None
    """Names of the relations of the knowledge graph to use; None: all between items and entities."""
    num_layers: int = Field(default=2, ge=1, le=16)
    """L, hops between users and items."""
    num_knowledge_layers: int = Field(default=1, ge=1, le=4)
    """K, hops in the knowledge graph before them: 1 reaches an item's entities, 2 the items that share them."""
    knowledge_weight: float = Field(default=1.0, gt=0)
    """w, how much each hop in the knowledge graph counts."""


class KnowledgeLightEncoder(Encoder):
    """LightGCN over the interactions, from item vectors to which their neighbours in the knowledge graph are added.

    x'_i = x_i + sum_{k=1..K} w^k (B^k [X; Z])_i and E = LightGCN([X_u; X'_i]), with B = D^-1/2 T D^-1/2, T the triples in both
    directions over items and entities, a pair counting as often as it is joined, and Z the entities' own vectors.

    The two graphs are normalised apart: where one graph holds both (`joint-lightgcn`, `kgat`), an item with few interactions and
    many triples passes on next to nothing of the interactions. Entities with a single link are left out, for they tie nothing.

    Source: He et al. 2020, LightGCN, arXiv:2002.02126, from other inputs; the sum of entity vectors as an item's features is that
    of Kula 2015 (LightFM), arXiv:1507.08439, and as a hop that of Wang et al. 2019 (KGCN), arXiv:1904.12575, without its weights.
    """

    Settings = KnowledgeLightSettings
    reads_weights = True

    def build(self, generator: torch.Generator | None) -> None:
        """Make the hops between users and items."""
        self._hops = LightGCNEncoder(LightGCNSettings(num_layers=self.settings.num_layers), self.dim)

    def optional(self, relations: Relations) -> list[str]:
        """The relations of the knowledge graph; without any it is LightGCN."""
        return relations.knowledge(self.settings.relations, "encoder knowledge-lightgcn", bare=True)

    def prepare(self, relations: Relations, generator: torch.Generator) -> None:
        """Join the triples in one graph, and make the entities' vectors.

        Raises:
            ConfigError: the store has no triples, or not of a relation that the settings name.
        """
        found = knowledge_edges(relations, self.settings.relations, "encoder knowledge-lightgcn", bare=True)
        device = relations.edges[relations.target].device
        self._items, total = relations.num_nodes["item"], relations.num_nodes["item"] + relations.num_nodes.get("entity", 0)
        none = np.empty(0, np.int64)
        heads, tails = (np.concatenate([none, *(ends[side] for ends in found.values())]) for side in (0, 1))
        matrix = sp.csr_matrix((np.ones(len(heads), np.float32), (heads, tails)), shape=(total, total))
        matrix = (matrix + matrix.T).tocsr()
        ties = np.diff(matrix.indptr)
        kept = np.flatnonzero((np.arange(total) < self._items) | (ties > 1))
        self._place = np.full(total, -1)
        self._place[kept] = np.arange(len(kept))
        self._degree = np.asarray(matrix.sum(axis=1)).ravel()
        matrix = matrix[kept][:, kept]
        scale = sp.diags(_inverse_root(np.asarray(matrix.sum(axis=1)).ravel()))
        matrix = sp.csr_matrix(scale @ matrix @ scale, dtype=np.float32)
        matrix.sort_indices()
        self._graph = Relation.from_scipy(matrix).to(device)
        self._weight = torch.from_numpy(matrix.data).to(device)
        self._found = found
        self.entity = nn.Parameter(torch.randn(len(kept) - self._items, self.dim, generator=generator) * _OWN_SCALE)

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
        return self._hops(relation, user_x, item_x + self.gathered(item_x), users, items)

    def gathered(self, item_x: Tensor) -> Tensor:
        """What the knowledge graph adds to the items: (I, D)."""
        h, total = torch.cat([item_x, self.entity.to(item_x.dtype)]), 0.0
        weight = self._weight.to(scale_dtype(item_x)) * self.settings.knowledge_weight
        for _ in range(self.settings.num_knowledge_layers):
            h = spmm(self._graph, h, edge_weight=weight)
            total = total + h[: self._items]
        return total

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """The share of the knowledge graph in the length of the items' first vectors, and of the items' own."""
        own, added = (float(part.square().mean().sqrt()) for part in (item_x, self.gathered(item_x)))
        return {"own to item": own / ((own + added) or 1.0), "triples to item": added / ((own + added) or 1.0)}

    @torch.no_grad()
    def by_entities(
        self, relation: Relation, user_x: Tensor, item_x: Tensor, links: list[tuple[int, Tensor, Tensor]], count: int
    ) -> Tensor:
        """What their entities say of items whose own vectors are left out: one hop of B from the entities' vectors.

        Args:
            relation, user_x, item_x: as of `forward`.
            links: (number of the relation, rows (n,), entities (n,)), as `entity_links` makes them.
            count: I', rows of items.

        Returns:
            (I', D), zeros for an item without links to entities that tie items.
        """
        rows, entities = (torch.cat([one[side] for one in links]) for side in (1, 2))
        place = torch.from_numpy(self._place).to(rows.device)[entities + self._items] - self._items
        rows, entities, place = (part[place >= 0] for part in (rows, entities, place))
        degree = torch.from_numpy(self._degree).to(rows.device)[entities + self._items].to(item_x.dtype)
        own = torch.bincount(rows, minlength=count).clamp(min=1)[rows].to(item_x.dtype)
        share = (degree * own).rsqrt()[:, None]
        return item_x.new_zeros(count, self.dim).index_add_(0, rows, share * self.entity.to(item_x.dtype)[place])

    def entity_links(self) -> dict[tuple[str, bool], tuple[int, Tensor, Tensor]]:
        """By (relation, whether the item is the head), a number and the ends of its triples, items and entities."""
        found = {}
        for number, ((left, name, right), (heads, tails)) in enumerate(self._found.items()):
            if {left, right} == {"item", "entity"}:
                ends = (heads, tails) if left == "item" else (tails, heads)
                parts = (torch.from_numpy(end).to(self._weight.device) for end in (ends[0], ends[1] - self._items))
                found[name, left == "item"] = (number, *parts)
        return found


def knowledge_edges(
    relations: Relations, names: list[str] | None, where: str, bare: bool = False
) -> dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]:
    """The triples by edge type, int64 heads and tails, with items as nodes 0..I-1 and entities as the nodes after them.

    Raises:
        ConfigError: as `Relations.knowledge`.
    """
    start = {"item": 0, "entity": relations.num_nodes["item"]}
    found = {}
    for etype in relations.select(relations.knowledge(names, where, bare), where):
        if "user" in (etype[0], etype[2]):
            continue  # a relation of users may have the name of one of items
        relation = relations.edges[etype]
        rows, columns = relation.rows.cpu().numpy(), relation.indices.cpu().numpy().astype(np.int64)
        found[etype] = rows + start[etype[0]], columns + start[etype[2]]
    return found


def _inverse_root(degree: np.ndarray) -> np.ndarray:
    return np.divide(1.0, np.sqrt(degree), out=np.zeros(len(degree)), where=degree > 0)
