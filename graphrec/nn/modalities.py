"""The vectors of items (image, sound, text) as a model reads them: projected once, and mapped to D columns by training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.features.nodes import NodeFeatures, load_features
from graphrec.features.project import fit_projection
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class ModalitySettings(Settings):
    """Which features are read, and how they are made smaller."""

    modalities: list[str] = Field(default=[])
    """Names of item features in the store; empty for all that it has. With names, new items get vectors from them."""
    project: Literal["none", "pca", "whiten"] = "pca"
    """What each feature goes through first, once and in closed form, fitted on the graph's items."""
    project_dim: int = Field(default=256, ge=1)
    """Columns that it leaves, at most."""


def read_modalities(store: GraphStore, names: list[str], where: str) -> NodeFeatures:
    """Read item features, all that the store has where no name is given.

    Raises:
        ConfigError: the store has no item feature, or one that is named is not there or is unsound.
    """
    names = names or store.features("item")
    if not names:
        raise ConfigError(
            f"{where} needs vectors of items, and the store {store.folder} has no item feature; name files with "
            "[log] media, or make vectors of texts with a section [features.item.NAME], and build the store again"
        )
    return load_features(store, "item", names)


class Modalities(nn.Module):
    """m_i = W_m P(f_i) + b_m for each modality m, P the closed-form projection; which items have it is kept for every row.

    Args:
        features: of all items.
        settings: see `ModalitySettings`.
        dim: D.
        generator: source of the random start (Glorot).
    """

    def __init__(
        self, features: NodeFeatures, settings: ModalitySettings, dim: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.names, self.maps = features.names, nn.ModuleList()
        self.described = f"{features.describe()}, {features.digest}, {settings.project}, linear"
        for number, (array, mask) in enumerate(zip(features.arrays, features.masks, strict=True)):
            rows = torch.from_numpy(fit_projection(array, settings.project, settings.project_dim).apply(array))
            self.register_buffer(f"values_{number}", rows, persistent=False)  # the store has them, no checkpoint need
            self.register_buffer(f"mask_{number}", torch.from_numpy(mask), persistent=False)
            layer = nn.utils.skip_init(nn.Linear, rows.shape[1], dim)
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
            self.maps.append(layer)

    def forward(self, items: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Map rows of items, int64 (n,): for each modality the vectors (n, D) and which of them stand for a feature, bool (n,)."""
        found = []
        for number, layer in enumerate(self.maps):
            values, mask = (getattr(self, f"{kind}_{number}")[items] for kind in ("values", "mask"))
            found.append((layer(values), mask))
        return found
