"""KGAT: attention over the interactions and the triples of a knowledge graph, as one graph."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu, normalize

from graphrec.nn.hetero import ChosenRelations, HeteroEncoder, shares
from graphrec.nn.relations import Message, RecencySettings, Relations
from graphrec.ops import Relation, sddmm, spmm
from graphrec.ops.spmm import scale_dtype


class KGATSettings(ChosenRelations, RecencySettings):
    """Settings of the `kgat` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"dropout": [0.0, 0.1, 0.3, 0.5]}

    layer_sizes: list[Annotated[int, Field(ge=1)]] = Field(default=[64, 32, 16], min_length=1)
    """Columns that each layer gives; 64, 32, 16 are the paper's. What comes out has D and all of these side by side."""
    relation_dim: int = Field(default=64, ge=1)
    """k, columns of the space in which a relation compares head and tail; 64 is the paper's choice."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a layer's values left out in training; 0.1 is the paper's choice."""


class KGATEncoder(HeteroEncoder):
    """Every node gathers from its neighbours under all relations, users included, by attention that the relation decides.

    a(h, r, t) = (W_r e_t) . tanh(W_r e_h + e_r), softmax over all edges of h; n_h = sum of a e_t;
    e_h' = leaky_relu((e_h + n_h) W_1) + leaky_relu((e_h * n_h) W_2), its rows at unit length side by side with e_h.

    Attention is taken once from the first embeddings, serves all layers, and is a constant to the ranking loss: W_r and
    e_r learn from the auxiliary loss `transr`. Both directions of a relation are relations of their own. `relations` names
    those of the knowledge graph; the target behaviour always belongs to it. Entities have embeddings of the encoder's own.
    With `half_life_days` the exponential of a(h, r, t) is multiplied by the edge's weight before the softmax divides by the sum.

    Source: Wang et al. 2019, "KGAT: Knowledge Graph Attention Network for Recommendation", arXiv:1905.07854, eq. 3-5 and 8-9.
    There the attention is renewed once in an epoch, here in every step; in both it gets no gradient of the ranking loss.
    """

    Settings = KGATSettings
    name = "kgat"

    def chosen(self, relations: Relations) -> list[str]:
        """The target behaviour and the knowledge graph's relations, all or those that the settings name."""
        return ["target", *relations.knowledge(self.settings.relations, "encoder kgat", bare=True)]

    def optional(self, relations: Relations) -> list[str]:
        """The relations of the knowledge graph; without any it attends to the interactions."""
        return relations.knowledge(self.settings.relations, "encoder kgat", bare=True)

    def make(self, generator: torch.Generator) -> None:
        """Join all edges in one graph, and make the matrices."""
        own, widths = self.settings, [self.dim, *self.settings.layer_sizes]
        self.out_dim = sum(widths)
        self.projections = _glorot(generator, len(self.messages), self.dim, own.relation_dim)
        self.relation_vectors = _glorot(generator, len(self.messages), own.relation_dim)
        pairs = list(itertools.pairwise(widths))
        self.sums = nn.ParameterList([_glorot(generator, *pair) for pair in pairs])
        self.products = nn.ParameterList([_glorot(generator, *pair) for pair in pairs])
        self._join()

    def _join(self) -> None:
        """One graph over all nodes, and the graph between (relation, head) and (relation, tail) pairs that is scored."""
        first = self.messages[0]
        sizes = {"user": 0, "item": 0, **{ntype: len(rows) for ntype, rows in self.nodes.items()}}
        sizes |= {m.target: m.relation.num_dst for m in self.messages} | {m.source: m.relation.num_src for m in self.messages}
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        total = sum(sizes.values())
        heads, tails, kinds, wanted, ages = [], [], [], [], []
        for number, message in enumerate(self.messages):
            rows, columns = message.relation.rows.cpu().numpy(), message.relation.indices.cpu().numpy().astype(np.int64)
            heads.append(rows + starts[message.target])
            tails.append(columns + starts[message.source])
            kinds.append(np.full(len(rows), number))
            ages.append(np.zeros(len(rows)) if message.weight is None else message.weight.double().log().cpu().numpy())
            wanted.append(_target_keys(message, rows, columns) if message.etype == self._target else np.full(len(rows), -1))
        head, tail, kind, key, age = (np.concatenate(parts) for parts in (heads, tails, kinds, wanted, ages))
        head_pairs, head_place = np.unique(kind * total + head, return_inverse=True)
        tail_pairs, tail_place = np.unique(kind * total + tail, return_inverse=True)
        order = np.argsort(head_place * len(tail_pairs) + tail_place)  # the order in which the scored graph has its edges
        head, tail, kind, key, age = (part[order] for part in (head, tail, kind, key, age))
        _, place = np.unique(head * total + tail, return_inverse=True)  # a pair may be joined by several relations
        device = first.relation.device
        self._starts, self._sizes = starts, sizes
        self._graph = Relation.from_coo(head, tail, total, total).to(device)
        self._scored = Relation.from_coo(head_place, tail_place, len(head_pairs), len(tail_pairs)).to(device)
        parts = {"head": head, "tail": tail, "kind": kind, "key": key, "place": place, "age": age}
        self._edges = {name: torch.from_numpy(part).to(device) for name, part in parts.items()}
        self._pairs = [
            [torch.from_numpy(nodes).to(device) for nodes in _by_relation(pairs, total, len(self.messages))]
            for pairs in (head_pairs, tail_pairs)
        ]

    def encode(self, x: dict[str, Tensor], messages: list[Message]) -> dict[str, Tensor]:
        """Run the layers, and put them side by side."""
        h = torch.cat([x[ntype] for ntype in self._sizes])
        weight = self._summed(self.attention(h, _target_of(messages, self._target))).to(scale_dtype(h))
        layers = [h]
        for by_sum, by_product in zip(self.sums, self.products, strict=True):
            gathered = spmm(self._graph, h, edge_weight=weight)
            h = leaky_relu((h + gathered) @ by_sum.to(h.dtype)) + leaky_relu((h * gathered) @ by_product.to(h.dtype))
            h = dropout(h, self.settings.dropout, self.training)
            layers.append(normalize(h, dim=1))
        return dict(zip(self._sizes, torch.cat(layers, 1).split(list(self._sizes.values())), strict=True))

    @torch.no_grad()
    def attention(self, x: Tensor, relation: Relation) -> Tensor:
        """The weight of every edge among those of its head, in the order of `_edges`.

        Args:
            x: (N, D), nodes of all types.
            relation: the edges of the target behaviour that are there; others of it weigh nothing.

        Returns:
            (E,), which sums to one over the edges of each node that has any.
        """
        x = x.to(scale_dtype(x))
        heads, tails = (
            torch.cat([x[nodes] @ matrix.to(x.dtype) for nodes, matrix in zip(part, self.projections, strict=True)])
            for part in self._pairs
        )
        counts = torch.tensor([len(nodes) for nodes in self._pairs[0]], device=x.device)
        heads = torch.tanh(heads + self.relation_vectors.to(x.dtype).repeat_interleave(counts, 0))
        score, head, key = sddmm(self._scored, heads, tails), self._edges["head"], self._edges["key"]
        alive = key < 0
        if relation.num_edges == int((~alive).sum()) // 2:  # each edge stands there in both directions
            alive = torch.ones_like(alive)
        else:
            alive |= torch.isin(key, relation.rows * relation.num_src + relation.indices)
        score = (score + self._edges["age"].to(score.dtype)).masked_fill(~alive, -torch.inf)
        largest = score.new_full((len(x),), torch.finfo(score.dtype).min).scatter_reduce_(0, head, score, "amax")
        weight = torch.exp(score - largest[head])
        total = score.new_zeros(len(x)).index_add_(0, head, weight)
        return weight / total[head].clamp(min=torch.finfo(score.dtype).tiny)

    def triples(self, user_x: Tensor, item_x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Distances |W_r e_h + e_r - W_r e_t|^2 of random edges, and with another tail of the same type in the place of t.

        Args:
            user_x, item_x: (U, D) and (I, D), the inputs.
            count: n, edges drawn with torch's own generator.

        Returns:
            (n,) and (n,); differentiable in the inputs and the encoder's parameters.

        Source: Lin et al. 2015, TransR, as in KGAT, eq. 1.
        """
        inputs = self._inputs(user_x, item_x)
        x, edges = torch.cat([inputs[ntype] for ntype in self._sizes]), self._edges
        drawn = torch.randint(len(edges["head"]), (count,)).to(x.device)
        place = torch.rand(count, dtype=torch.float64).to(x.device)  # of the other tail among its type
        kind, order = edges["kind"][drawn].sort(stable=True)
        drawn, place = drawn[order], place[order]
        starts = torch.tensor([self._starts[m.source] for m in self.messages], device=x.device)[kind]
        sizes = torch.tensor([self._sizes[m.source] for m in self.messages], device=x.device)[kind]
        other = starts + (place * sizes).long()
        nodes = torch.stack([edges["head"][drawn], edges["tail"][drawn], other], 1)
        ends = x.index_select(0, nodes.flatten()).view(count, 3, -1)  # (n, 3, D)
        # A product per relation: a matrix for every drawn edge, as indexing by `kind` gives, is n D k numbers to move.
        counts = torch.bincount(kind, minlength=len(self.messages)).tolist()
        parts = zip(ends.split(counts), self.projections.to(x.dtype), strict=True)
        ends = torch.cat([part @ matrix for part, matrix in parts])  # (n, 3, k)
        head = ends[:, 0] + self.relation_vectors.to(x.dtype).index_select(0, kind)
        return (head - ends[:, 1]).square().sum(1), (head - ends[:, 2]).square().sum(1)

    @torch.no_grad()
    def by_entities(
        self, relation: Relation, user_x: Tensor, item_x: Tensor, links: list[tuple[int, Tensor, Tensor]], count: int
    ) -> Tensor:
        """What their entities say of items whose own vectors are left out: the mean of these by attention.

        b_i = sum over the triples of softmax((W_r e_t) . tanh(e_r)) times the encoded vector of t: attention with e_h = 0.

        Args:
            relation, user_x, item_x: as of `forward`.
            links: (number of the message into items, rows (n,), entities (n,)), as `entity_links` makes them.
            count: I', rows of items.

        Returns:
            (I', D), zeros for an item without links.
        """
        inputs = self._inputs(user_x, item_x)
        encoded, x = self.encode(inputs, self.messages_with(relation))["entity"], inputs["entity"]
        scores = [
            (x[entity] @ self.projections[r].to(x.dtype)) @ torch.tanh(self.relation_vectors[r].to(x.dtype))
            for r, _, entity in links
        ]
        score, row, entity = torch.cat(scores), torch.cat([one[1] for one in links]), torch.cat([one[2] for one in links])
        largest = score.new_full((count,), torch.finfo(score.dtype).min).scatter_reduce_(0, row, score, "amax")
        weight = torch.exp(score - largest[row])
        total = weight.new_zeros(count).index_add_(0, row, weight)
        share = (weight / total[row].clamp(min=torch.finfo(score.dtype).tiny))[:, None]
        return encoded.new_zeros(count, encoded.shape[1]).index_add_(0, row, share * encoded[entity])

    def entity_links(self) -> dict[tuple[str, bool], tuple[int, Tensor, Tensor]]:
        """By (relation, whether the item is the head), the message from entities to items and its ends, items and entities."""
        found = {}
        for number, message in enumerate(self.messages):
            if (message.source, message.target) == ("entity", "item"):
                ends = message.relation.rows, message.relation.indices.long()
                found[message.etype[1], message.etype[0] == "item"] = (number, *ends)
        return found

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """The share of each relation in the attention of all nodes of a type."""
        inputs = self._inputs(user_x, item_x)
        weight = self.attention(torch.cat([inputs[ntype] for ntype in self._sizes]), relation)
        mass = weight.new_zeros(len(self.messages)).index_add_(0, self._edges["kind"], weight)
        return shares(self.messages, mass.tolist())

    def _summed(self, weight: Tensor) -> Tensor:
        """Weights of the joined graph: those of several relations between two nodes add up."""
        return weight.new_zeros(self._graph.num_edges).index_add_(0, self._edges["place"], weight)


def _glorot(generator: torch.Generator, *shape: int) -> nn.Parameter:
    bound = (6.0 / sum(shape[-2:])) ** 0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def _target_of(messages: list[Message], target: tuple[str, str, str]) -> Relation:
    """The target behaviour with users as rows."""
    relation, ntype = next((m.relation, m.target) for m in messages if m.etype == target)
    return relation if ntype == "user" else relation.transpose()


def _target_keys(message: Message, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """User times I plus item, of the edges of the target behaviour in either direction."""
    users, items = (rows, columns) if message.target == "user" else (columns, rows)
    num_items = message.relation.num_src if message.target == "user" else message.relation.num_dst
    return users * num_items + items


def _by_relation(pairs: np.ndarray, total: int, count: int) -> list[np.ndarray]:
    """Ascending keys relation * N + node, as the nodes of each relation."""
    return np.split(pairs % total, np.searchsorted(pairs, np.arange(1, count) * total))
