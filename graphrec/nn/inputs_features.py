"""Inputs that are made of features, alone or beside id embeddings, per node type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.features.nodes import NodeFeatures, load_features
from graphrec.features.project import Projection, fit_projection
from graphrec.features.start import average_history
from graphrec.nn.feature_map import FeatureMap, FeatureMapSettings
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class FeatureSettings(FeatureMapSettings):
    """Settings of the inputs `features`."""

    item: list[str] = Field(min_length=1)
    """Names of item features in the store; all of them are used."""
    user: list[str] | Literal["history", "id"] = "history"
    """Names of user features; "history": the mean of the features of a user's training items, through the items' towers, as
    AlphaRec does; "id": a free embedding per user."""

    @model_validator(mode="before")
    @classmethod
    def _beside_items(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("item", []) != []:
            return values
        user = values.get("user")
        rule = f"beside some of items, got user = {user} alone" if isinstance(user, list) else "by name, and some of items are needed, got none"
        raise ValueError(
            f'features are read {rule}; name some of items, too, such as item = ["text"]: graphrec graph info STORE lists those of the '
            "store, and graphrec features STORE makes them"
        )


class IdFeatureSettings(FeatureSettings):
    """Settings of the inputs `id+features`."""

    user: list[str] | Literal["history", "id"] = "history"
    """As for `features`; an id embedding stands beside them for every user and item. "id" leaves users without text: they start
    at random, in a space that has nothing in common with the texts of items."""
    id_weight: float = Field(default=0.1, gt=0)
    """What id embeddings are multiplied by where a feature stands beside them. Adam moves every number by about the learning
    rate in each step, however little the loss asks for it; a small weight keeps ids from drowning the features. 0.1 did best of
    1, 0.3, 0.1 and 0.03 on held-out training events of ml-latest-small."""


class FeatureInputs(nn.Module):
    """x_i = fuse(towers of the item's features), x_u the same of the user's history or of its own features.

    Nothing is learned per item, so an item that training never saw gets a vector as good as its text.

    Source: Sheng et al. (2024), "Language representations can be what recommenders need" (AlphaRec), arXiv:2407.05441,
        eq. 1-3: item texts, and users as the mean of their items' texts, through one MLP into a linear graph convolution.
        There the features are those of one large language model and enter without PCA.

    Raises:
        ConfigError: a feature is not in the store, or is unsound.
    """

    Settings = FeatureSettings
    with_ids: ClassVar[bool] = False

    def __init__(
        self,
        num_users: int,
        num_items: int,
        dim: int,
        settings: FeatureSettings,
        generator: torch.Generator,
        item_parts: list[tuple[np.ndarray, np.ndarray]],
        user_parts: list[tuple[np.ndarray, np.ndarray]] | None,
    ) -> None:
        super().__init__()
        self.settings = settings
        free_users = settings.user == "id"
        if free_users or self.with_ids:
            self.user = nn.Parameter(torch.empty(num_users, dim).normal_(0, settings.scale, generator=generator))
        if self.with_ids:
            self.item = nn.Parameter(torch.empty(num_items, dim).normal_(0, settings.scale, generator=generator))
        ids = [None] if self.with_ids else []
        self.item_map = FeatureMap([*ids, *[rows.shape[1] for rows, _ in item_parts]], dim, settings, generator)
        self._keep("item", item_parts)
        self._keep("user", user_parts or [])
        if not free_users and settings.user != "history":
            self.user_map = FeatureMap([*ids, *[rows.shape[1] for rows, _ in user_parts]], dim, settings, generator)

    @classmethod
    def from_store(
        cls,
        store: GraphStore,
        dim: int,
        settings: FeatureSettings,
        generator: torch.Generator,
        progress: Reporter = SILENT,
    ) -> FeatureInputs:
        """Make the inputs of a store's users and items; fits the closed-form projections."""
        items = load_features(store, "item", settings.item)
        projections = _fit(items, settings)
        parts = _parts(items, projections)
        users, origin = None, "id embeddings, drawn at random"
        if settings.user == "history":
            train = store.train_matrix()
            users = [_averaged(average_history(train, rows, known)) for rows, known in parts]
            origin = f"the mean of {items.describe()} over each user's training items"
        elif settings.user != "id":
            features = load_features(store, "user", settings.user)
            users = _parts(features, _fit(features, settings))
            origin = f"{features.describe()}, {features.digest}"
        made = cls(store.num_users, store.num_items, dim, settings, generator, parts, users)
        made.projections = projections
        beside = "id embeddings, drawn at random, and " if cls.with_ids else ""
        made.origins = {
            "item": f"{beside}{items.describe()}, {items.digest}, {settings.project}, {settings.tower}, {settings.fusion}",
            "user": origin if users is None else f"{beside}{origin}",
        }
        for ntype, text in made.origins.items():
            progress.note(f"{ntype} inputs: {text}")
        return made

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the inputs of all users and items: (U, D) and (I, D)."""
        return self._user_rows(None), self._item_rows(None)

    def rows(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (u, D) and (i, D) rows that the penalty is taken on."""
        return self._user_rows(users), self._item_rows(items)

    def of_features(self, values: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Return inputs (n, D) of items that are not in the graph, from projected features; an id they do not have."""
        if self.with_ids:
            values = [values[0].new_zeros(len(values[0]), self.item.shape[1]), *values]
            masks = [masks[0].new_zeros(len(masks[0])), *masks]
        return self.item_map(values, masks)

    def _item_rows(self, rows: Tensor | None) -> Tensor:
        return self._mapped(self.item_map, "item", rows)

    def _user_rows(self, rows: Tensor | None) -> Tensor:
        if self.settings.user == "id":
            return self.user if rows is None else self.user.index_select(0, rows)
        return self._mapped(self.item_map if self.settings.user == "history" else self.user_map, "user", rows)

    def _mapped(self, to_embedding: FeatureMap, ntype: str, rows: Tensor | None) -> Tensor:
        values = [getattr(self, f"{ntype}_values_{number}") for number in range(self._count[ntype])]
        masks = [getattr(self, f"{ntype}_mask_{number}") for number in range(self._count[ntype])]
        if rows is not None:
            values, masks = [value[rows] for value in values], [mask[rows] for mask in masks]
        if self.with_ids:
            table = getattr(self, ntype)
            table = table if rows is None else table.index_select(0, rows)
            beside = torch.stack(masks).any(0)  # an id that stands alone is the whole input
            table = torch.where(beside.unsqueeze(-1), self.settings.id_weight * table, table)
            values, masks = [table, *values], [None, *masks]
        return to_embedding(values, masks)

    def _keep(self, ntype: str, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Constants of the graph: on the model's device, and in no checkpoint, for the store has them."""
        self._count = {**getattr(self, "_count", {}), ntype: len(parts)}
        for number, (rows, known) in enumerate(parts):
            self.register_buffer(f"{ntype}_values_{number}", torch.from_numpy(rows), persistent=False)
            self.register_buffer(f"{ntype}_mask_{number}", torch.from_numpy(known), persistent=False)


class IdFeatureInputs(FeatureInputs):
    """x = fuse(id embedding, towers of the features): what is known of a node, and what only its interactions tell.

    With a fusion of "sum" an item without interactions has the features' part alone.
    """

    Settings = IdFeatureSettings
    with_ids = True


def _fit(features: NodeFeatures, settings: FeatureMapSettings) -> list[Projection]:
    return [fit_projection(array, settings.project, settings.project_dim) for array in features.arrays]


def _parts(features: NodeFeatures, projections: list[Projection]) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = zip(projections, features.arrays, features.masks, strict=True)
    return [(projection.apply(array), mask) for projection, array, mask in pairs]


def _averaged(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of histories, scaled to the size of the items' rows, with who has one."""
    known = rows.any(axis=1)
    if not known.any():
        raise ConfigError('no user has an item with a feature, so user = "history" gives nothing; set user = "id"')
    size = float(np.sqrt(np.mean(rows[known].astype(np.float64) ** 2)))
    return (rows / max(size, 1e-30)).astype(np.float32), known
