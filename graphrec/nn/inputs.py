"""What a trained model starts from: one learned vector per user and per item."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.settings import Settings


class IdSettings(Settings):
    """Settings of the id embeddings."""

    init: Literal["normal", "xavier", "spectral"] = "normal"
    """Where training starts. "normal": N(0, scale^2), as LightGCN's public code does; "xavier": Glorot uniform, as its
    paper says; "spectral": the directions of users and items in the top D singular
    vectors of the normalised interactions, all of length scale * sqrt(D)."""
    scale: float = Field(default=0.1, gt=0)
    """Standard deviation of "normal" and root mean square of "spectral"; 0.1 is LightGCN's public default."""


class IdEmbeddings(nn.Module):
    """Free embeddings x_u and x_i, one row per id, learned from nothing but the interactions.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        settings: where the values start.
        generator: source of the random start; the same state gives the same values.
        start: (U, D) and (I, D) float32 for `init = "spectral"`, otherwise None. They are rescaled together, so that the
            root mean square over both is `settings.scale` and scores keep their order.

    Source: He et al. 2020, LightGCN, arXiv:2002.02126; the spectral start is in the line of Shen et al. 2021 (GF-CF,
    arXiv:2108.07567), who show that an untrained linear graph convolution ends in the top singular vectors.
    """

    Settings = IdSettings

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
        settings: IdSettings,
        generator: torch.Generator,
        start: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.user = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item = nn.Parameter(torch.empty(num_items, embedding_dim))
        if settings.init == "spectral":
            self._start_from(start, settings.scale)
        for table in (self.user, self.item):
            if settings.init == "normal":
                nn.init.normal_(table, std=settings.scale, generator=generator)
            elif settings.init == "xavier":
                nn.init.xavier_uniform_(table, generator=generator)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the tables: (U, D) and (I, D)."""
        return self.user, self.item

    def rows(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (u, D) and (i, D) rows of some nodes: for the penalty, and all that a sampled neighbourhood reads.

        Their gradient is sparse: added to the encoder's dense one it touches these rows only, which saves a pass over
        both tables in every step; alone it is all that the optimiser has to look at.
        """
        embedding = nn.functional.embedding
        return embedding(users, self.user, sparse=True), embedding(items, self.item, sparse=True)

    @torch.no_grad()
    def _start_from(self, start: tuple[Tensor, Tensor] | None, scale: float) -> None:
        shapes = tuple(self.user.shape), tuple(self.item.shape)
        if start is None or (tuple(start[0].shape), tuple(start[1].shape)) != shapes:
            got = None if start is None else (tuple(start[0].shape), tuple(start[1].shape))
            raise ValueError(f"IdEmbeddings: a spectral start needs start arrays of shapes {shapes}, got {got}")
        squares = sum(float(part.double().square().sum()) for part in start)
        factor = scale / (squares / sum(part.numel() for part in start)) ** 0.5 if squares > 0 else 0.0
        self.user.copy_(start[0] * factor)
        self.item.copy_(start[1] * factor)
