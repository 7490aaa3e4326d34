"""Cross-entropy over rating levels, for models that give every level of a pair a logit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from graphrec.losses.batch import Batch, Negatives
from graphrec.settings import Settings


class LevelCrossEntropySettings(Settings):
    """Settings of the cross-entropy over levels."""

    num_negatives: int = Field(default=1, ge=1)
    """Items that the user has not chosen, drawn for each pair; used only where the training data have one level."""


class LevelCrossEntropy:
    """L = mean over pairs of -log softmax(logits)[level of the pair].

    With one level in the training data there would be nothing to tell apart: level 0 then means "not chosen" and is what
    drawn negatives have, n of them for each pair and of the same weight.

    Not in `graphrec.losses.LOSSES`, for it wants logits of levels and not scores; the model calls it.

    **Source**: van den Berg et al. 2017, arXiv 1706.02263, its negative log-likelihood; negatives for data without ratings are as in the
    GC-MC baseline of Wang et al. 2019 (arXiv 1905.08108).
    """

    Settings = LevelCrossEntropySettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: LevelCrossEntropySettings | None = None) -> None:
        self.settings = settings or LevelCrossEntropySettings()
        self.negatives = Negatives("none")

    def prepare(self, levels: scipy.sparse.csr_matrix) -> None:
        """Remember the level of every training pair; negatives are drawn if all have one.

        Args:
            levels: (U, I), a level 0..R-1 stored for each pair, zeros stored too.
        """
        self._num_items = levels.shape[1]
        self._has_one_level = bool((levels.data == levels.data[0]).all())
        rows = np.repeat(np.arange(levels.shape[0], dtype=np.int64), np.diff(levels.indptr))
        self._keys = torch.from_numpy(rows * self._num_items + levels.indices)  # ascending, for columns are sorted
        self._levels = torch.from_numpy(levels.data.astype(np.int64))
        self.negatives = Negatives("rows", self.settings.num_negatives) if self._has_one_level else Negatives("none")

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of logits (B, R) of the batch's pairs and (B · n, R) of its negatives; returns a scalar."""
        if self._has_one_level:
            ones, zeros = (torch.full((len(x),), level, device=x.device) for x, level in ((positive, 1), (negative, 0)))
            return cross_entropy(torch.cat([positive, negative]), torch.cat([ones, zeros]))
        return cross_entropy(positive, self.levels_of(batch))

    def levels_of(self, batch: Batch) -> Tensor:
        """The levels of the batch's training pairs, int64 (B,)."""
        if self._keys.device != batch.users.device:
            self._keys, self._levels = self._keys.to(batch.users.device), self._levels.to(batch.users.device)
        wanted = batch.user_rows[batch.users] * self._num_items + batch.item_rows[batch.positives]
        return self._levels[torch.searchsorted(self._keys, wanted)]
