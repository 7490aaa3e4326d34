"""SGL: LightGCN with BPR, and agreement between two subgraphs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graphrec.models.lightgcn import LightGCN, LightGCNSettings


class SGLSettings(LightGCNSettings):
    """Settings of SGL."""

    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "sgl", "weight": 0.005}])
    """The contrastive loss with its weight lambda1. The paper's 0.1 is for large catalogues; on a few dozen items it drives
    everything apart, so the default is gentle."""


class SGL(LightGCN):
    """LightGCN whose loss is BPR + lambda * InfoNCE between two random subgraphs.

    Source: Wu et al. 2021, SGL, arXiv:2010.10783, eq. 5, 6 and 10-12.
    """

    name = "sgl"
    Settings = SGLSettings
