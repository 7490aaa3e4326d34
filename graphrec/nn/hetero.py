"""Encoders over every edge type of the graph: what they share, and LightGCN on the joined graph.

Beside `encoder(relation, user_x, item_x, users, items)` such an encoder has `prepare(relations, generator)`, called once
before the first step with all edge types of the store, and `relation_weights(relation, user_x, item_x)`, which says how much each
relation counts. The relation handed over at every step takes the place of the target behaviour, so that losses which change
the graph (edge dropout) reach it. Node types besides users and items get embeddings that the encoder owns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows, sides_of
from graphrec.nn.relations import Message, RecencySettings, Relations
from graphrec.ops import Relation, hetero_spmm, spmm
from graphrec.ops.spmm import scale_dtype
from graphrec.settings import Settings

_OWN_SCALE = 0.1  # standard deviation of embeddings that the encoder owns, as the inputs' default


class ChosenRelations(Settings):
    """What all encoders over several relations share."""

    relations: list[str] | None = None
    """Names of the relations to use, such as "view" or "follows", and "target" for the behaviour that recommendations are
    for; None takes all that the store has."""


class HeteroSettings(ChosenRelations, RecencySettings):
    """What those share that carry vectors along all relations, hop by hop."""

    num_layers: int = Field(2, ge=1, le=16)
    """L, hops."""


class HeteroEncoder(Encoder, ABC):
    """Base of encoders over messages along both directions of the chosen edge types.

    Args:
        settings: the subclass's own.
        dim: D of the inputs.
        generator: source of the random start.
    """

    Settings: ClassVar[type[Settings]] = HeteroSettings
    name = "hetero"  # for messages

    def prepare(self, relations: Relations, generator: torch.Generator) -> None:
        """Take the graph and make the parameters that depend on it.

        Args:
            relations: of the store, on the device to train on.
            generator: source of the random start.

        Raises:
            ConfigError: a relation that the settings name is not there or has no edges.
        """
        self._target = relations.target
        half_life = self.settings.half_life_days if isinstance(self.settings, RecencySettings) else None
        self.messages = relations.messages(self.chosen(relations), f"encoder {self.name}", half_life)
        types = dict.fromkeys(ntype for message in self.messages for ntype in (message.source, message.target))
        own = {ntype: relations.num_nodes[ntype] for ntype in types if ntype not in ("user", "item")}
        self.nodes = nn.ParameterDict(
            {ntype: nn.Parameter(torch.randn(n, self.dim, generator=generator) * _OWN_SCALE) for ntype, n in own.items()}
        )
        self.make(generator)

    def chosen(self, relations: Relations) -> list[str] | None:
        """Names of the relations to read, None for all; those of the settings by default."""
        return self.settings.relations

    def optional(self, relations: Relations) -> list[str]:
        """All that it reads, the target behaviour too, unless that is one relation."""
        names = dict.fromkeys(name for _, name, _ in relations.select(self.chosen(relations), f"encoder {self.name}"))
        return list(names) if len(names) > 1 else []

    def make(self, generator: torch.Generator) -> None:
        """Make parameters that depend on `self.messages`; none by default."""

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode over all relations.

        Args:
            relation: of the target behaviour, users as rows.
            user_x, item_x: float32 or float64 (U, D) and (I, D).
            users, items: int64, the rows wanted; None for all.

        Returns:
            (u, D) and (i, D) in the order asked for.
        """
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        y = self.encode(self._inputs(user_x, item_x), self.messages_with(relation))
        return at_rows(y["user"], users), at_rows(y["item"], items)

    def messages_with(self, relation: Relation) -> list[Message]:
        """The messages, with `relation` in the place of the target behaviour."""
        found, seen = [], False
        for message in self.messages:
            if message.etype == self._target:
                walked = relation.transpose() if seen else relation
                message = replace(message, relation=walked, weight=_kept_weights(message, walked))
                seen = True
            found.append(message)
        return found

    @abstractmethod
    def encode(self, x: dict[str, Tensor], messages: list[Message]) -> dict[str, Tensor]:
        """Turn inputs by node type into encoded vectors by node type, users and items at least."""

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """Each relation's share, among those into the same node type, of what the first hop carries.

        The share is of the root mean square of the messages Y_r over all nodes of the type, as `carry` scales them.
        """
        messages = self.messages_with(relation)
        stacked = self.carry(self._inputs(user_x, item_x), messages, combine="stack")
        lengths, taken = [], dict.fromkeys(stacked, 0)
        for message in self.messages:
            lengths.append(float(stacked[message.target][:, taken[message.target]].square().mean().sqrt()))
            taken[message.target] += 1
        return shares(self.messages, lengths)

    def carry(self, x: dict[str, Tensor], messages: list[Message], combine: str = "sum") -> dict[str, Tensor]:
        """One hop: the mean of the neighbours along every message, summed or stacked by target type."""
        left = [message.mean_scale(scale_dtype(x["user"])) for message in messages]
        return propagate(messages, x, left, None, combine)

    def _inputs(self, user_x: Tensor, item_x: Tensor) -> dict[str, Tensor]:
        return {"user": user_x, "item": item_x, **{ntype: rows.to(user_x.dtype) for ntype, rows in self.nodes.items()}}


class JointSettings(HeteroSettings):
    """Settings of the `joint-lightgcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 4}}

    num_layers: int = Field(3, ge=1, le=16)
    """L, hops; 3 is the value of He et al. 2020."""
    weights: dict[str, float] = Field(default={})
    """How much an edge of a relation counts; 1 where a relation is not named."""


class JointLightGCN(HeteroEncoder):
    """LightGCN on one graph that joins the edges of all relations.

    E = 1/(L+1) sum_{l=0..L} A^l X, A = D^-1/2 (sum_r w_r A_r) D^-1/2 over the nodes of all types, D the weighted degrees over
    all relations. With links between users it is the social LightGCN of the comparisons in the literature.

    Source: He et al. 2020, LightGCN, arXiv:2002.02126, eq. 8, with other edges beside the user-item ones.
    """

    Settings = JointSettings
    name = "joint-lightgcn"

    def encode(self, x: dict[str, Tensor], messages: list[Message]) -> dict[str, Tensor]:
        """Average the layers."""
        total, h = dict(x), x
        for _ in range(self.settings.num_layers):
            h = {**{ntype: torch.zeros_like(rows) for ntype, rows in h.items()}, **self.carry(h, messages)}
            total = {ntype: total[ntype] + rows for ntype, rows in h.items()}
        return {ntype: rows / (self.settings.num_layers + 1) for ntype, rows in total.items()}

    def carry(self, x: dict[str, Tensor], messages: list[Message], combine: str = "sum") -> dict[str, Tensor]:
        """One hop with the joint normalisation."""
        weights = [self.settings.weights.get(message.etype[1], 1.0) for message in messages]
        degree: dict[str, Tensor] = {}
        for message, weight in zip(messages, weights, strict=True):
            own = message.degree(scale_dtype(x["user"])) * weight
            degree[message.target] = degree.get(message.target, 0) + own
        scale = {n: torch.where(d > 0, d.clamp(min=1e-12).rsqrt(), torch.zeros_like(d)) for n, d in degree.items()}
        left = [scale[message.target] * weight for message, weight in zip(messages, weights, strict=True)]
        return propagate(messages, x, left, [scale[message.source] for message in messages], combine)


def propagate(
    messages: Sequence[Message],
    x: dict[str, Tensor],
    left: Sequence[Tensor | None] | None = None,
    right: Sequence[Tensor | None] | None = None,
    combine: str = "sum",
) -> dict[str, Tensor]:
    """Carry features along messages; see `graphrec.ops.hetero_spmm`, which knows no edge weights: those go one by one."""
    if all(message.weight is None for message in messages):
        return hetero_spmm([(m.relation, m.source, m.target) for m in messages], x, left, right, combine=combine)
    parts: dict[str, list[Tensor]] = {}
    nothing = [None] * len(messages)
    for message, one, other in zip(messages, left or nothing, right or nothing, strict=True):
        weight = None if message.weight is None else message.weight.to(scale_dtype(x["user"]))
        y = spmm(message.relation, x[message.source], one, other, edge_weight=weight)
        parts.setdefault(message.target, []).append(y)
    return {ntype: torch.stack(ys, 1) if combine == "stack" else sum(ys) for ntype, ys in parts.items()}


def shares(messages: Sequence[Message], values: Sequence[float]) -> dict[str, float]:
    """Divide each value by the sum over the messages into the same node type; all zero gives zeros."""
    total: dict[str, float] = {}
    for message, value in zip(messages, values, strict=True):
        total[message.target] = total.get(message.target, 0.0) + value
    found: dict[str, float] = {}
    for message, value in zip(messages, values, strict=True):  # two directions within one type share a name
        share = value / total[message.target] if total[message.target] > 0 else 0.0
        found[message.name] = found.get(message.name, 0.0) + share
    return found


def _kept_weights(message: Message, relation: Relation) -> Tensor | None:
    """The weights of the edges that `relation` still has, where a loss has dropped some."""
    whole = message.relation
    if message.weight is None or relation.num_edges == whole.num_edges:
        return message.weight
    keys, kept = (one.rows * one.num_src + one.indices for one in (whole, relation))
    return message.weight[torch.searchsorted(keys, kept)]
