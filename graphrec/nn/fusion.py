"""One encoder per relation, and what makes one vector of theirs: sum, mean, gate or semantic attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.graph.heterograph import EdgeType
from graphrec.nn import ENCODERS
from graphrec.nn.component import as_table, parse_component
from graphrec.nn.hetero import ChosenRelations, HeteroEncoder
from graphrec.nn.relations import Message
from graphrec.ops import Relation

Method = Literal["sum", "mean", "gate", "attention"]


class FusedSettings(ChosenRelations):
    """Settings of the `fused` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"fusion": ["sum", "mean", "gate", "attention"]}

    encoder: dict[str, Any] = Field(default={"name": "lightgcn"})
    """What runs on each relation, with its own parameters: an encoder of one relation, by name or as a table."""
    fusion: Method = "attention"
    """How the relations' vectors become one."""
    attention_dim: int = Field(128, ge=1)
    """Length of the semantic attention's query; 128 is HAN's choice."""

    @field_validator("encoder", mode="before")
    @classmethod
    def _as_table(cls, value: Any) -> Any:
        return as_table(value, "lightgcn")


class Fusion(nn.Module):
    """Makes one vector of a node's R: y = sum_r b_r z_r.

    "sum": b = 1. "mean": b = 1 / R. "gate": b_ur = softmax_r(z_ur . g_r + c_r), for each node. "attention": b_r = softmax_r of the
    mean over nodes of q . tanh(W z_ur + d), the same for all nodes of a type.

    Args:
        method: which.
        count: R.
        dim: D.
        attention_dim: length of q.
        generator: source of the random start.

    Source: Wang et al. 2019, "Heterogeneous Graph Attention Network" (HAN), arXiv:1903.07293, eq. 7-9, for "attention".
    """

    def __init__(
        self, method: Method, count: int, dim: int, attention_dim: int = 128, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.method = method
        if method == "gate":
            self.gate, self.offset = nn.Parameter(torch.zeros(count, dim)), nn.Parameter(torch.zeros(count))
        elif method == "attention":
            self.project = nn.Parameter(nn.init.xavier_uniform_(torch.empty(dim, attention_dim), generator=generator))
            self.offset = nn.Parameter(torch.zeros(attention_dim))
            self.query = nn.Parameter(nn.init.xavier_uniform_(torch.empty(attention_dim, 1), generator=generator)[:, 0])

    def forward(self, z: Tensor) -> Tensor:
        """(n, R, D) to (n, D)."""
        return (self.weights(z).unsqueeze(-1) * z).sum(1)

    def weights(self, z: Tensor) -> Tensor:
        """b: (n, R), or (1, R) where all nodes share it."""
        count = z.shape[1]
        if self.method in ("sum", "mean"):
            return z.new_full((1, count), 1.0 if self.method == "sum" else 1.0 / count)
        if self.method == "gate":
            return torch.softmax((z * self.gate.to(z.dtype)).sum(-1) + self.offset.to(z.dtype), dim=1)
        hidden = torch.tanh(z @ self.project.to(z.dtype) + self.offset.to(z.dtype))
        return torch.softmax((hidden @ self.query.to(z.dtype)).mean(0, keepdim=True), dim=1)


class FusedEncoder(HeteroEncoder):
    """Any encoder of one relation, run on each relation for itself and fused for each node type.

    A relation within one node type is walked as a bipartite graph of sources and targets that start from the same vectors; the
    node's vector is the mean of its two. How many hops there are is a setting of the inner encoder; it knows no edge weights.

    Source: Wang et al. 2019, HAN, arXiv:1903.07293, whose node-level attention any encoder may replace here.
    """

    Settings = FusedSettings
    reads_link_weights = False
    name = "fused"

    def make(self, generator: torch.Generator) -> None:
        """Make an encoder for each relation and a fusion for each node type.

        Raises:
            ConfigError: the inner encoder is unknown, or reads all relations itself.
        """
        part, inner = parse_component("encoder", ENCODERS, self.settings.encoder, "encoder fused: encoder")
        if hasattr(part, "prepare") or hasattr(part, "read"):
            raise ConfigError(
                f"encoder fused: the inner encoder must read one relation, and {self.settings.encoder['name']!r} reads more; "
                "choose one such as lightgcn"
            )
        etypes = list(self._by_etype(self.messages))
        self.inner = nn.ModuleList([part(inner, self.dim, generator) for _ in etypes])
        if len({one.out_dim for one in self.inner}) > 1 or self.inner[0].out_dim != self.dim:
            raise ConfigError(
                f"encoder fused: vectors of all relations must have D = {self.dim} numbers, and the inner encoder "
                f"{self.settings.encoder['name']!r} gives {self.inner[0].out_dim}"
            )
        counts = {n: sum(n in (left, right) for left, _, right in etypes) for n in ("user", "item", *self.nodes)}
        self.fusions = nn.ModuleDict(
            {
                ntype: Fusion(self.settings.fusion, count, self.dim, self.settings.attention_dim, generator)
                for ntype, count in counts.items()
                if count
            }
        )

    def encode(self, x: dict[str, Tensor], messages: list[Message]) -> dict[str, Tensor]:
        """Run every relation and fuse; a type that no relation reaches stays as it is."""
        stacked = self._stacked(x, messages)[0]
        return {**x, **{ntype: self.fusions[ntype](z) for ntype, z in stacked.items()}}

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """The mean weight of each relation in the fusion of each node type, summed where it joins several pairs of types."""
        stacked, names = self._stacked(self._inputs(user_x, item_x), self.messages_with(relation))
        found: dict[str, float] = {}
        for ntype, z in stacked.items():
            weights = self.fusions[ntype].weights(z).mean(0)
            share = weights / weights.sum()
            for name, one in zip(names[ntype], share.tolist(), strict=True):
                key = f"{name} to {ntype}"
                found[key] = found.get(key, 0.0) + one
        return found

    def _stacked(
        self, x: dict[str, Tensor], messages: list[Message]
    ) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
        """For each node type, the vectors (n, R, D) and the names of the relations they come from."""
        parts: dict[str, list[Tensor]] = {}
        names: dict[str, list[str]] = {}
        for (etype, relation), encoder in zip(self._by_etype(messages).items(), self.inner, strict=True):
            left, name, right = etype
            y_left, y_right = encoder(relation, x[left], x[right])
            ends = [(left, (y_left + y_right) / 2)] if left == right else [(left, y_left), (right, y_right)]
            for ntype, y in ends:
                parts.setdefault(ntype, []).append(y)
                names.setdefault(ntype, []).append(name)
        return {ntype: torch.stack(each, 1) for ntype, each in parts.items()}, names

    @staticmethod
    def _by_etype(messages: list[Message]) -> Mapping[EdgeType, Relation]:
        """Each edge type once, rows being its source type."""
        found: dict[EdgeType, Relation] = {}
        for message in messages:
            found.setdefault(message.etype, message.relation)
        return found
