"""Losses of trained models, and the batch they are taken on.

A loss says which negatives it wants (`negatives`), and turns score tensors into one number. To add one, write a class with
`Settings`, `negatives` and `__call__`, and add a line to `LOSSES`. A loss that has `of_rows` too is also taken on prepared
rows whose inner products are the scores, in one operator instead of several; both give the same number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from graphrec.ops.losses import bpr, sampled_softmax
from graphrec.settings import Settings

LOSSES: dict[str, str] = {
    "bpr": "graphrec.losses:BPR",
    "sampled-softmax": "graphrec.losses:SampledSoftmax",
    "bce": "graphrec.losses:BCE",
    "ccl": "graphrec.losses:CCL",
}

_MASKED = -1e9  # a finite stand-in for -inf: a row with every negative masked still has gradient zero, not NaN


@dataclass(frozen=True)
class Negatives:
    """Which negatives a loss wants.

    Attributes:
        kind: "rows": `count` for each positive; "shared": `count` draws for the whole batch; "in-batch": the other
            positives of the batch.
        count: n for "rows", number of draws for "shared", ignored for "in-batch".
    """

    kind: Literal["rows", "shared", "in-batch"]
    count: int = 1


@dataclass(frozen=True)
class Batch:
    """B training pairs and their negatives, as positions in the batch's own unique users and items.

    Compact rows let the encoder compute only what the batch needs, however often an item occurs in it.

    Attributes:
        user_rows: int64 (u,), sorted unique user indices.
        item_rows: int64 (i,), sorted unique item indices of positives and negatives.
        users: int64 (B,), positions in `user_rows`.
        positives: int64 (B,), positions in `item_rows`.
        negatives: int64, positions in `item_rows`: (B, n) for "rows", else (M,), unique.
        counts: float32 (M,), how often each shared or in-batch negative was drawn; None for "rows".
        hits: int64 (2, H), the (row, column) pairs of the (B, M) score matrix that are known positives of the row's user
            and must not count as negatives; None for "rows", whose negatives are drawn clean.
        log_q: float32 (M,), log-probability that one draw gives the negative; None for "rows".
    """

    user_rows: Tensor
    item_rows: Tensor
    users: Tensor
    positives: Tensor
    negatives: Tensor
    counts: Tensor | None = None
    hits: Tensor | None = None
    log_q: Tensor | None = None

    @classmethod
    def from_indices(cls, users: Tensor, positives: Tensor, negatives: Tensor) -> Batch:
        """Make a batch with own negatives per row from dense indices (B,), (B,) and (B, n), duplicates allowed."""
        user_rows, user_positions = users.unique(return_inverse=True)
        item_rows, item_positions = torch.cat([positives, negatives.reshape(-1)]).unique(return_inverse=True)
        split = len(positives)
        return cls(
            user_rows,
            item_rows,
            user_positions,
            item_positions[:split],
            item_positions[split:].reshape(negatives.shape),
        )

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        if device.type == "cpu":
            return self
        moved = {
            key: None if value is None else value.to(device, non_blocking=True) for key, value in vars(self).items()
        }
        return Batch(**moved)

    def __len__(self) -> int:
        return len(self.users)


class BPRSettings(Settings):
    """Settings of the BPR loss."""

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


class SampledSoftmaxSettings(Settings):
    """Settings of the sampled softmax."""

    negatives: Literal["in-batch", "shared"] = "in-batch"
    """Against what: the other positives of the batch, or items drawn once for the whole batch."""
    num_negatives: int = Field(default=1024, ge=1)
    """Number of draws for a batch; only used when `negatives` is "shared"."""
    temperature: float = Field(default=0.12, gt=0)
    """Scores are divided by this; 0.12 with the cosine head is the value of public LightGCN runs on Gowalla."""
    popularity_correction: bool = False
    """Weigh each negative by 1 / (draws * q), q its probability in one draw, so that the sum estimates the softmax over
    all items without bias. Without it popular items, which in-batch negatives draw more often, are pushed down."""


class SampledSoftmax:
    """Softmax of the positive against sampled negatives.

    L = mean over (u, i) of log(exp(s(u, i) / t) + sum_j w_j exp(s(u, j) / t)) - s(u, i) / t

    with w_j = count_j, or count_j / (draws * q_j) with the popularity correction. Known positives of the user never count
    as negatives, the positive itself included.

    Source: Wu et al. 2022, arXiv:2201.02327 (in-batch softmax for recommendation); Bengio and Senecal 2008 and Yi et al.
    2019 (logQ correction). Here the positive, which is always in, is not corrected, so the sum is an unbiased estimate.
    """

    Settings = SampledSoftmaxSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: SampledSoftmaxSettings | None = None) -> None:
        self.settings = settings or SampledSoftmaxSettings()
        self.negatives = Negatives(self.settings.negatives, self.settings.num_negatives)

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of scores (B,) and (B, M) against `batch`'s shared negatives; returns a scalar.

        A row whose negatives are all masked counts zero.
        """
        temperature = self.settings.temperature
        log_weight = self._log_weight(batch).to(negative.dtype)
        total = _MaskedLogSumExp.apply(negative, log_weight, batch.hits, temperature)
        return softplus(total - positive / temperature).mean()

    def of_rows(self, user: Tensor, item: Tensor, batch: Batch) -> Tensor:
        """Take the loss of the inner products of compact rows (u, D) and (i, D); returns a scalar."""
        rows = batch.users, batch.positives, batch.negatives
        log_weight = self._log_weight(batch).to(user.dtype)
        return sampled_softmax(user, item, *rows, log_weight, batch.hits, self.settings.temperature)

    def _log_weight(self, batch: Batch) -> Tensor:
        log_weight = batch.counts.log()
        if self.settings.popularity_correction:
            log_weight = log_weight - batch.counts.sum().log() - batch.log_q
        return log_weight


class _MaskedLogSumExp(torch.autograd.Function):
    """log sum_j exp(scores_bj / temperature + log_weight_j) over the j that are not hits: (B, M) to (B,).

    One buffer of the size of the scores is written and kept; composed from torch's own operators it would be seven, which
    made this the dearest part of a step. The gradient is the softmax over the temperature.
    """

    @staticmethod
    def forward(ctx, scores, log_weight, hits, temperature):  # type: ignore[no-untyped-def]
        terms = (scores / temperature).add_(log_weight)
        terms[hits[0], hits[1]] = _MASKED
        largest = terms.amax(1, keepdim=True)
        terms.sub_(largest).exp_()
        sums = terms.sum(1, keepdim=True)
        ctx.temperature = temperature
        ctx.save_for_backward(terms, sums)
        return (largest + sums.log()).squeeze(1)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        terms, sums = ctx.saved_tensors
        return terms * (gradient.unsqueeze(1) / (sums * ctx.temperature)), None, None, None
