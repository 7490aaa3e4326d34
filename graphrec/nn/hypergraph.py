"""MHCN: convolution over motif-induced hypergraphs of users, one channel each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows, sides_of
from graphrec.nn.motifs import CHANNELS, averaging, motif_channels, to_scipy
from graphrec.nn.relations import RecencySettings, Relations
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype


class HypergraphSettings(RecencySettings):
    """Settings of the `mhcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 3}}

    num_layers: int = Field(2, ge=1, le=16)
    """L, hops within each channel; 2 is the paper's choice."""
    social: str = "follows"
    """Name of the relation between users."""


class HypergraphEncoder(Encoder):
    """Users in three hypergraph channels and the plain user-item graph, mixed by attention.

    Channels c: h_c^0 = x_u * sigmoid(x_u W_c + b_c), h_c^{l+1} = H_c h_c^l with H_c row-normalised, and the plain one
    h_r^{l+1} = D_u^-1/2 R D_i^-1/2 i^l. At every layer the channels mix by attention, m = sum_c a_c h_c with
    a = softmax_c(q . h_c W), and items gather i^{l+1} = D_i^-1/2 R^T D_u^-1/2 (m + h_r / 2). Layers after the first are brought to
    unit rows and summed, and e_u = sum_c a_c h_c + h_r / 2 of those sums. With `half_life_days` R is weighed by age in the hops
    between users and items; motifs are counted, whatever their edges weigh.

    Args:
        settings: see `HypergraphSettings`.
        dim: D of the inputs, and of what comes out.
        generator: source of the random start.

    Source: Yu et al. 2021, MHCN, arXiv:2101.06448, eq. 2-6, and its public code for the unit rows and the sums.
    """

    Settings = HypergraphSettings
    reads_weights = True
    reads_link_weights = False

    def build(self, generator: torch.Generator | None) -> None:
        """Make the channels' gates and their attention."""
        self.gates = nn.ModuleDict({name: _Gate(self.dim, generator) for name in (*CHANNELS, "plain")})
        self.views = nn.ModuleDict({name: _Gate(self.dim, generator) for name in CHANNELS})
        self.attention = nn.Parameter(_glorot(self.dim, self.dim, generator))
        self.query = nn.Parameter(_glorot(self.dim, 1, generator)[:, 0])

    def optional(self, relations: Relations) -> list[str]:
        """The links between users."""
        return [] if self.settings.social in relations.dropped else [self.settings.social]

    def prepare(self, relations: Relations, generator: torch.Generator) -> None:
        """Count the motifs of links and interactions of the target behaviour.

        Raises:
            ConfigError: the store has no links between users.
        """
        social = relations.social(self.settings.social, "encoder mhcn")
        target = relations.edges[relations.target]
        matrices = motif_channels(to_scipy(social), to_scipy(target))
        made = {name: averaging(matrix) for name, matrix in matrices.items()}
        self._channels = {
            name: (relation.to(social.device), weight.to(social.device)) for name, (relation, weight) in made.items()
        }

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Convolve; arguments and result as of `HeteroEncoder.forward`."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        parts, plain, item = self._convolved(relation, user_x, item_x)
        if users is not None:
            parts, plain = parts[:, users], plain[users]
        mixed, _ = self._mix(parts)
        return mixed + plain / 2, at_rows(item, items)

    def channel_views(self, user_x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each channel, users as they stand, (U, D), and what their hyperedges hold, (U, D), for the auxiliary loss."""
        gated = {name: gate(user_x) for name, gate in self.views.items()}
        return [(own, self._hop(name, own)) for name, own in gated.items()]

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """Mean attention of users to each channel."""
        parts, _, _ = self._convolved(relation, user_x, item_x)
        shares = self._mix(parts)[1].mean(1)
        return {f"{name} channel to user": float(share) for name, share in zip(CHANNELS, shares, strict=True)}

    def _convolved(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over layers: channels (3, U, D), plain users (U, D) and items (I, D)."""
        scale = relation.scale_dst(-0.5, scale_dtype(user_x)), relation.scale_src(-0.5, scale_dtype(user_x))
        transpose = relation.transpose()
        h = [self.gates[name](user_x) for name in CHANNELS]
        plain, item = self.gates["plain"](user_x), item_x
        sums = [*h, plain, item]
        for _ in range(self.settings.num_layers):
            mixed = self._mix(torch.stack(h))[0] + plain / 2
            h = [self._hop(name, one) for name, one in zip(CHANNELS, h, strict=True)]
            plain, item = spmm(relation, item, *scale), spmm(transpose, mixed, *reversed(scale))
            sums = [total + normalize(one, dim=1) for total, one in zip(sums, [*h, plain, item], strict=True)]
        return torch.stack(sums[:3]), sums[3], sums[4]

    def _hop(self, name: str, x: Tensor) -> Tensor:
        relation, weight = self._channels[name]
        return spmm(relation, x, edge_weight=weight.to(scale_dtype(x)))

    def _mix(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Attention over channels (C, U, D): the mix (U, D) and the shares (C, U)."""
        shares = torch.softmax((parts @ self.attention.to(parts.dtype)) @ self.query.to(parts.dtype), dim=0)
        return (shares.unsqueeze(-1) * parts).sum(0), shares


class _Gate(nn.Module):
    """x * sigmoid(x W + b)."""

    def __init__(self, dim: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(_glorot(dim, dim, generator)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x @ self.weight.to(x.dtype) + self.bias.to(x.dtype))


def _glorot(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(rows, columns), generator=generator)
