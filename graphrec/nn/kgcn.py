"""KGCN: what an item is to a user, from a fixed sample of its neighbours in the knowledge graph."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.encoder import Encoder
from graphrec.nn.knowledge_light import knowledge_edges
from graphrec.nn.layer import at_rows
from graphrec.nn.relations import Relations
from graphrec.ops import Relation
from graphrec.settings import Settings

Aggregator = Literal["sum", "concat", "neighbour"]
_OWN_SCALE = 0.1  # standard deviation of the vectors of entities and relations at the start, as of the inputs
_CELLS = 16_000_000  # float32 numbers of a block of scores, 64 MB


class KGCNSettings(Settings):
    """Settings of KGCN's encoder."""

    relations: list[str] | None = None
    """Names of the relations of the knowledge graph to use; None: all between items and entities."""
    num_neighbours: int = Field(default=8, ge=1)
    """K, neighbours sampled for each node, once; the paper's best are 4 to 8."""
    num_hops: int = Field(default=1, ge=1, le=4)
    """H, depth of the receptive field; the paper's best are 1 and 2."""
    aggregator: Aggregator = "sum"
    """How a node's own vector and its neighbourhood become one; the paper's best is the sum."""


class ReceptiveField(nn.Module):
    """Scores s(u, i) = <u, v_i^u> over sampled neighbourhoods, for pairs and for all items.

    a_ur = <u, r>; n_v^u = sum over the K sampled neighbours t of v under r of softmax_K(a_ur) h_t; h_v' = f(W (h_v + n_v) + b) for
    "sum", f(W [h_v ; n_v] + b) for "concat", f(W n_v + b) for "neighbour", H times, f = ReLU and at last tanh.

    Args:
        near, kind: int64 (N, K), neighbours and relations of every node, items first; a node without any is its own neighbour.
        num_relations: R.
        dim, num_hops, aggregator: D and as in `KGCNSettings`.
        generator: source of the random start.
    """

    def __init__(
        self,
        near: Tensor,
        kind: Tensor,
        num_relations: int,
        dim: int,
        num_hops: int,
        aggregator: Aggregator,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.aggregator = aggregator
        self.register_buffer("near", near)
        self.register_buffer("kind", kind)
        self.relation_vectors = nn.Parameter(torch.randn(num_relations, dim, generator=generator) * _OWN_SCALE)
        self.layers = nn.ModuleList()
        for _ in range(num_hops):
            layer = nn.utils.skip_init(nn.Linear, dim * (1 + (aggregator == "concat")), dim)
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)

    def pairs(self, user: Tensor, item: Tensor, x: Tensor) -> Tensor:
        """Score users (B, D) with items int64 (B, n), from the vectors of all nodes (N, D): (B, n)."""
        taste = user @ self.relation_vectors.to(user.dtype).T  # (B, R)
        row = torch.arange(len(user), device=user.device)
        nodes, shares = [item], []
        for _ in self.layers:
            at = nodes[-1]
            where = row.view(-1, *[1] * at.dim()).expand(*at.shape, self.near.shape[1])
            shares.append(torch.softmax(taste[where, self.kind[at]], -1))
            nodes.append(self.near[at])
        h = [nn.functional.embedding(at, x) for at in nodes]  # (B, n, K, ..., D)
        for depth, layer in enumerate(self.layers):
            last = depth + 1 == len(self.layers)
            h = [
                self._mixed(layer, own, (share.unsqueeze(-1) * around).sum(-2), last)
                for own, around, share in zip(h, h[1:], shares, strict=False)
            ]
        return (h[0] * user.unsqueeze(1)).sum(-1)

    def matrix(self, user: Tensor, x: Tensor, num_items: int) -> Tensor:
        """Score users (B, D) with all items: (B, I), in blocks of bounded memory.

        W is applied to the nodes' vectors before they are mixed, which is the same and does it once for all users in the first hop.
        """
        nodes = num_items if len(self.layers) == 1 else len(x)
        step = max(1, _CELLS // (nodes * max(x.shape[1], self.near.shape[1])))
        return torch.cat([self._block(part, x, num_items) for part in user.split(step)] or [user.new_empty(0, num_items)])

    def _block(self, user: Tensor, x: Tensor, num_items: int) -> Tensor:
        taste = user @ self.relation_vectors.T
        h = x[:, None]  # (N, 1, D): the same for all users before the first hop
        for depth, layer in enumerate(self.layers):
            last = depth + 1 == len(self.layers)
            near, kind = (part[:num_items] if last else part for part in (self.near, self.kind))
            own, around = self._sides(layer, h)
            share = torch.softmax(taste[:, kind], -1).permute(1, 0, 2)  # (N, B, K)
            if depth == 0:
                y = torch.baddbmm(own[: len(near)] + layer.bias, share, around[:, 0][near])  # (N, B, K) x (N, K, D)
            else:
                y = own[: len(near)] + layer.bias
                for k in range(near.shape[1]):
                    y.addcmul_(share[:, :, k, None], around[near[:, k]])
            h = torch.tanh(y) if last else torch.relu(y)
        return torch.einsum("nbd,bd->bn", h, user)

    def _mixed(self, layer: nn.Linear, own: Tensor, around: Tensor, last: bool) -> Tensor:
        parts = {"sum": own + around, "neighbour": around}
        y = layer(torch.cat([own, around], -1) if self.aggregator == "concat" else parts[self.aggregator])
        return torch.tanh(y) if last else torch.relu(y)

    def _sides(self, layer: nn.Linear, h: Tensor) -> tuple[Tensor, Tensor]:
        """What a node's own vector and its neighbours' contribute to W's product."""
        if self.aggregator == "concat":
            left, right = layer.weight.chunk(2, dim=1)
            return h @ left.T, h @ right.T
        y = h @ layer.weight.T
        return (y if self.aggregator == "sum" else torch.zeros_like(y)), y


class KGCNEncoder(Encoder):
    """Gives users' and items' vectors as they are, and keeps what `ReceptiveField` scores them with.

    Both directions of a relation share its vector. Entities have vectors of the encoder's own. A node with fewer than K neighbours
    has some of them more than once, as in the paper.

    Source: Wang et al. 2019, "Knowledge Graph Convolutional Networks for Recommender Systems" (KGCN), arXiv:1904.12575, eq. 1-6. A node
    without triples is its own neighbour here; the paper has none.
    """

    Settings = KGCNSettings

    def build(self, generator: torch.Generator | None) -> None:
        """Nothing has been encoded yet."""
        self.tables: tuple[Tensor, Tensor] | None = None

    def optional(self, relations: Relations) -> list[str]:
        """The relations of the knowledge graph, unless that is one."""
        names = relations.knowledge(self.settings.relations, "model kgcn")
        return names if len(names) > 1 else []

    def prepare(self, relations: Relations, generator: torch.Generator) -> None:
        """Sample the neighbours, and make the parameters.

        Raises:
            ConfigError: the store has no triples, or not of a relation that the settings name.
        """
        own = self.settings
        found = knowledge_edges(relations, own.relations, "model kgcn")
        names = list(dict.fromkeys(etype[1] for etype in found))
        num_items, num_entities = relations.num_nodes["item"], relations.num_nodes.get("entity", 0)
        heads, tails = (np.concatenate([ends[side] for ends in found.values()]) for side in (0, 1))
        kinds = np.concatenate([np.full(len(ends[0]), names.index(etype[1])) for etype, ends in found.items()])
        ends = np.append(heads, tails), np.append(tails, heads)
        near, kind = sample_neighbours(*ends, np.append(kinds, kinds), num_items + num_entities, own.num_neighbours, generator)
        self.entity = nn.Parameter(torch.randn(num_entities, self.dim, generator=generator) * _OWN_SCALE)
        self.field = ReceptiveField(near, kind, len(names), self.dim, own.num_hops, own.aggregator, generator)

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The rows asked for as they are; the whole tables are kept in `tables` for `nodes`."""
        self.tables = user_x, item_x
        return at_rows(user_x, users), at_rows(item_x, items)

    def nodes(self) -> Tensor:
        """The vectors of all nodes after the last pass, items first: (N, D)."""
        return torch.cat([self.tables[1], self.entity.to(self.tables[1].dtype)])


def sample_neighbours(
    head: np.ndarray, tail: np.ndarray, kind: np.ndarray, num_nodes: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw `count` edges of every node: without repetition where there are as many, else all of them, repeated in turn.

    Args:
        head, tail, kind: int64 (E,), every edge in both directions.
        num_nodes: N.
        count: K.
        generator: source of the draws.

    Returns:
        Tails and kinds, int64 (N, K); a node without edges has itself, with kind 0.
    """
    order = np.lexsort((torch.rand(len(head), generator=generator).numpy(), head))
    degree = np.bincount(head, minlength=num_nodes)
    start = np.cumsum(degree) - degree
    place = start[:, None] + np.arange(count) % np.maximum(degree, 1)[:, None]  # (N, K)
    alone = np.repeat((degree == 0)[:, None], count, axis=1)
    edge = order[np.where(alone, 0, place)]
    near = np.where(alone, np.arange(num_nodes)[:, None], tail[edge])
    return torch.from_numpy(near), torch.from_numpy(np.where(alone, 0, kind[edge]))
