"""Hierarchical mutual information: a user agrees with the own hyperedges, and these with the whole channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from graphrec.errors import ConfigError
from graphrec.losses.batch import Negatives
from graphrec.losses.step import Step
from graphrec.settings import Settings


class HierarchicalMutualInformationSettings(Settings):
    """The hierarchical mutual information has nothing to set."""

    search: ClassVar[Mapping[str, Any]] = {"weight": {"low": 1e-4, "high": 0.1, "log": True}}


class HierarchicalMutualInformation:
    """Auxiliary loss of the hypergraph encoder, the mean over users, the sum over channels:

        softplus(f(e~, h) - f(e, h)) + softplus(f(e~~, h) - f(e~, h)) + softplus(f(h~, g) - f(h, g))

    with f the dot product, e the users, h = H e what their hyperedges hold, g the mean of h; e~ is e with its rows
    shuffled, e~~ and h~ are shuffled in rows and columns.

    Source: Yu et al. 2021, MHCN, arXiv:2101.06448, section 3.3, eq. 8-9; the mean over users replaces the sum, so the weight
    does not depend on the size of the data.
    """

    Settings = HierarchicalMutualInformationSettings

    def __init__(self, settings: HierarchicalMutualInformationSettings | None = None) -> None:
        self.settings = settings or HierarchicalMutualInformationSettings()

    def check_encoder(self, encoder: nn.Module, negatives: Negatives) -> None:
        """Raise ConfigError where the encoder has no hypergraph channels."""
        if not hasattr(encoder, "channel_views"):
            raise ConfigError(
                f"the auxiliary loss hierarchical-mi compares hypergraph channels, and {type(encoder).__name__} has none; "
                'set encoder = "mhcn", or leave the loss out'
            )

    def __call__(self, step: Step) -> Tensor:
        """Take the loss on all users; returns a scalar."""
        return sum(_channel_loss(own, edge) for own, edge in step.encoder.channel_views(step.user_x))


def _channel_loss(own: Tensor, edge: Tensor) -> Tensor:
    near = _shuffled(own, columns=False)
    graph = edge.mean(0)  # (D,)
    positive, middle, far = ((one * edge).sum(1) for one in (own, near, _shuffled(own)))
    local = softplus(middle - positive) + softplus(far - middle)
    return (local + softplus((_shuffled(edge) - edge) @ graph)).mean()


def _shuffled(x: Tensor, columns: bool = True) -> Tensor:
    x = x.index_select(0, torch.randperm(len(x), device=x.device))  # x[...] sorts the places for its gradient
    return x.index_select(1, torch.randperm(x.shape[1], device=x.device)) if columns else x
