"""Heads: how a user's vector and an item's vector become a score.

A head is made from its settings, the dimension D of the encoded vectors and a generator for its random start. It has four
methods. `prepare` transforms each row once; `pairs` and `matrix` score prepared rows; `ranking_vectors` gives what a trained
model keeps of a user and an item: vectors whose plain dot product ranks items where `is_inner_product`, which is what export
and retrieval use, and otherwise the rows that `prepare` and `matrix` score again. Heads that are no inner product are in
`mlp_head.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphrec.settings import Settings


class DotSettings(Settings):
    """The dot product has nothing to set."""


class DotHead(nn.Module):
    """s(u, i) = <e_u, e_i>."""

    Settings = DotSettings
    is_inner_product: ClassVar[bool] = True  # scores are inner products of prepared rows

    def __init__(
        self, settings: DotSettings | None = None, dim: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Transform encoded rows (u, D) and (i, D), one by one, for `pairs` and `matrix`."""
        return user, item

    def pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """Score row by row: (B, D) with (B, D) gives (B,); (B, D) with (B, n, D) gives (B, n)."""
        if item.dim() == user.dim():
            return (user * item).sum(-1)
        return (item @ user.unsqueeze(-1)).squeeze(-1)  # (B, n, D) x (B, D, 1) -> (B, n)

    def matrix(self, user: Tensor, item: Tensor) -> Tensor:
        """Score every user row with every item row: (B, D) and (M, D) give (B, M)."""
        return user @ item.T

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (U, D) and (I, D) whose dot product ranks the items of a user."""
        return user, item


class CosineSettings(Settings):
    """Settings of the cosine head."""

    search: ClassVar[Mapping[str, Any]] = {"ranking": ["cosine", "dot"]}

    temperature: float = Field(default=1.0, gt=0)
    """Scores are divided by this. Sampled softmax has its own temperature, and the cosine contrastive loss wants 1."""
    ranking: Literal["cosine", "dot"] = "cosine"
    """What ranks items after training. "dot" lets the length of an item's vector, which follows its popularity, count
    again; public runs of softmax losses on LightGCN train on the cosine and rank by the dot product."""


class CosineHead(DotHead):
    """s(u, i) = <e_u, e_i> / (|e_u| |e_i| temperature), in [-1/temperature, 1/temperature].

    Source: Wu et al. 2022, "On the effectiveness of sampled softmax loss for item recommendation", arXiv:2201.02327,
    which trains normalised scores with a temperature.
    """

    Settings = CosineSettings

    def __init__(
        self, settings: CosineSettings | None = None, dim: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or CosineSettings()

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise rows to length one (zero rows stay zero) and divide the users' by the temperature."""
        return normalize(user, dim=-1) / self.settings.temperature, normalize(item, dim=-1)

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors, or the vectors as they are when `ranking = "dot"`."""
        if self.settings.ranking == "dot":
            return user, item
        return normalize(user, dim=-1), normalize(item, dim=-1)


class BilinearSettings(Settings):
    """The bilinear head has nothing to set: its matrix is D x D and starts at the identity."""


class BilinearHead(DotHead):
    """s(u, i) = e_u^T W e_i with a learned W (D, D).

    W starts at the identity, so training starts where the dot product would. After `prepare`, which gives e_u^T W, scores
    are inner products, and what a trained model keeps of a user is e_u^T W. W is not penalised by `weight_decay`.

    Source: van den Berg et al. 2017, Graph convolutional matrix completion, arXiv:1706.02263, section 2.3, the bilinear
        decoder; there one W for each rating level and a softmax over them, here one W whose form is the score.
    """

    Settings = BilinearSettings

    def __init__(
        self, settings: BilinearSettings | None = None, dim: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim))

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Carry users' rows through W: (u, D) W and (i, D)."""
        return user @ self.weight, item

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The prepared rows: their dot product is the score."""
        return self.prepare(user, item)
