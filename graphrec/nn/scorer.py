"""The scoring network of a second-stage ranker: a perceptron over a user, its candidates and the pairs."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.tower import Tower, he_normal
from graphrec.settings import Settings


class ScorerSettings(Settings):
    """Settings of the scoring network."""

    hidden: tuple[int, ...] = Field(default=(64, 32), min_length=1)
    """Widths of the hidden layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of hidden values dropped in training mode."""


class CandidateScorer(nn.Module):
    """s(u, i) = a r(u, i) + MLP(x_u, x_i, x_ui), r being the first column of x_ui.

    The last layer starts at zero and a at one, so the order starts as that of r, the retrieval score. The first layer is
    a sum of three parts; on indicator columns its weights are an embedding table of the values.

    Args:
        settings: layers.
        sizes: number of columns of x_u, x_i and x_ui.
        generator: source of the random start.

    Source: the wide and deep parts of Cheng et al. 2016, Wide and deep learning for recommender systems, arXiv:1606.07792,
        section 3; here the wide part is the retrieval score alone.
    """

    def __init__(self, settings: ScorerSettings, sizes: tuple[int, int, int], generator: torch.Generator) -> None:
        super().__init__()
        first = settings.hidden[0]
        self.parts = nn.ParameterList([he_normal((first, size), sum(sizes), generator) for size in sizes])
        self.tower = Tower(settings.hidden, settings.dropout, generator)
        self.last = nn.Parameter(torch.zeros(settings.hidden[-1]))
        self.retrieval = nn.Parameter(torch.ones(()))

    def forward(self, user: Tensor, item: Tensor, pair: Tensor) -> Tensor:
        """Score candidates: (B, Fu), (B, N, Fi) and (B, N, Fp) give (B, N)."""
        of_user, of_item, of_pair = self.parts
        first = (user @ of_user.T).unsqueeze(1) + item @ of_item.T + pair @ of_pair.T  # (B, N, H)
        return self.retrieval * pair[..., 0] + self.tower(first) @ self.last
