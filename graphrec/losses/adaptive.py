"""Softmax with a temperature of its own for each user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphrec.losses.batch import Batch
from graphrec.losses.softmax import SampledSoftmax, SampledSoftmaxSettings

_BRANCH = -0.36787944117144233  # -1/e, where Lambert's W begins
_NEWTON = 12  # Halley steps for W; it converges cubically, slowest at the branch point


class AdaptiveSoftmaxSettings(SampledSoftmaxSettings):
    """Settings of the softmax with adaptive temperature; `temperature` is t_0, that of a user with the mean loss."""

    search: ClassVar[Mapping[str, Any]] = {**SampledSoftmaxSettings.search, "adaptivity": {"low": 0.0, "high": 1.0}}

    adaptivity: float = Field(default=0.5, ge=0)
    """beta, how strongly a user's loss moves its temperature; 0 is the sampled softmax itself."""


class AdaptiveSoftmax(SampledSoftmax):
    """Sampled softmax whose temperature is low for users that are already ranked well and high for hard or noisy ones.

    t_u = t_0 exp(W(max(-1/e, beta (l_u - mean l)))), W Lambert's function, l_u the softmax loss of u's pairs in the batch at
    t_0, a constant to the gradient; then the loss of `SampledSoftmax` with s(u, .) / t_u.

    It costs one more product of users and negatives, and none of the gradient.

    Source: Chen et al. 2023, Adap-tau, arXiv:2302.04775, the user-wise temperature by SuperLoss (Castells et al. 2020). There
    t_0 follows the variance of the scores and l_u is kept from earlier epochs; here t_0 is a setting and l_u is the batch's
    own, so that nothing but the parameters and the batch decides a step and a resumed run takes the same ones.
    """

    Settings = AdaptiveSoftmaxSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: AdaptiveSoftmaxSettings | None = None) -> None:
        super().__init__(settings or AdaptiveSoftmaxSettings())

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of scores (B,) and (B, M) against `batch`'s shared negatives; returns a scalar."""
        with torch.no_grad():
            factor = self._factor(self._of_pairs(positive, negative, batch), batch)[batch.users].to(positive.dtype)
        return super().__call__(positive / factor, negative / factor[:, None], batch)

    def of_rows(self, user: Tensor, item: Tensor, batch: Batch) -> Tensor:
        """Take the loss of the inner products of compact rows (u, D) and (i, D); returns a scalar."""
        with torch.no_grad():
            rows, negative = user[batch.users], item[batch.negatives]
            positive = (rows * item[batch.positives]).sum(-1)
            factor = self._factor(self._of_pairs(positive, rows @ negative.T, batch), batch).to(user.dtype)
        return super().of_rows(user / factor[:, None], item, batch)

    def _of_pairs(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """The softmax loss of each pair at t_0: (B,)."""
        terms = negative / self.settings.temperature + self._log_weight(batch).to(negative.dtype)
        terms[batch.hits[0], batch.hits[1]] = -torch.inf
        return torch.nn.functional.softplus(terms.logsumexp(1) - positive / self.settings.temperature)

    def _factor(self, losses: Tensor, batch: Batch) -> Tensor:
        """t_u / t_0 of the batch's users (u,), from the losses of its pairs (B,)."""
        size = len(batch.user_rows)
        pairs = torch.bincount(batch.users, minlength=size)
        own = losses.double().new_zeros(size).index_add_(0, batch.users, losses.double()) / pairs.clamp(min=1)
        excess = self.settings.adaptivity * (own - losses.double().mean())
        return lambert_w(excess.clamp(min=_BRANCH)).exp()


def lambert_w(x: Tensor) -> Tensor:
    """The principal branch of Lambert's W, W exp(W) = x, for float64 x of at least -1/e.

    Source: Corless et al. 1996, "On the Lambert W function", eq. 5.9 (Halley's iteration).
    """
    near_branch = (2 * (1 + torch.e * x)).clamp(min=0).sqrt() - 1
    w = torch.where(x < 0, near_branch, torch.log1p(x.clamp(min=0)))
    for _ in range(_NEWTON):
        power = w.exp()
        error = w * power - x
        slope = power * (w + 1) - (w + 2) * error / (2 * (w + 1)).clamp(min=1e-12)
        w = torch.where(w + 1 > 1e-7, w - error / slope.clamp(min=1e-12), w)
    return w
