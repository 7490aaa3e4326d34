"""A tower of ReLU layers whose first layer is summed up by the caller, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Tower(nn.Module):
    """h_1 = ReLU(z + b_1), h_l = ReLU(W_l h_(l-1) + b_l), with dropout after each.

    Args:
        hidden: widths H_1 ... H_L.
        dropout: share of hidden values dropped in training mode.
        generator: source of the random start.
    """

    def __init__(self, hidden: Sequence[int], dropout: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weights = nn.ParameterList([he_normal((out, width), width, generator) for width, out in pairwise(hidden)])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(width)) for width in hidden])
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor) -> Tensor:
        """Take z (..., H_1), the first layer before its bias, to h_L (..., H_L)."""
        first_bias, *biases = self.biases
        hidden = self.dropout((first + first_bias).relu())
        for weight, bias in zip(self.weights, biases, strict=True):
            hidden = self.dropout((hidden @ weight.T + bias).relu())
        return hidden


def he_normal(shape: tuple[int, int], fan_in: int, generator: torch.Generator | None) -> nn.Parameter:
    """A weight drawn from N(0, 2 / fan_in), which keeps the spread of values through ReLU layers.

    Source: He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852, eq. 10.
    """
    return nn.Parameter(torch.randn(shape, generator=generator) * (2 / max(1, fan_in)) ** 0.5)
