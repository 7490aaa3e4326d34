"""VBPR's inputs: half of every vector is of the id, half of what the item looks, sounds or reads like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.features.nodes import NodeFeatures
from graphrec.features.project import fit_projection
from graphrec.nn.feature_map import FeatureMap, FeatureMapSettings
from graphrec.nn.modalities import ModalitySettings, read_modalities
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class VBPRSettings(ModalitySettings):
    """Settings of the inputs `vbpr`."""

    scale: float = Field(default=0.1, gt=0)
    """Standard deviation of the embeddings at the start, and root mean square of the mapped features."""


class VBPRInputs(nn.Module):
    """x_u = [g_u ; t_u], x_i = [g_i ; sum over the item's modalities of E_m f_i], each half of D / 2 columns.

    With the dot product it is s(u, i) = <g_u, g_i> + <t_u, E f_i>. An item without any feature has a learned vector in its place.

    Source: He and McAuley 2016, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback", arXiv:1510.01784, eq. 4. Without
    the bias of items and the visual bias, with any number of modalities, and features go through PCA first.

    Raises:
        ConfigError: D is odd.
    """

    Settings = VBPRSettings

    def __init__(
        self, num_users: int, features: NodeFeatures, dim: int, settings: VBPRSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        if dim % 2:
            raise ConfigError(f"inputs vbpr: embedding_dim must be even, half for ids and half for features, got {dim}")
        half, num_items = dim // 2, len(features.masks[0])
        self.user = nn.Parameter(torch.empty(num_users, dim).normal_(0, settings.scale, generator=generator))
        self.item = nn.Parameter(torch.empty(num_items, half).normal_(0, settings.scale, generator=generator))
        arrays = [
            fit_projection(array, settings.project, settings.project_dim).apply(array) for array in features.arrays
        ]
        tower = FeatureMapSettings(tower="linear", scale=settings.scale)
        self.item_map = FeatureMap([rows.shape[1] for rows in arrays], half, tower, generator)
        for number, (rows, mask) in enumerate(zip(arrays, features.masks, strict=True)):
            self.register_buffer(f"values_{number}", torch.from_numpy(rows), persistent=False)
            self.register_buffer(f"mask_{number}", torch.from_numpy(mask), persistent=False)

    @classmethod
    def from_store(
        cls,
        store: GraphStore,
        dim: int,
        settings: VBPRSettings,
        generator: torch.Generator,
        progress: Reporter = SILENT,
    ) -> VBPRInputs:
        """Make the inputs of a store's users and items."""
        features = read_modalities(store, settings.modalities, "inputs vbpr")
        made = cls(store.num_users, features, dim, settings, generator)
        made.origins = {
            "item": f"id embeddings, drawn at random, and {features.describe()}, {features.digest}, {settings.project}, linear",
            "user": "id embeddings, drawn at random",
        }
        progress.note(f"item inputs: {made.origins['item']}")
        return made

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the inputs of all users and items: (U, D) and (I, D)."""
        return self.user, self._items(slice(None))

    def rows(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (u, D) and (i, D) rows that the penalty is taken on."""
        return self.user.index_select(0, users), self._items(items)

    def _items(self, rows: Tensor | slice) -> Tensor:
        values, masks = (
            [getattr(self, f"{kind}_{number}")[rows] for number in range(len(self.item_map.towers))]
            for kind in ("values", "mask")
        )
        return torch.cat([self.item[rows], self.item_map(values, masks)], 1)
