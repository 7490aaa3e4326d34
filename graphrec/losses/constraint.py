"""UltraGCN's constraint losses: what infinitely many hops of LightGCN would settle at, without any message passing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from graphrec.losses.batch import Batch, Negatives
from graphrec.losses.step import Step
from graphrec.settings import Settings

_ROWS = 1024  # rows of the co-occurrence matrix at a time


class UltraGCNSettings(Settings):
    """Settings of the user-item constraint loss."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_negatives": {"low": 1, "high": 64, "log": True},
        "negative_weight": {"low": 1.0, "high": 300.0, "log": True},
    }

    num_negatives: int = Field(default=4, ge=1)
    """Negatives drawn for each positive; 1,500 is the public setting for Gowalla, and 4 suits a small log."""
    negative_weight: float = Field(default=4.0, gt=0)
    """Weight of the mean over negatives against the positive; 300 is the public setting for Gowalla."""
    plain_weight: float = Field(default=1e-6, ge=0)
    """w1 and w3, of the plain binary cross-entropy; 1e-6 is the public setting for Gowalla."""
    degree_weight: float = Field(default=10.0, ge=0)
    """w2 and w4, of the terms weighted by beta; 1 is the public setting for Gowalla. beta is near 1 / sqrt(d_u d_i), so that 10
    makes the loss of a small log about as large as the plain cross-entropy, which `weight_decay` expects."""


class UltraGCN:
    """Binary cross-entropy whose pairs are weighted by their degrees, the fixed point of LightGCN's propagation.

    L = mean over (u, i) of (w1 + w2 beta_ui) softplus(-s(u, i)) + v / n * sum_j (w1 + w2 beta_uj) softplus(s(u, j)),
    beta_ui = 1/d_u * sqrt((d_u + 1) / (d_i + 1)), d the training degrees (a user without any counts as one with 1).

    Source: Mao et al. 2021, UltraGCN, arXiv:2110.15114, eq. 5, 7 and 10. There it is a sum over the batch and positives and
    negatives may have weights of their own; here it is the mean over the batch's pairs, and they share w1 and w2.
    """

    Settings = UltraGCNSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: UltraGCNSettings | None = None) -> None:
        self.settings = settings or UltraGCNSettings()
        self.negatives = Negatives("rows", self.settings.num_negatives)

    def prepare(self, train: sp.csr_matrix) -> None:
        """Take the degrees of the training matrix (U, I): beta_ui = user_factor[u] * item_factor[i]."""
        pattern = train.astype(bool)
        user_degree = np.maximum(np.asarray(pattern.sum(axis=1), dtype=np.float64).ravel(), 1)
        item_degree = np.asarray(pattern.sum(axis=0), dtype=np.float64).ravel()
        self.user_factor = torch.from_numpy(np.sqrt(user_degree + 1) / user_degree)
        self.item_factor = torch.from_numpy(1 / np.sqrt(item_degree + 1))

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of scores (B,) and (B, n); returns a scalar."""
        self.user_factor, self.item_factor = (
            factor.to(positive.device) for factor in (self.user_factor, self.item_factor)
        )
        user = self.user_factor[batch.user_rows[batch.users]].to(positive.dtype)
        item = self.item_factor[batch.item_rows].to(positive.dtype)
        plain, by_degree = self.settings.plain_weight, self.settings.degree_weight
        pulled = (plain + by_degree * user * item[batch.positives]) * softplus(-positive)
        pushed = (plain + by_degree * user[:, None] * item[batch.negatives]) * softplus(negative)
        return (pulled + self.settings.negative_weight * pushed.mean(-1)).mean()


class ItemGraphSettings(Settings):
    """Settings of the item-item constraint loss."""

    search: ClassVar[Mapping[str, Any]] = {
        "weight": {"low": 1e-4, "high": 10.0, "log": True},
        "num_neighbours": [5, 10, 20],
    }

    num_neighbours: int = Field(default=10, ge=1)
    """K, the most similar items of each; 10 is the paper's choice."""


class ItemGraph:
    """A user of an item should also score its most similar items high: UltraGCN's constraint on the item-item graph.

    L = mean over (u, i) of sum_{j in S(i)} w_ij softplus(-<e_u, e_j>),
    w_ij = G_ij / (g_i - G_ii) * sqrt(g_i / g_j), G = R^T R, g_i = sum_k G_ik, S(i) the K items j != i with the largest w_ij.

    Scores are inner products of encoded rows; the item's own weight is never among its neighbours'.

    Source: Mao et al. 2021, UltraGCN, arXiv:2110.15114, eq. 11-13; R counts as 0 and 1. A mean where the paper has a sum.
    """

    Settings = ItemGraphSettings
    needs_whole_graph: ClassVar[bool] = True  # an item's neighbours need not be in the batch's neighbourhood

    def __init__(self, settings: ItemGraphSettings | None = None) -> None:
        self.settings = settings or ItemGraphSettings()

    def prepare(self, train: sp.csr_matrix) -> None:
        """Find the neighbours of every item of the training matrix (U, I), a block of rows of G at a time."""
        self.neighbours, self.weights = item_neighbours(train, self.settings.num_neighbours)

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of a step; returns a scalar."""
        device = step.user.device
        self.neighbours, self.weights = self.neighbours.to(device), self.weights.to(device)
        positives = step.batch.item_rows[step.batch.positives]
        rows, places = self.neighbours[positives].unique(return_inverse=True)  # (B, K) places
        _, item = step.encoder(step.relation, step.user_x, step.item_x, step.batch.user_rows, rows)
        # By index_select: the gradient of item[places] adds up in an order of its own where there are several threads.
        user = step.user.index_select(0, step.batch.users).to(item.dtype)
        near = item.index_select(0, places.reshape(-1)).view(*places.shape, -1)
        scores = (near @ user.unsqueeze(-1)).squeeze(-1)  # (B, K, D) x (B, D, 1) -> (B, K)
        return (self.weights[positives] * softplus(-scores.to(step.user_x.dtype))).sum(-1).mean()


def item_neighbours(train: sp.csr_matrix, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most similar items of each item and their weights w_ij, as in `ItemGraph`.

    Args:
        train: (U, I); only its pattern counts.
        count: K; capped at I - 1, or 1 where there is only one item.

    Returns:
        Items int64 (I, K), nearest first, ties to the lower index, and weights float32 (I, K), 0 where there are fewer.
    """
    pattern = sp.csr_matrix(train.astype(bool).astype(np.float64))
    columns = sp.csr_matrix(pattern.T)
    degree = np.asarray(pattern.sum(axis=0)).ravel()
    total = columns @ np.asarray(pattern.sum(axis=1)).ravel()  # g_i, a row sum of G
    inverse = np.sqrt(np.where(total > 0, 1 / np.maximum(total, 1), 0.0))
    count = max(1, min(count, len(degree) - 1))
    neighbours, weights = np.zeros((len(degree), count), np.int64), np.zeros((len(degree), count), np.float32)
    for first in range(0, len(degree), _ROWS):
        block = sp.csr_matrix(columns[first : first + _ROWS] @ pattern)
        block.sort_indices()
        for row in range(block.shape[0]):
            item, cells = first + row, slice(block.indptr[row], block.indptr[row + 1])
            others = block.indices[cells] != item
            near = block.indices[cells][others]
            if len(near) == 0:
                continue
            share = np.sqrt(total[item]) / (total[item] - degree[item])
            weight = block.data[cells][others] * share * inverse[near]
            best = np.argsort(-weight, kind="stable")[:count]
            neighbours[item, : len(best)], weights[item, : len(best)] = near[best], weight[best]
    return torch.from_numpy(neighbours), torch.from_numpy(weights)
