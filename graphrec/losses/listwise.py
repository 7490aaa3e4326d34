"""Losses of candidate lists, for the second stage: pointwise, pairwise, and over the whole list.

All take `scores` (B, N), `labels` bool (B, N) and `known` bool (B, N), the places that hold a candidate, and return a scalar:
the mean over lists. A list without a positive or without a negative counts zero, except in the pointwise loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def bce(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of each candidate on its own.

    L = mean over lists of sum over candidates of softplus(-s) where positive, softplus(s) where negative.

    Source: He et al. 2017, Neural collaborative filtering, arXiv:1708.05031, eq. 7.
    """
    return (softplus(torch.where(labels, -scores, scores)) * known).sum(1).mean()


def pairwise(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Every positive against every negative of its list.

    L = mean over lists of mean over pairs (i positive, j negative) of softplus(s_j - s_i).

    Source: Rendle et al. 2009, BPR, arXiv:1205.2618, section 4.1, with all pairs of a list instead of drawn ones; RankNet,
        Burges et al. 2005, is the same form.
    """
    rows, _, difference, pairs = _pairs(scores, labels, known)
    each = (softplus(difference) * pairs).sum(1) / (pairs.sum(1) * labels.sum(1)[rows]).clamp_min(1)
    return each.sum() / len(scores)


def lambdarank(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Pairs weighted by what swapping the two would do to the NDCG of the list as it now stands.

    L = mean over lists of sum over pairs (i positive, j negative) of |d(r_i) - d(r_j)| / IDCG * softplus(s_j - s_i)

    with r the places by score, d(r) = 1 / log2(1 + r), and IDCG that of all positives in front. The weights carry no
    gradient.

    Source: Burges 2010, From RankNet to LambdaRank to LambdaMART, MSR-TR-2010-82, section 4, with binary gains and without
        truncation.
    """
    rows, positive, difference, pairs = _pairs(scores, labels, known)
    order = scores.detach().masked_fill(~known, -torch.inf).argsort(dim=1, descending=True, stable=True)
    discount = 1 / torch.log2(torch.arange(2, scores.shape[1] + 2, dtype=scores.dtype, device=scores.device))
    gain = torch.empty_like(scores).scatter_(1, order, discount.expand_as(scores).contiguous())  # d at each candidate
    ideal = discount.cumsum(0)[labels.sum(1).clamp_min(1) - 1]
    weight = (gain[rows, positive].unsqueeze(1) - gain[rows]).abs() / ideal[rows].unsqueeze(1)
    return (softplus(difference) * pairs * weight).sum() / len(scores)


def softmax(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of the softmax over the list, its mass spread evenly over the positives.

    L = mean over lists of log sum_j exp(s_j) - mean over positives i of s_i.

    Source: Cao et al. 2007, Learning to rank: from pairwise approach to listwise approach (ListNet), with top-one
        probabilities and binary relevance.
    """
    total = scores.masked_fill(~known, -torch.inf).logsumexp(1)
    count = labels.sum(1)
    mean = (scores * labels).sum(1) / count.clamp_min(1)
    return torch.where((count > 0) & (count < known.sum(1)), total - mean, 0.0).mean()


def list_ndcg(scores: Tensor, labels: Tensor, known: Tensor, relevant: Tensor, k: int) -> Tensor:
    """NDCG@k of each list, (B,), with binary gains and the ideal of min(k, relevant) hits; ties keep the order given.

    Args:
        relevant: int64 (B,), positives of the user, among the candidates or not; at least 1.
    """
    order = scores.masked_fill(~known, -torch.inf).argsort(dim=1, descending=True, stable=True)
    discount = 1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    hits = labels.gather(1, order)[:, :k]
    return (hits * discount[: hits.shape[1]]).sum(1) / discount.cumsum(0)[relevant.clamp_max(k) - 1]


def _pairs(scores: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of the P positives: its list (P,), its place (P,), s_j - s_i (P, N), and which j are negatives (P, N)."""
    rows, positive = labels.nonzero(as_tuple=True)
    return rows, positive, scores[rows] - scores[rows, positive].unsqueeze(1), (known & ~labels)[rows]
