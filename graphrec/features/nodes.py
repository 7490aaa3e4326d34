"""Features of a store, checked, as the inputs of a model take them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrec.errors import ConfigError, nearest, shell_word
from graphrec.features.project import given
from graphrec.graph.arrays import unfit
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


@dataclass(frozen=True)
class NodeFeatures:
    """The features of one node type that a model uses.

    Attributes:
        ntype: the node type.
        names: of the features, M of them.
        arrays: float32 (n, F_m) per feature.
        masks: bool (n,) per feature, false where a node has none (a row of zeros).
        encoders: what made each, from its provenance.
    """

    ntype: str
    names: tuple[str, ...]
    arrays: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]
    encoders: tuple[Any, ...]

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of all values."""
        found = hashlib.sha256()
        for array in self.arrays:
            found.update(array.tobytes())
        return found.hexdigest()[:12]

    def describe(self) -> str:
        """Return names, widths and how many nodes have each: "item.text (256 columns, 1,424 of 1,424 rows)"."""
        parts = zip(self.names, self.arrays, self.masks, strict=True)
        return ", ".join(
            f"{self.ntype}.{name} ({array.shape[1]} columns, {int(mask.sum()):,} of {len(mask):,} rows)"
            for name, array, mask in parts
        )


def load_features(store: GraphStore, ntype: str, names: Sequence[str], rows: int | None = None) -> NodeFeatures:
    """Read features from a store and check them.

    Args:
        store: the store.
        ntype: "item", "user" or `graphrec.graph.sides.NEW_ITEMS`.
        names: of its features, at least one.
        rows: how many they must have; None means the nodes of the type.

    Raises:
        ConfigError: the store has no such feature, or it is of another shape, not numeric, NaN, or empty in every row.
        StoreError: a file is damaged.
    """
    have = store.features(ntype)
    if len(set(names)) < len(names):
        raise ConfigError(f"inputs {ntype}: every feature may be named once, got {list(names)}")
    rows = len(store.ids(ntype)) if rows is None else rows
    arrays, encoders = [], []
    for name in names:
        if name not in have:
            raise ConfigError(
                f"inputs {ntype}: the store {store.folder} has no feature {ntype}.{name}; it has "
                f"{', '.join(have) or 'none'}{nearest(name, have)}; make it with a section [features.{ntype}.{name}] "
                f"and: graphrec features {shell_word(store.folder)}"
            )
        array, provenance = store.feature(ntype, name)
        arrays.append(_checked(array, f"{ntype}.{name}", rows, store))
        encoders.append(provenance.get("encoder"))
    masks = tuple(given(array) for array in arrays)
    return NodeFeatures(ntype, tuple(names), tuple(arrays), masks, tuple(encoders))


def note_unused_features(store: GraphStore, progress: Reporter) -> None:
    """Say aloud that the store has features and the model uses none of them."""
    found = {ntype: store.features(ntype) for ntype in ("item", "user") if store.features(ntype)}
    if found:
        names = ", ".join(f"{ntype}.{name}" for ntype, names in found.items() for name in names)
        progress.note(f"the store's features {names} are not used; a model takes them with {as_inputs(found)}")


def as_inputs(features: Mapping[str, Sequence[str]]) -> str:
    """The line of a run file's [model] that reads features, by node type."""
    with_item = {"item": ["..."], **features}  # inputs of features want some of items
    named = ", ".join(f"{ntype} = {json.dumps(list(names))}" for ntype, names in with_item.items())
    return f'inputs = {{name = "id+features", {named}}}'


def _checked(array: np.ndarray, name: str, rows: int, store: GraphStore) -> np.ndarray:
    again = f"write it again with: graphrec features {shell_word(store.folder)}"
    if (wrong := unfit(array, rows)) is not None:
        raise ConfigError(f"the feature {name} {wrong}; {again}")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if rows and not array.any():
        raise ConfigError(f"the feature {name} is zero, that is not given, in all {rows:,} rows; {again}")
    return array
