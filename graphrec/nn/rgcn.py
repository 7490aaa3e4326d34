"""R-GCN: a matrix for each relation, made of few shared or small ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.nn.hetero import HeteroEncoder, HeteroSettings, propagate, shares
from graphrec.nn.relations import Message
from graphrec.ops import Relation
from graphrec.ops.spmm import scale_dtype


class RGCNSettings(HeteroSettings):
    """Settings of the `rgcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 4}, "num_bases": [2, 4, 8]}

    decomposition: Literal["basis", "block", "none"] = "basis"
    """How the matrices of relations are made: of `num_bases` shared ones, of `num_bases` blocks on the diagonal, or free."""
    num_bases: int = Field(4, ge=1)
    """B; it must divide D for "block"."""


class RelationalConv(nn.Module):
    """One R-GCN layer: y_u = sum_r mean of x_v W_r over the neighbours v of u under r, + x_u W_0 + b.

    "basis": W_r = sum_b a_rb V_b, and the sum over r runs before the product with V_b, so that B products are made and not R;
    "block": W_r = diag(Q_r1, ..., Q_rB).

    Args:
        num_relations: R, messages in all.
        dim: D, in and out.
        decomposition, num_bases: as in `RGCNSettings`.
        generator: source of the random start (Glorot).

    Source: Schlichtkrull et al. 2017, arXiv:1703.06103, eq. 2-4, with c_ur the number of neighbours under r.
    """

    def __init__(
        self, num_relations: int, dim: int, decomposition: str, num_bases: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.decomposition = decomposition
        block = dim // num_bases
        shape = {
            "basis": (num_bases, dim, dim),
            "block": (num_relations, num_bases, block, block),
            "none": (num_relations, dim, dim),
        }[decomposition]
        bound = (3.0 / shape[-1]) ** 0.5  # Glorot's uniform bound of a square matrix
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
        if decomposition == "basis":
            coefficient = torch.randn(num_relations, num_bases, generator=generator) / num_bases**0.5
            self.coefficient = nn.Parameter(coefficient)
        self.loop = nn.Parameter(nn.init.xavier_uniform_(torch.empty(dim, dim), generator=generator))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, messages: list[Message], x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convolve all node types: (n, D) to (n, D); types without messages keep the self-loop alone."""
        dtype = x["user"].dtype
        loop, bias = self.loop.to(dtype), self.bias.to(dtype)
        y = {ntype: rows @ loop + bias for ntype, rows in x.items()}
        for target, (index, z) in self.means(messages, x).items():
            y[target] = y[target] + self._product(z, index)
        return y

    def means(self, messages: list[Message], x: dict[str, Tensor]) -> dict[str, tuple[list[int], Tensor]]:
        """For each target type, which messages reach it and the means (n, R_t, D) that they bring."""
        left = [message.mean_scale(scale_dtype(x["user"])) for message in messages]
        stacked = propagate(messages, x, left, combine="stack")
        return {t: ([r for r, m in enumerate(messages) if m.target == t], z) for t, z in stacked.items()}

    def lengths(self, messages: list[Message], x: dict[str, Tensor]) -> list[float]:
        """Root mean square of what each message adds."""
        found = [0.0] * len(messages)
        for index, z in self.means(messages, x).values():
            for place, r in enumerate(index):
                found[r] = float(self._product(z[:, place : place + 1], [r]).square().mean().sqrt())
        return found

    def _product(self, z: Tensor, index: list[int]) -> Tensor:
        """sum_r z_r W_r: (n, R_t, D) to (n, D)."""
        weight = self.weight.to(z.dtype)
        if self.decomposition == "basis":
            mixed = torch.einsum("urd,rb->bud", z, self.coefficient[index].to(z.dtype))
            return torch.bmm(mixed, weight).sum(0)
        if self.decomposition == "none":
            return torch.einsum("urd,rde->ue", z, weight[index])
        parts = z.unflatten(2, (weight.shape[1], weight.shape[2]))  # (n, R_t, B, D / B)
        return torch.einsum("urbi,rbij->ubj", parts, weight[index]).flatten(1)


class RGCNEncoder(HeteroEncoder):
    """L relational convolutions with ReLU between them, the last one linear.

    Source: Schlichtkrull et al. 2017, arXiv:1703.06103. Both directions of a relation are relations of their own.
    """

    Settings = RGCNSettings
    name = "rgcn"

    def make(self, generator: torch.Generator) -> None:
        """Make the layers.

        Raises:
            ConfigError: the blocks do not divide the dimension.
        """
        own = self.settings
        if own.decomposition == "block" and self.dim % own.num_bases:
            raise ConfigError(
                f"encoder rgcn: num_bases must divide embedding_dim = {self.dim} for blocks, got {own.num_bases}; choose a "
                'divisor, or decomposition = "basis"'
            )
        arguments = len(self.messages), self.dim, own.decomposition, own.num_bases, generator
        self.layers = nn.ModuleList([RelationalConv(*arguments) for _ in range(own.num_layers)])

    def encode(self, x: dict[str, Tensor], messages: list[Message]) -> dict[str, Tensor]:
        """Run the layers."""
        for number, layer in enumerate(self.layers):
            x = layer(messages, x)
            if number + 1 < len(self.layers):
                x = {ntype: torch.relu(rows) for ntype, rows in x.items()}
        return x

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """Each relation's share, among those into a node type, of the lengths that the first layer adds."""
        messages = self.messages_with(relation)
        return shares(messages, self.layers[0].lengths(messages, self._inputs(user_x, item_x)))
