"""Heads: how a user's vector and an item's vector become a score.

A head is made from its settings, the dimension D of the encoded vectors and a generator for its random start. It has four
methods. `prepare` transforms each row once; `pairs` and `matrix` score prepared rows; `ranking_vectors` gives what a trained
model keeps of a user and an item: vectors whose plain dot product ranks items where `is_inner_product`, which is what export
and retrieval use, and otherwise the rows that `prepare` and `matrix` score again. Rows of another length than D are refused by
all of them (`check_rows`). `prepare` and `ranking_vectors` are what a subclass of `DotHead` changes; one that changes `pairs` or
`matrix` must change both and say `is_inner_product = False`, for else neither a loss nor ranking calls them. Heads that are no
inner product are in `mlp_head.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphrec.settings import Settings


def check_rows(
    where: str, user: Tensor, item: Tensor, user_dim: int | None, item_dim: int | None, pairs: bool = False
) -> None:
    """Make sure that a head was given user rows (u, user_dim) and item rows (i, item_dim).

    Args:
        where: what to call the head and its method in messages.
        user, item: the rows, encoded or prepared.
        user_dim, item_dim: D of both, or None for both where it is whatever the users have.
        pairs: whether items go with users: (u, item_dim) or (u, n, item_dim).

    Raises:
        ValueError: they are not; the message names the expected and the received shapes.
    """
    if user_dim is None:
        user_dim = item_dim = user.shape[-1:].numel()
    fits = user.ndim == 2 and item.ndim in ((2, 3) if pairs else (2,)) and (not pairs or len(user) == len(item))
    if not fits or (user.shape[-1], item.shape[-1]) != (user_dim, item_dim):
        items = f"(u, {item_dim}) or (u, n, {item_dim})" if pairs else f"(i, {item_dim})"
        raise ValueError(
            f"{where}: users must be (u, {user_dim}) and items {items}, got {tuple(user.shape)} and {tuple(item.shape)}; make the "
            "head with the D of the encoded rows, and score what its prepare gives"
        )


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
        self.dim = dim or None  # any
        kind = type(self)
        kept = [name for name in ("pairs", "matrix") if getattr(kind, name) is getattr(DotHead, name)]
        if len(kept) < 2 and (kept or kind.is_inner_product):
            raise TypeError(
                f"{kind.__name__}: a head that scores in another way must override both pairs and matrix and say "
                f"is_inner_product = False, got {' and '.join(kept) or 'neither'} kept and is_inner_product = "
                f"{kind.is_inner_product}; else losses and ranking take the inner products of prepared rows"
            )

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Transform encoded rows (u, D) and (i, D), one by one, for `pairs` and `matrix`."""
        self._check("prepare", user, item)
        return user, item

    def pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """Score row by row: (B, D) with (B, D) gives (B,); (B, D) with (B, n, D) gives (B, n)."""
        self._check("pairs", user, item, pairs=True)
        if item.dim() == user.dim():
            return (user * item).sum(-1)
        return (item @ user.unsqueeze(-1)).squeeze(-1)  # (B, n, D) x (B, D, 1) -> (B, n)

    def matrix(self, user: Tensor, item: Tensor) -> Tensor:
        """Score every user row with every item row: (B, D) and (M, D) give (B, M)."""
        self._check("matrix", user, item)
        return user @ item.T

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (U, D) and (I, D) whose dot product ranks the items of a user."""
        self._check("ranking_vectors", user, item)
        return user, item

    def _check(self, method: str, user: Tensor, item: Tensor, pairs: bool = False) -> None:
        check_rows(f"{type(self).__name__}.{method}", user, item, self.dim, self.dim, pairs)


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
        super().__init__(None, dim, generator)
        self.settings = settings or CosineSettings()

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise rows to length one (zero rows stay zero) and divide the users' by the temperature."""
        self._check("prepare", user, item)
        return normalize(user, dim=-1) / self.settings.temperature, normalize(item, dim=-1)

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors, or the vectors as they are when `ranking = "dot"`."""
        self._check("ranking_vectors", user, item)
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
        super().__init__(None, dim, generator)
        self.dim = dim
        self.weight = nn.Parameter(torch.eye(dim))

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Carry users' rows through W: (u, D) W and (i, D)."""
        self._check("prepare", user, item)
        return user @ self.weight, item

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The prepared rows: their dot product is the score."""
        return self.prepare(user, item)
