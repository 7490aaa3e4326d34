"""The max-margin loss, with negatives that get harder from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor

from graphrec.losses.batch import Batch, Negatives
from graphrec.settings import Settings


class MaxMarginSettings(Settings):
    """Settings of the max-margin loss."""

    search: ClassVar[Mapping[str, Any]] = {"margin": {"low": 0.05, "high": 1.0, "log": True}}

    margin: float = Field(default=0.3, gt=0)
    """By how much a positive should score above a negative, in units of the score."""
    num_negatives: int = Field(default=6, ge=1)
    """Negatives of each positive."""
    hard_negatives: int = Field(default=2, ge=0)
    """How many of them become hard ones: epoch n, counted from 1, has the first min(n - 1, hard_negatives) of them. The paper
    goes on adding one in each epoch."""

    @model_validator(mode="after")
    def _some_stay(self) -> MaxMarginSettings:
        if self.hard_negatives > self.num_negatives:
            raise ValueError(f"hard_negatives must be at most num_negatives = {self.num_negatives}, got {self.hard_negatives}")
        return self


class MaxMargin:
    """A positive should score above a negative by a margin.

    L = mean over (u, i, j) of max(0, s(u, j) - s(u, i) + margin)

    Hard negatives are items that random walks from the user meet, but less often than its important ones, and that the user
    has not chosen (`graphrec.training.negatives`).

    Source: Ying et al. 2018, PinSAGE, arXiv:1806.01973, eq. 1 and section 3.3. There uniform negatives are shared by a batch
    and hard ones are of the ranks 2,000 to 5,000 by personalised PageRank.
    """

    Settings = MaxMarginSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: MaxMarginSettings | None = None) -> None:
        self.settings = settings or MaxMarginSettings()
        self.negatives = Negatives("rows", self.settings.num_negatives, self.settings.hard_negatives)

    def __call__(self, positive: Tensor, negative: Tensor, batch: Batch) -> Tensor:
        """Take the loss of scores (B,) and (B, n); returns a scalar."""
        return (negative - positive.unsqueeze(-1) + self.settings.margin).clamp_min(0).mean()
