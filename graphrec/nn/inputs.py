"""What a trained model starts from: one learned vector per user and per item."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from graphrec.settings import Settings


class IdSettings(Settings):
    """Settings of the id embeddings."""

    init: Literal["normal", "xavier", "spectral", "features"] = "normal"
    """Where training starts. "normal": N(0, scale^2), as LightGCN's public code does; "xavier": Glorot uniform, as its
    paper says; "spectral": the directions of users and items in the top D singular
    vectors of the normalised interactions, all of length scale * sqrt(D); "features": the features named by `item` and
    `user`, projected to D columns."""
    scale: float = Field(default=0.1, gt=0)
    """Standard deviation of "normal" and root mean square of "spectral" and "features"; 0.1 is LightGCN's public default."""
    item: list[str] = Field(default=[])
    """With "features": names of item features in the store."""
    user: list[str] | Literal["history"] = "history"
    """With "features": names of user features, or "history" for the mean of the user's training items."""
    project: Literal["none", "pca", "whiten", "random"] = "whiten"
    """With "features": how they become D columns. "whiten" makes all directions count alike, as in a random start."""
    anchor: float = Field(default=0.0, ge=0)
    """Weight of a penalty on the squared distance from the start, which keeps what text says of rare items; with "features"
    and "spectral"."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.init == "features" and not self.item:
            raise ValueError('init = "features" needs item = [names of item features]; `graphrec graph info` lists them')
        if self.init != "features" and (self.item or self.user != "history"):
            raise ValueError(
                f'features are named and would not be used: init is "{self.init}"; set init = "features", or inputs = '
                '{name = "id+features", ...}'
            )
        if self.anchor and self.init not in ("features", "spectral"):
            raise ValueError(f'anchor holds to a start that means something, got init = "{self.init}"; leave anchor out')
        return self


class IdEmbeddings(nn.Module):
    """Free embeddings x_u and x_i, one row per id, learned from nothing but the interactions.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        settings: where the values start.
        generator: source of the random start; the same state gives the same values.
        start: (U, D) and (I, D) float32 for `init = "spectral"` and "features", otherwise None. They are rescaled together, so
            that the root mean square over both is `settings.scale` and scores keep their order.

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
        self.anchor = settings.anchor
        self.user = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item = nn.Parameter(torch.empty(num_items, embedding_dim))
        if settings.init in ("spectral", "features"):
            self._start_from(start, settings.scale)
        if self.anchor:
            self.register_buffer("user_start", self.user.detach().clone(), persistent=False)
            self.register_buffer("item_start", self.item.detach().clone(), persistent=False)
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

    def drift(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the sum over the given rows of |x - x_start|^2, for the anchoring penalty."""
        user, item = self.rows(users, items)
        return (user - self.user_start[users]).square().sum() + (item - self.item_start[items]).square().sum()

    @torch.no_grad()
    def _start_from(self, start: tuple[Tensor, Tensor] | None, scale: float) -> None:
        shapes = tuple(self.user.shape), tuple(self.item.shape)
        if start is None or (tuple(start[0].shape), tuple(start[1].shape)) != shapes:
            got = None if start is None else (tuple(start[0].shape), tuple(start[1].shape))
            raise ValueError(f"IdEmbeddings: this start needs start arrays of shapes {shapes}, got {got}")
        squares = sum(float(part.double().square().sum()) for part in start)
        factor = scale / (squares / sum(part.numel() for part in start)) ** 0.5 if squares > 0 else 0.0
        self.user.copy_(start[0] * factor)
        self.item.copy_(start[1] * factor)
