"""UltraGCN: id embeddings and constraint losses in the place of message passing."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings


class UltraGCNSettings(TrainedSettings):
    """Settings of UltraGCN, for small logs; `examples/runs/ultragcn.toml` has those of its public code for Gowalla."""

    inputs: dict[str, Any] = Field(default={"name": "id", "scale": 1e-4})
    """A start close to zero, as in its public code."""
    loss: dict[str, Any] = Field(default={"name": "ultragcn"})
    """The user-item constraint; see `graphrec.losses.constraint.UltraGCN`."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "item-graph", "weight": 1.0}])
    """The item-item constraint with its weight lambda; 5e-4 is the public setting for Gowalla, and 1 suits a small log."""


class UltraGCN(TrainedRecommender):
    """s(u, i) = <x_u, x_i>, learned with pairs weighted by degrees and a constraint on the item-item graph.

    Source: Mao et al. 2021, UltraGCN, arXiv:2110.15114, eq. 7, 10 and 13. Losses are means over the batch's pairs where the
    paper has sums.
    """

    name = "ultragcn"
    Settings = UltraGCNSettings
