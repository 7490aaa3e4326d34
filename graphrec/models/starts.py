"""Where the id embeddings of a trained model start that do not start at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from graphrec.features.start import feature_start
from graphrec.models.spectral import spectral_embeddings
from graphrec.progress import Reporter
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_EXPONENTS = 0.3, 0.5  # of users and items in the spectral start; the graph filter's


def start_rows(
    store: GraphStore, inputs: Settings, dim: int, seed: int, progress: Reporter
) -> tuple[tuple[Tensor, Tensor] | None, dict[str, str]]:
    """Return where id embeddings start, and in words what each node type starts from.

    Args:
        store: the graph store.
        inputs: settings of the inputs; their `init` says where to start.
        dim: D.
        seed: of the decomposition.
        progress: receives the steps.

    Returns:
        User (U, D) and item (I, D) float32, or None where the start is random; and a line for each node type.
    """
    init = getattr(inputs, "init", "normal")
    if init == "features":
        rows, origins = feature_start(store, inputs.item, inputs.user, dim, inputs.project, seed, progress)
        return tuple(torch.from_numpy(part) for part in rows), origins
    start = _spectral(store, dim, seed, progress) if init == "spectral" else None
    return start, dict.fromkeys(("user", "item"), f"id embeddings, {init}")


def _spectral(store: GraphStore, dim: int, seed: int, progress: Reporter) -> tuple[Tensor, Tensor]:
    progress.note(f"spectral start: {dim} singular vectors of the training matrix")
    vectors = spectral_embeddings(store, dim, *_EXPONENTS, seed, power=0.0)
    # Of equal length: a rare item's short row would be noise after one step of Adam, and the start lost.
    return tuple(normalize(rows, dim=1) for rows in vectors)
