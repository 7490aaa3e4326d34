"""Losses of a positive against negatives of its own: BPR, binary cross-entropy and the cosine contrastive loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from graphrec.losses.batch import Batch, Negatives
from graphrec.ops.losses import bpr
from graphrec.settings import Settings


class BPRSettings(Settings):
    """Settings of the BPR loss."""

    search: ClassVar[Mapping[str, Any]] = {"num_negatives": {"low": 1, "high": 16, "log": True}}

    num_negatives: int = Field(default=1, ge=1)
    """Negatives drawn for each positive."""


class BPR:
    """Bayesian personalised ranking: a positive should score above a negative.

    L = mean over (u, i, j) of softplus(s(u, j) - s(u, i)) = -log sigmoid(s(u, i) - s(u, j)).

    Source: Rendle et al. 2009, arXiv:1205.2618, section 4.1; softplus is LightGCN's stable form. The L2 penalty is not
    here but with the model, because it is taken on embeddings.
    """

    Settings = BPRSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: BPRSettings | None = None) -> None:
        self.settings = settings or BPRSettings()
        self.negatives = Negatives("rows", self.settings.num_negatives)

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of scores (B,) and (B, n); returns a scalar."""
        return softplus(negative - positive.unsqueeze(-1)).mean()

    def of_rows(self, user: Tensor, item: Tensor, batch: Batch) -> Tensor:
        """Take the loss of the inner products of compact rows (u, D) and (i, D); returns a scalar."""
        return bpr(user, item, batch.users, batch.positives, batch.negatives)


class BCESettings(Settings):
    """Settings of the binary cross-entropy."""

    search: ClassVar[Mapping[str, Any]] = {"num_negatives": {"low": 1, "high": 16, "log": True}}

    num_negatives: int = Field(default=4, ge=1)
    """Negatives drawn for each positive; 4 is the choice of He et al. 2017."""


class BCE:
    """Binary cross-entropy: positives are ones, negatives zeros, each pair counts alike.

    L = mean over (u, i) of [softplus(-s(u, i)) + sum_j softplus(s(u, j))] / (1 + n).

    Source: He et al. 2017, Neural collaborative filtering, arXiv:1708.05031, eq. 7, divided by the number of pairs.
    """

    Settings = BCESettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: BCESettings | None = None) -> None:
        self.settings = settings or BCESettings()
        self.negatives = Negatives("rows", self.settings.num_negatives)

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of scores (B,) and (B, n); returns a scalar."""
        return (softplus(-positive) + softplus(negative).sum(-1)).mean() / (1 + negative.shape[-1])


class CCLSettings(Settings):
    """Settings of the cosine contrastive loss."""

    search: ClassVar[Mapping[str, Any]] = {
        "margin": {"low": 0.0, "high": 0.9},
        "negative_weight": {"low": 1.0, "high": 300.0, "log": True},
    }

    num_negatives: int = Field(default=64, ge=1)
    """Negatives drawn for each positive; the paper goes up to 2,000, with little gain beyond a few hundred."""
    margin: float = Field(default=0.4, ge=-1, lt=1)
    """Negatives with a cosine below this are left alone."""
    negative_weight: float = Field(default=10.0, gt=0)
    """Weight of the mean over negatives against the positive."""


class CCL:
    """Cosine contrastive loss: positives to cosine one, hard negatives below a margin.

    L = mean over (u, i) of (1 - cos(u, i)) + (negative_weight / n) * sum_j max(0, cos(u, j) - margin).

    Source: Mao et al. 2021, SimpleX, arXiv:2109.12613, eq. 1. It needs the cosine head with temperature 1.
    """

    Settings = CCLSettings
    needs_cosine: ClassVar[bool] = True

    def __init__(self, settings: CCLSettings | None = None) -> None:
        self.settings = settings or CCLSettings()
        self.negatives = Negatives("rows", self.settings.num_negatives)

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of cosines (B,) and (B, n); returns a scalar."""
        excess = (negative - self.settings.margin).clamp_min(0).mean(-1)
        return (1 - positive + self.settings.negative_weight * excess).mean()
