"""Feature arrays of a store: one safetensors file each, with provenance and a digest in its header.

A file is replaced by one rename and checks itself, so a feature can be added after the build without touching the
manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from graphrec.atomic import atomic_file
from graphrec.errors import ConfigError, StoreError

_SUFFIX = ".safetensors"


def feature_path(folder: Path, ntype: str, name: str) -> Path:
    """Return where a feature lies; names that would leave the folder are refused."""
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise ConfigError(f"a feature name has letters, digits, '-' and '_', got {name!r}; rename it")
    return folder / "features" / f"{ntype}.{name}{_SUFFIX}"


def write_feature(folder: Path, ntype: str, name: str, array: np.ndarray, provenance: dict[str, Any]) -> None:
    """Write one feature file: the array, and its provenance and digest in the header, so that one rename changes all."""
    array = np.ascontiguousarray(array)
    metadata = {"provenance": json.dumps(provenance), "sha256": _array_digest(array)}
    with atomic_file(feature_path(folder, ntype, name), StoreError) as temporary:
        save_file({"feature": array}, temporary, metadata=metadata)


def unfit(array: np.ndarray, rows: int) -> str | None:
    """Return what keeps an array from being a feature of so many nodes, to follow its name in a message; None where nothing does."""
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        return f"must be numbers of shape ({rows}, F), got {array.dtype} {array.shape}"
    if len(array) != rows:
        return f"must have a row for each of {rows:,} nodes, got {len(array):,}"
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(array.astype(np.float32, copy=False)).all(axis=1))  # models read it so
    if len(bad):
        return f"must be finite, got NaN or infinity in {len(bad):,} of {rows:,} rows, the first is row {bad[0]}"
    return None


def read_feature(folder: Path, ntype: str, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a feature array and its provenance.

    Raises:
        StoreError: the file is missing, damaged, or was edited; the message names it.
    """
    path = feature_path(folder, ntype, name)
    array, provenance, digest = _read(path, lambda file: file.get_tensor("feature"))
    if _array_digest(array) != digest:
        raise StoreError(f"{path} was changed after it was written (its SHA-256 differs); add the feature again")
    return array, provenance


def read_provenance(folder: Path, ntype: str, name: str) -> dict[str, Any]:
    """Return the provenance of a feature without reading its values.

    Raises:
        StoreError: the file is missing or damaged; the message names it.
    """
    return _read(feature_path(folder, ntype, name), lambda file: None)[1]


def _read(path: Path, values: Callable[[Any], Any]) -> tuple[Any, dict[str, Any], str]:
    """What `values` takes from a feature file, the provenance, and the digest that the array should have."""
    try:
        with safe_open(path, framework="numpy") as file:
            found, metadata = values(file), file.metadata()
        return found, json.loads(metadata["provenance"]) or {}, metadata["sha256"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as problem:
        raise StoreError(f"{path} is missing or damaged: {problem}; add the feature again") from problem


def list_features(folder: Path, ntype: str) -> list[str]:
    """Return the names of the features of a node type, sorted."""
    prefix = f"{ntype}."
    return sorted(path.name[len(prefix) : -len(_SUFFIX)] for path in (folder / "features").glob(f"{prefix}*{_SUFFIX}"))


def _array_digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.reshape(-1).view(np.uint8)).hexdigest()
