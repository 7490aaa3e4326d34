"""Softmax losses of a positive against negatives that a batch shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from graphrec.losses.batch import Batch, Negatives
from graphrec.ops.losses import sampled_softmax
from graphrec.settings import Settings

_MASKED = -1e9  # a finite stand-in for -inf: a row with every negative masked still has gradient zero, not NaN


class SampledSoftmaxSettings(Settings):
    """Settings of the sampled softmax."""

    search: ClassVar[Mapping[str, Any]] = {"temperature": {"low": 0.05, "high": 0.5, "log": True}}

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
