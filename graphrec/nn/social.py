"""DiffNet: interests that spread along social links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows, sides_of
from graphrec.nn.relations import RecencySettings, Relations
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype


class DiffNetSettings(RecencySettings):
    """Settings of the `diffnet` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 3}, "transform": [False, True]}

    num_layers: int = Field(2, ge=1, le=16)
    """K, steps of the diffusion; 2 is the paper's choice."""
    transform: bool = False
    """Whether a step has the paper's matrix W^k; the plain average is the released code's, and overfits less."""
    social: str = "follows"
    """Name of the relation between users."""


class DiffNetEncoder(Encoder):
    """A user is what diffusion over the trusted users makes of the free vector, plus the mean of the items taken.

    h_u^{k+1} = W^k [mean of h_v^k over the users v that u trusts ; h_u^k],  e_u = h_u^K + mean of x_i over the items i of u,
    e_i = x_i. Without `transform` W^k is [I/2 ; I/2], the average of both. Where links have different weights, and items by age,
    means are weighted by them.

    Args:
        settings: see `DiffNetSettings`.
        dim: D of the inputs, and of what comes out.
        generator: not used: W^k starts at the average too.

    Source: Wu et al. 2019, "A Neural Influence Diffusion Model for Social Recommendation", arXiv:1904.10322, eq. 5-8. Linear,
    as its released code is: no activation between the steps, and no features beside the free vectors.
    """

    Settings = DiffNetSettings
    reads_weights = True

    def build(self, generator: torch.Generator | None) -> None:
        """Make the matrices of the steps, if they have any."""
        steps = self.settings.num_layers if self.settings.transform else 0
        half = torch.eye(self.dim) / 2
        self.mix = nn.ParameterList([nn.Parameter(torch.cat([half, half])) for _ in range(steps)])  # (2 D, D) each

    def optional(self, relations: Relations) -> list[str]:
        """The links between users."""
        return [] if self.settings.social in relations.dropped else [self.settings.social]

    def prepare(self, relations: Relations, generator: torch.Generator) -> None:
        """Take the links between users; a user's row gathers from those that the user points to.

        Raises:
            ConfigError: the store has no such links.
        """
        self._social = relations.social(self.settings.social, "encoder diffnet")
        self._names = self.settings.social, relations.target[1]

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Diffuse; arguments and result as of `HeteroEncoder.forward`."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        taken = spmm(relation, item_x, relation.scale_dst(-1.0, scale_dtype(item_x)), rows=users)
        return at_rows(self._diffused(user_x), users) + taken, at_rows(item_x, items)

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """The share of each part in the length of the users' vectors: what came along the links, and the items' mean."""
        taken = spmm(relation, item_x, relation.scale_dst(-1.0, scale_dtype(item_x)))
        lengths = [float(part.square().mean().sqrt()) for part in (self._diffused(user_x), taken)]
        return {f"{name} to user": value / (sum(lengths) or 1.0) for name, value in zip(self._names, lengths, strict=True)}

    def _diffused(self, h: Tensor) -> Tensor:
        share = self._social.scale_dst(-1.0, scale_dtype(h))
        for step in range(self.settings.num_layers):
            if self.settings.transform:
                h = torch.cat([spmm(self._social, h, share), h], dim=1) @ self.mix[step].to(h.dtype)
            else:
                h = spmm(self._social, h, share, alpha=0.5, z=h, beta=0.5)
        return h
