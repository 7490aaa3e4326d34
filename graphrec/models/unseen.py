"""What a trained model does for users and items that training never saw: a part of `TrainedRecommender`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from graphrec.errors import ConfigError, UnsupportedError
from graphrec.models.fold_in import FoldIn

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue
    from graphrec.models.new_items import NewItems
    from graphrec.models.residual import Residual


class Unseen:
    """New users by fold-in, new items by their features; nothing is trained."""

    name: str
    catalogue: Catalogue
    _parts: dict[str, Any]
    _vectors: tuple[Tensor, Tensor] | None
    _folding: FoldIn | None
    _new_items: NewItems | None
    _residual: Residual | None

    @torch.inference_mode()
    def fold_in_vectors(self, vectors: np.ndarray) -> Tensor:
        """Score all items for new users who chose one item each, given by its vector and not by its id.

        Args:
            vectors: float32 (B, D), as `item_vectors` makes them.

        Returns:
            float32 (B, I); of a model with a residual the trained part of its scores.
        """
        return self.score_vectors(self._folded().of_means(vectors, 1))

    @torch.inference_mode()
    def score_vectors(self, vectors: np.ndarray) -> Tensor:
        """Score all items for new users given by vectors like `embeddings()["user"]`.

        Args:
            vectors: float32 (B, D).

        Returns:
            float32 (B, I); of a model with a residual the trained part of its scores.
        """
        scores = self._scores_of(torch.from_numpy(vectors))
        return scores if self._residual is None else self._residual.alone(scores)

    def _folded(self) -> FoldIn:
        if self._folding is None:
            user, item = (part.numpy() for part in self._vectors)
            self._folding = FoldIn(user, item, self.catalogue.seen_matrix())
        return self._folding

    @torch.inference_mode()
    def _fold_in(self, histories: sp.csr_matrix) -> Tensor:
        scores = self._scores_of(torch.from_numpy(self._folded().vectors(histories)))
        return scores if self._residual is None else self._residual.add_for_new(scores, histories)

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the item features that the model uses; `add_items` and `item_vectors` need them. Empty where it has none."""
        return self._new_items.names if self._new_items else ()

    def item_vectors(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return vectors of items that training never saw, from their features; see `graphrec.models.new_items.NewItems`.

        Args:
            features: float32 (n, F) per name of `item_features`; a row of zeros is a missing one.

        Returns:
            float32 (n, D), comparable with `embeddings()["item"]`; NaN for an item that has none of the features.

        Raises:
            UnsupportedError: the model uses no item features.
            ConfigError: a feature is missing, of another width or not finite.
        """
        if not self._new_items:
            raise UnsupportedError(
                f"this {self.name} model learned nothing from item features, so it has no vector for a new item; train it "
                'with inputs = {name = "id+features", item = [...]}'
            )
        _ = self.catalogue
        made = torch.from_numpy(self._new_items.vectors(features))
        if self._parts["head"].resolved.get("ranking") == "cosine":  # there all vectors that rank have length one
            made = nn.functional.normalize(made, dim=1)
        return made.numpy()

    def add_items(self, ids: pl.Series, features: Mapping[str, np.ndarray], titles: list[str] | None = None) -> int:
        """Add items without any event to the catalogue, from their features alone; nothing is trained.

        They are recommended, found by `similar`, exported and saved like all others from then on.

        Args:
            ids: original ids, distinct and not in the catalogue.
            features: as in `item_vectors`.
            titles: a title per item.

        Returns:
            How many were added: those that have at least one of the features.

        Raises:
            UnsupportedError: the model uses no item features, or has a residual, which knows only the items of its graph.
            ConfigError: an id is in the catalogue already or comes twice, or a feature does not fit.
        """
        return self._add_vectors(ids, self.item_vectors(features), titles)

    def _add_vectors(self, ids: pl.Series, made: np.ndarray, titles: list[str] | None) -> int:
        """Add items by their vectors (n, D), those that are NaN left out; the rest as `add_items`."""
        if self._residual is not None:
            raise UnsupportedError(
                "a model with a residual cannot take new items: its closed-form part has no score for them"
            )
        known = np.isfinite(made).all(axis=1)
        dtype, asked = self.catalogue.items.dtype, ids
        ids = ids.cast(dtype, strict=False)
        if ids.null_count():
            raise ConfigError(
                f"ids of new items must be {dtype} as in the catalogue, got {asked.filter(ids.is_null())[0]!r}"
            )
        if len(ids) != len(made) or ids.n_unique() < len(ids) or (self.catalogue.items.find(ids) >= 0).any():
            raise ConfigError(
                f"new items need distinct ids that the catalogue does not have, one per row of features, got {len(ids)} ids for "
                f"{len(made)} rows, {int((self.catalogue.items.find(ids) >= 0).sum())} of them known"
            )
        titles = None if titles is None else [title for title, keep in zip(titles, known, strict=True) if keep]
        self.catalogue, old, new = self.catalogue.with_items(ids.filter(pl.Series(known)), titles)
        item = torch.empty(len(old) + len(new), made.shape[1])
        item[torch.from_numpy(old)], item[torch.from_numpy(new)] = self._vectors[1], torch.from_numpy(made[known])
        self._vectors, self._folding = (self._vectors[0], item), None
        return int(known.sum())
