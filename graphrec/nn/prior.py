"""A cosine head that gives popularity back when it ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from graphrec.nn.heads import CosineHead
from graphrec.settings import Settings


class CosinePriorSettings(Settings):
    """Settings of the cosine head with a popularity prior."""

    search: ClassVar[Mapping[str, Any]] = {"popularity": {"low": 0.0, "high": 0.5}}

    temperature: float = Field(default=1.0, gt=0)
    """Scores are divided by this in training; leave it at 1 with a loss that has a temperature of its own."""
    popularity: float = Field(default=0.1, ge=0)
    """w, of the logarithm of popularity against the cosine when ranking; near the temperature of the softmax in theory."""


class CosinePriorHead(CosineHead):
    """The cosine in training, and s(u, i) = cos(e_u, e_i) + w log(d_i + 1) to rank, d_i the training interactions of i.

    A softmax of temperature t against negatives drawn with probability q learns cos / t = log p(i | u) - log q(i) + const, and
    in-batch negatives are drawn by popularity. Ranking by p(i | u) itself therefore needs t log q(i) added: w near t. The
    prior is one more entry of each item's vector (and a 1 in each user's), so that vectors have D + 1 entries, inner products
    still rank, and export and retrieval need to know nothing of it.

    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", arXiv:2007.07314, eq. 9, the other way round: there
    the prior is taken out of a model that has learned it, here it is given back to one that has been trained without.
    """

    Settings = CosinePriorSettings

    def __init__(
        self, settings: CosinePriorSettings | None = None, dim: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(None, dim, generator)
        self.settings = settings or CosinePriorSettings()
        self._prior: Tensor | None = None

    def observe(self, train: sp.csr_matrix) -> None:
        """Count the interactions of the items of a training matrix (U, I)."""
        self._prior = torch.from_numpy(np.log1p(np.bincount(train.indices, minlength=train.shape[1])))

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (U, D + 1) and (I, D + 1); the cosine alone, (U, D) and (I, D), before `observe`."""
        self._check("ranking_vectors", user, item)
        user, item = normalize(user, dim=-1), normalize(item, dim=-1)
        if self._prior is None:
            return user, item
        if len(item) != len(self._prior):
            raise ValueError(f"CosinePriorHead.ranking_vectors: items must be all {len(self._prior)} observed, got {len(item)} rows")
        prior = (self.settings.popularity * self._prior).to(item)
        return torch.cat([user, user.new_ones(len(user), 1)], 1), torch.cat([item, prior[:, None]], 1)
