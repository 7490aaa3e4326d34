"""First values of id embeddings from features: projected, fused in closed form, of users from their history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp

from graphrec.errors import ConfigError
from graphrec.features.nodes import NodeFeatures, load_features
from graphrec.features.project import Kind, Projection, fit_projection
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

History = Literal["history"]


def feature_start(
    store: GraphStore,
    item: Sequence[str],
    user: Sequence[str] | History,
    dim: int,
    project: Kind = "whiten",
    seed: int = 0,
    progress: Reporter = SILENT,
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, str]]:
    """Return where the embeddings of users and items start.

    Items: each feature is projected, the projections stand side by side, and the d leading directions of these are kept.
    A feature that a node lacks counts as the mean of the others; a node that lacks all of them starts at random. Users:
    either the mean of what they chose in training, scaled to the same size, or their own features. These use the items'
    projections where both were made by the same encoders, since otherwise the two spaces have nothing in common.

    Args:
        store: the store.
        item: names of item features, at least one.
        user: names of user features, or "history".
        dim: D; columns beyond the features' own are random.
        project: of each feature; see `fit_projection`.
        seed: of what is random.
        progress: is told what starts from what.

    Returns:
        float32 (U, D) and (I, D), each of mean square one, and in words what users and items start from.

    Raises:
        ConfigError: a feature is missing or unsound.
    """
    generator = np.random.default_rng(seed)
    items = load_features(store, "item", item)
    projections = [fit_projection(array, project, dim, seed) for array in items.arrays]
    item_rows, item_known, last = _project(items, projections, None, dim)
    item_start = _filled(item_rows, item_known, dim, generator)
    if user == "history":
        train = store.train_matrix()
        averaged = average_history(train, item_start)
        source, user_start = "the mean of each user's training items", averaged
    else:
        users = load_features(store, "user", user)
        if users.encoders == items.encoders:
            means = [Projection(array[mask].mean(axis=0), projection.matrix)
                     for array, mask, projection in zip(users.arrays, users.masks, projections, strict=True)]  # fmt: skip
            user_rows, user_known, _ = _project(users, means, last, dim)
        else:
            own = [fit_projection(array, project, dim, seed) for array in users.arrays]
            user_rows, user_known, _ = _project(users, own, None, dim)
            progress.note(
                f"{users.describe()} were not made by the encoders of the items' features: users and items start in "
                'spaces that have nothing in common; give both the same encoder, or take user = "history"'
            )
        source, user_start = f"{users.describe()}, {users.digest}", _filled(user_rows, user_known, dim, generator)
    size = float(np.sqrt(np.mean(user_start.astype(np.float64) ** 2)))
    origins = {"item": f"{items.describe()}, {items.digest}, {project}", "user": source}
    for ntype, text in origins.items():
        progress.note(f"{ntype} embeddings start from {text}")
    return ((user_start / max(size, 1e-30)).astype(np.float32), item_start), origins


def average_history(train: sp.csr_matrix, rows: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Return the mean of the items' rows (I, d) over every user's training items: (U, d), zeros where none is known.

    Args:
        train: training weights (U, I); only where they are matters.
        rows: float32 (I, d).
        known: bool (I,), the rows that count; None for all.
    """
    chosen = sp.csr_matrix((np.ones_like(train.data), train.indices, train.indptr), shape=train.shape)
    weight = np.ones(len(rows), np.float32) if known is None else known.astype(np.float32)
    counts = chosen @ weight
    return ((chosen @ (rows * weight[:, None])) / np.maximum(counts, 1)[:, None]).astype(np.float32)


def _project(
    features: NodeFeatures, projections: Sequence[Projection], last: Projection | None, dim: int
) -> tuple[np.ndarray, np.ndarray, Projection | None]:
    """Rows (n, d), which of them are known (n,), and the projection of the parts side by side where there are several."""
    parts = [projection.apply(array) for projection, array in zip(projections, features.arrays, strict=True)]
    known = np.any(features.masks, axis=0)
    if len(parts) == 1:
        return parts[0][:, :dim], known, None
    joined = np.concatenate(parts, axis=1)  # centred, so a missing part's zeros are its mean
    last = last or fit_projection(joined, "pca", dim)
    return last.apply(joined), known, last


def _filled(rows: np.ndarray, known: np.ndarray, dim: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of width D and mean square one: random where a node, or a column, has no feature."""
    if not known.any():
        raise ConfigError("no node has any of the features named; write them again with: graphrec features")
    size = float(np.sqrt(np.mean(rows[known].astype(np.float64) ** 2)))
    start = generator.standard_normal((len(rows), dim)).astype(np.float32)
    start[known, : rows.shape[1]] = rows[known] / max(size, 1e-30)
    return start
