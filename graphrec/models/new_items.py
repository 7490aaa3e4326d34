"""Vectors of items that training never saw, from their features: what a trained model keeps to make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.features.nodes import load_features
from graphrec.features.project import Projection, fit_projection, given
from graphrec.models.ridge import Ridge, fit_ridge
from graphrec.nn.feature_map import FeatureMap

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_PREFIX = "new_items."
_ITEMS = 50_000  # that the regression is fitted on, at most
_COLUMNS = 256  # of a feature that enter the regression; as many as the sentence encoders here have


class NewItems:
    """vector = [towers(f); PCA(f)] W + b, a ridge regression fitted on the trained vectors of the graph's items.

    An item without edges gets from the encoder only its own part, not what neighbours would add, so the towers' output alone
    would be another kind of vector than that of trained items. The regression says what trained vectors go with such features.
    Models whose id embeddings only start from features have no towers; the regression then starts from the features.

    Args:
        names: of the item features that the model uses.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._towers: FeatureMap | None = None
        self._inner: list[Projection] = []

    def prepare(self, store: GraphStore, inputs: nn.Module) -> None:
        """Read the features of the graph's items and remember the inputs that hold the towers, if any.

        Raises:
            ConfigError: a feature is not there, or unsound.
        """
        features = load_features(store, "item", self.names)
        self._arrays, self._inputs = list(features.arrays), inputs
        self._projections = [fit_projection(array, "pca", _COLUMNS) for array in features.arrays]

    @torch.inference_mode()
    def fit(self, vectors: Tensor) -> None:
        """Fit the regression on the trained vectors of items, float32 (I, D)."""
        if hasattr(self._inputs, "of_features"):
            towers = self._inputs.item_map
            self._inner = list(self._inputs.projections)
            self._towers = FeatureMap(towers.widths, vectors.shape[1], towers.settings, torch.Generator())
            if towers.missing.shape[1] != vectors.shape[1]:  # an encoder that changes the width; the towers keep theirs
                self._towers = FeatureMap(towers.widths, towers.missing.shape[1], towers.settings, torch.Generator())
            self._towers.load_state_dict({name: value.cpu() for name, value in towers.state_dict().items()})
        known = np.flatnonzero(np.any([given(array) for array in self._arrays], axis=0))
        if len(known) > _ITEMS:  # evenly spread; more rows than this change nothing but memory
            known = known[np.linspace(0, len(known) - 1, _ITEMS).astype(np.int64)]
        self._ridge = fit_ridge(self._base([array[known] for array in self._arrays]), vectors.numpy()[known])

    @torch.inference_mode()
    def vectors(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return vectors of new items.

        Args:
            features: the item's features by the names the model uses, float32 (n, F_m); a row of zeros is a missing one.

        Returns:
            float32 (n, D); NaN in the rows of items that have none of the features.

        Raises:
            ConfigError: a feature is missing, of another width or not finite.
        """
        arrays = []
        for name, projection in zip(self.names, self._projections, strict=True):
            width = len(projection.mean)
            if name not in features:
                raise ConfigError(
                    f"new items need the feature {name!r}, which the model was trained on, got {list(features)}"
                )
            array = np.asarray(features[name], dtype=np.float32)
            if array.ndim != 2 or array.shape[1] != width or not np.isfinite(array).all():
                raise ConfigError(
                    f"the feature {name!r} of new items must be finite and have {width} columns as in training, got shape "
                    f"{array.shape}; encode it with the same encoder"
                )
            arrays.append(array)
        made = self._ridge.predict(self._base(arrays))
        made[~np.any([given(array) for array in arrays], axis=0)] = np.nan
        return made

    def state(self) -> dict[str, Any]:
        """The learned arrays, by names that begin with `new_items.`."""
        found: dict[str, Any] = {"weight": self._ridge.weight, "bias": self._ridge.bias}
        for kind, projections in (("pca", self._projections), ("inner", self._inner)):
            for number, projection in enumerate(projections):
                found[f"{kind}.{number}.mean"], found[f"{kind}.{number}.matrix"] = projection.mean, projection.matrix
        if self._towers is not None:
            found |= {f"towers.{name}": value for name, value in self._towers.state_dict().items()}
        return {_PREFIX + name: value for name, value in found.items()}

    def restore(self, state: Mapping[str, Tensor], settings: Any) -> None:
        """Take over what `state` gave; `settings` are those of the inputs.

        Raises:
            KeyError: a part is missing.
        """
        own = {name.removeprefix(_PREFIX): value.clone() for name, value in state.items() if name.startswith(_PREFIX)}
        self._ridge = Ridge(own["weight"].numpy(), own["bias"].numpy())
        self._projections, self._inner = (
            [Projection(own[f"{kind}.{number}.mean"].numpy(), own[f"{kind}.{number}.matrix"].numpy())
             for number in range(len(self.names)) if f"{kind}.{number}.mean" in own]
            for kind in ("pca", "inner")
        )  # fmt: skip
        towers = {name.removeprefix("towers."): value for name, value in own.items() if name.startswith("towers.")}
        if towers:
            widths: list[int | None] = [projection.matrix.shape[1] for projection in self._inner]
            widths = [None] * (len(towers["missing"]) - len(widths)) + widths  # the id embedding comes first
            self._towers = FeatureMap(widths, towers["missing"].shape[1], settings, torch.Generator())
            self._towers.load_state_dict(towers)

    def _base(self, arrays: list[np.ndarray]) -> np.ndarray:
        """What the regression starts from, float32 (n, F)."""
        pairs = list(zip(self._projections, arrays, strict=True))
        parts = [projection.apply(array) for projection, array in pairs]  # centred: a missing one counts as the mean
        if self._towers is not None:
            values = [torch.from_numpy(p.apply(array)) for p, array in zip(self._inner, arrays, strict=True)]
            masks = [torch.from_numpy(given(array)) for array in arrays]
            if self._towers.widths[0] is None:  # no id
                values = [values[0].new_zeros(len(values[0]), self._towers.missing.shape[1]), *values]
                masks = [torch.zeros_like(masks[0]), *masks]
            parts.insert(0, self._towers(values, masks).numpy())
        return np.concatenate(parts, axis=1)
