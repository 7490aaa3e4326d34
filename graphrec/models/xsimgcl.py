"""XSimGCL: SimGCL with the noise in the main pass, contrasted with one of its own layers."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from graphrec.models.simgcl import SimGCL, SimGCLSettings


class XSimGCLSettings(SimGCLSettings):
    """Settings of XSimGCL."""

    contrast_layer: int = Field(default=1, ge=1)
    """l*, the layer that the mean is contrasted with, at most `num_layers`; 1 is the public setting for Yelp2018."""
    noise: float = Field(default=0.2, ge=0)
    """epsilon, length of the noise in each layer; 0.2 is the public setting for Yelp2018."""
    auxiliary: list[dict[str, Any]] = Field(default=[{"name": "xsimgcl", "weight": 0.2}])
    """The contrastive loss with its weight lambda; 0.2 is the paper's choice for Yelp2018."""

    @model_validator(mode="after")
    def _layer_exists(self) -> XSimGCLSettings:
        if self.contrast_layer > self.num_layers:
            raise ValueError(f"contrast_layer must be at most num_layers = {self.num_layers}, got {self.contrast_layer}")
        return self


class XSimGCL(SimGCL):
    """SimGCL in one pass: noise disturbs the pass that BPR sees, and InfoNCE holds its mean against its layer l*.

    Source: Yu et al. 2023, XSimGCL, arXiv:2209.02544, eq. 10-12.
    """

    name = "xsimgcl"
    Settings = XSimGCLSettings

    def _specs(self) -> dict[str, dict[str, Any]]:
        specs = super()._specs()
        return {**specs, "encoder": {**specs["encoder"], "contrast_layer": self.settings.contrast_layer}}
