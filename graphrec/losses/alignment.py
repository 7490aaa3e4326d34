"""Alignment and uniformity: positives close together, everything spread over the sphere, and no negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from graphrec.losses.batch import Batch, Negatives
from graphrec.settings import Settings

_TILE = 1 << 19  # entries of one tile of the Gram matrix: 2 MB of float32
_SHARPNESS = 2.0  # t of the Gaussian potential in Wang and Isola 2020, which DirectAU keeps


class DirectAUSettings(Settings):
    """Settings of the alignment and uniformity loss."""

    search: ClassVar[Mapping[str, Any]] = {"uniformity_weight": {"low": 0.2, "high": 10.0, "log": True}}

    uniformity_weight: float = Field(default=1.0, gt=0)
    """gamma, weight of the uniformity against the alignment; the paper chooses it by data set between 0.2 and 10."""


class DirectAU:
    """Alignment of positive pairs plus uniformity of users and of items, on unit vectors.

    L = mean over (u, i) of |x_u - x_i|^2 + gamma / 2 * (U(users) + U(items)),
    U(x) = log mean over the pairs a < b of the batch's rows of exp(-2 |x_a - x_b|^2).

    Rows are those of the batch's pairs, so that a user or an item that occurs twice counts twice, as in drawing from the
    distribution of positives. The loss makes unit vectors itself, whatever the head.

    Source: Wang et al. 2022, DirectAU, arXiv:2206.12811, eq. 5 and 6. Here the Gram matrix is walked in tiles with the
    gradient taken on the way, which gives the same numbers in bounded memory.
    """

    Settings = DirectAUSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: DirectAUSettings | None = None) -> None:
        self.settings = settings or DirectAUSettings()
        self.negatives = Negatives("none")

    def of_rows(self, user: Tensor, item: Tensor, batch: Batch) -> Tensor:
        """Take the loss of compact rows (u, D) and (i, D); returns a scalar."""
        user, item = normalize(user.float() if user.dtype == torch.bfloat16 else user, dim=-1), normalize(item, dim=-1)
        item = item.to(user.dtype)
        pairs = user.index_select(0, batch.users) - item.index_select(0, batch.positives)  # (B, D)
        spread = [
            uniformity(rows, torch.bincount(index, minlength=len(rows)))
            for rows, index in ((user, batch.users), (item, batch.positives))
        ]
        return pairs.square().sum(-1).mean() + self.settings.uniformity_weight / 2 * sum(spread)


def uniformity(x: Tensor, counts: Tensor) -> Tensor:
    """Log of the mean Gaussian potential between distinct draws: log mean over a < b of exp(-2 |x_a - x_b|^2).

    Args:
        x: float32 or float64 (n, D), unit rows.
        counts: int64 (n,), how often each row was drawn; two draws of one row have distance 0.

    Returns:
        A scalar, between -8 (opposite points) and 0 (all in one place); 0 for fewer than two draws.

    Source: Wang and Isola 2020, arXiv:2005.10242, eq. 2 with t = 2.
    """
    return _Uniformity.apply(x, counts)


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, counts):  # type: ignore[no-untyped-def]
        count = counts.to(x.dtype)
        draws = float(counts.sum())
        total = ((count - 1).clamp(min=0) * count).sum()  # draws of the same row, ordered pairs
        gradient = torch.zeros_like(x)
        step = max(1, _TILE // max(1, len(x)))
        for first in range(0, len(x), step):
            rows = slice(first, min(first + step, len(x)))
            potential = (x[rows] @ x.T).mul_(2 * _SHARPNESS).sub_(2 * _SHARPNESS).exp_()  # |a - b|^2 = 2 - 2 <a, b>
            potential.mul_(count[rows, None]).mul_(count)
            potential.diagonal(first).zero_()
            total += potential.sum()
            gradient[rows] = potential @ x
        ctx.alone = draws < 2
        if ctx.alone:
            return total.new_zeros(())
        # Each unordered pair was met twice, and moves both of its ends.
        ctx.save_for_backward(gradient.mul_(4 * _SHARPNESS / total))
        return (total / (draws * (draws - 1))).log()

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        return (None if ctx.alone else ctx.saved_tensors[0] * upstream), None
