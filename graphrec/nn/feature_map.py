"""From features to embeddings, learned: a tower per feature, and their fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.settings import Settings


class FeatureMapSettings(Settings):
    """How features become embeddings."""

    project: Literal["none", "pca", "whiten", "random"] = "pca"
    """What each feature goes through first, once and in closed form, fitted on the graph's nodes."""
    project_dim: int = Field(default=256, ge=1)
    """Columns that it leaves, at most."""
    tower: Literal["linear", "mlp"] = "mlp"
    """What is learned per feature; "mlp" has one hidden layer, as in AlphaRec."""
    hidden: int = Field(default=128, ge=1)
    """Units of the hidden layer."""
    fusion: Literal["sum", "concat", "gate", "attention"] = "sum"
    """How several features, and the id embedding where there is one, become one vector."""
    scale: float = Field(default=0.1, gt=0)
    """Root mean square of the embeddings at the start; LightGCN's public default for its ids."""


class FeatureMap(nn.Module):
    """x = fuse(t_1(f_1), ..., t_M(f_M)), over the features that a node has.

    With t_m a linear map or W_2 leaky_relu(W_1 f + b_1) + b_2, and M the features that the node has:

        sum        x = sum_m t_m
        concat     x = W [t_1; ...; t_M] + b, a learned vector standing for a missing one
        gate       x = sum_m sigmoid(v_m . t_m + c_m) t_m
        attention  x = sum_m softmax_m(q . tanh(W t_m)) t_m

    A node that has none of them gets a learned vector of its own kind; zeros are never taken for values.

    Args:
        widths: columns of each feature, M numbers. A width of None is a vector of D numbers that has its tower already:
            the id embedding.
        dim: D.
        settings: see `FeatureMapSettings`.
        generator: source of the random start.

    Source: the tower is that of Sheng et al. (2024), AlphaRec, arXiv:2407.05441, eq. 2, there for one feature; gate and attention
        are the usual late fusions of multi-modal recommendation, e.g. Wei et al. (2019), MMGCN.
    """

    def __init__(
        self, widths: Sequence[int | None], dim: int, settings: FeatureMapSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.settings, self.widths = settings, tuple(widths)
        self.towers = nn.ModuleList(_tower(width, dim, settings, generator) for width in widths)
        self.missing = nn.Parameter(torch.empty(len(widths), dim).normal_(0, settings.scale, generator=generator))
        if settings.fusion == "concat":
            self.join = _linear(len(widths) * dim, dim, 1.0, generator)
        elif settings.fusion == "gate":
            self.gate = nn.Parameter(torch.zeros(len(widths), dim))
            self.gate_bias = nn.Parameter(torch.zeros(len(widths)))
        elif settings.fusion == "attention":
            self.key = _linear(dim, dim, 1.0, generator)
            self.query = nn.Parameter(torch.empty(dim).normal_(0, dim**-0.5, generator=generator))

    def forward(self, values: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
        """Map features (n, F_m) with masks bool (n,), None where every node has the feature, to embeddings (n, D)."""
        made = torch.stack([tower(value) for tower, value in zip(self.towers, values, strict=True)], dim=1)  # (n, M, D)
        have = torch.stack(
            [
                value.new_ones(len(value), dtype=torch.bool) if mask is None else mask
                for value, mask in zip(values, masks, strict=True)
            ],
            dim=1,
        )  # fmt: skip  (n, M)
        made = torch.where(have.unsqueeze(-1), made, self.missing)
        weight = have.to(made.dtype)
        fusion = self.settings.fusion
        if fusion == "concat":
            return self.join(made.flatten(1))
        if fusion == "gate":
            weight = weight * torch.sigmoid((made * self.gate).sum(-1) + self.gate_bias)
        elif fusion == "attention":
            score = torch.tanh(self.key(made)) @ self.query  # (n, M)
            score = score.masked_fill(~have, torch.finfo(score.dtype).min)
            weight = weight * torch.softmax(score, dim=1)
        fused = (weight.unsqueeze(-1) * made).sum(1)
        return torch.where(have.any(1, keepdim=True), fused, self.missing.mean(0))


def _tower(width: int | None, dim: int, settings: FeatureMapSettings, generator: torch.Generator) -> nn.Module:
    if width is None:
        return nn.Identity()
    if settings.tower == "linear":
        return _linear(width, dim, settings.scale, generator)
    # A leaky ReLU halves the mean square, or nearly so: the first layer makes up for it.
    first = _linear(width, settings.hidden, 2**0.5, generator)
    return nn.Sequential(first, nn.LeakyReLU(), _linear(settings.hidden, dim, settings.scale, generator))


def _linear(inputs: int, outputs: int, scale: float, generator: torch.Generator) -> nn.Linear:
    """A linear layer that turns inputs of mean square one into outputs of mean square scale^2."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0, scale * inputs**-0.5, generator=generator)
        layer.bias.zero_()
    return layer
