"""What every link predictor can do: fit, score pairs, give node vectors where it has them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import Self

from graphrec.atomic import check_free
from graphrec.errors import RunError
from graphrec.link import LINK_MODELS
from graphrec.link.known import KnownGraph
from graphrec.logs.link_graph import LinkGraph
from graphrec.models import saved
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, resolved

HEADER = "link.json"


def is_predictor(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a saved predictor, whole or damaged."""
    return (Path(folder) / HEADER).is_file()


def check_predictor_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Ask before the training whether a predictor may be saved to `folder`.

    Raises:
        RunError: it names a Parquet file, or is there while `overwrite` is false, or is no folder of a predictor.
    """
    if str(folder).endswith(".parquet"):
        raise RunError(
            f"a predictor is saved as a folder, got {folder}; --vectors writes node vectors to a Parquet file"
        )
    check_free(Path(folder), RunError, overwrite, HEADER)


class LinkModel(ABC):
    """Scores pairs of nodes of one graph; higher means that a link is more likely.

    Args:
        settings: an instance of the class's own `Settings`, a mapping of values, or None for the defaults.
        overrides: single settings that win over `settings`.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Settings | Mapping[str, Any] | None = None, **overrides: Any) -> None:
        self.settings = resolved(self.Settings, settings, overrides, f"link model {self.name}")

        self._known: KnownGraph | None = None

    @property
    def known(self) -> KnownGraph:
        """The nodes and training edges that the model was fitted on.

        Raises:
            RunError: the model has not been fitted or loaded yet.
        """
        if self._known is None:
            raise RunError(
                f"this {self.name} predictor has not learned anything yet; fit it on a graph or load a saved one"
            )
        return self._known

    def fit(self, graph: LinkGraph, *, seed: int = 0, progress: Reporter = SILENT) -> Self:
        """Learn from the training edges of `graph`; its validation links choose when to stop. Returns the model itself.

        Args:
            graph: see `LinkGraph`.
            seed: of all randomness; the same seed gives the same weights bit for bit on CPU.
            progress: receives the long steps.

        Raises:
            ConfigError: the inputs ask for features that are not there.
            RunError: the loss is not finite.
        """
        if graph.weight is not None and not self.weighs(graph):
            progress.note(f"{self.name}: the edges of {graph.source} have weights, which do not count here: an edge is there or not")
        self._known = KnownGraph.of(graph)  # validation scores while it learns
        try:
            self._fit(graph, seed, progress)
        except BaseException:
            self._known = None  # a failed fit leaves no half-new model behind
            raise
        return self

    def weighs(self, graph: LinkGraph) -> bool:
        """Whether the model, as it is set, counts the weights of the graph's edges; one without weights is never weighed."""
        return False

    def score(self, pairs: np.ndarray) -> np.ndarray:
        """Score pairs of node indices.

        Args:
            pairs: integers (n, 2), each in 0..N-1.

        Returns:
            float32 (n,).

        Raises:
            RunError: the model has not been fitted or loaded yet.
            ValueError: `pairs` are no integers, have another shape, or name nodes that are not there.
        """
        num_nodes, pairs = self.known.num_nodes, np.asarray(pairs)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
            rule = f"score: pairs must be integers (n, 2), got {pairs.dtype} {pairs.shape}"
            raise ValueError(f"{rule}; known.nodes_of finds nodes by their ids")
        if pairs.size and (pairs.min() < 0 or pairs.max() >= num_nodes):
            raise ValueError(f"score: pairs must name nodes 0..{num_nodes - 1}, got {pairs.min()}..{pairs.max()}")
        return self._score(pairs.astype(np.int64, copy=False))

    @abstractmethod
    def _score(self, pairs: np.ndarray) -> np.ndarray:
        """Score checked pairs int64 (n, 2); returns float32 (n,)."""

    def embeddings(self) -> np.ndarray | None:
        """Return float32 (N, D), a vector a node, or None where the model has none.

        Raises:
            RunError: the model has vectors, and has not been fitted or loaded yet.
        """
        return None

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the predictor as `link.json`, `model.safetensors` and `nodes/`; the folder appears whole or not at all.

        Raises:
            RunError: nothing has been learned yet, the folder exists and `overwrite` is false, or the disk is full.
        """
        known = self.known  # refuses before anything is written where nothing has been learned
        saved.write_parts(folder, HEADER, self.name, self.settings, self._state(), known.save, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a saved predictor, which scores as it did; called on `LinkModel` itself, it finds the class by the saved name.

        Raises:
            RunError: the folder holds no predictor, another one, a truncated or edited one, or one from a newer graphrec.
        """
        beside, elsewhere = KnownGraph.load, "LinkModel.load(folder)"
        return saved.load_as(cls, folder, HEADER, beside, LINK_MODELS, "predictor", elsewhere, "_known")

    @abstractmethod
    def _fit(self, graph: LinkGraph, seed: int, progress: Reporter) -> None:
        """Learn from the training edges."""

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        """The learned arrays, by name; `_restore` gets them back as tensors."""
        return {}

    @abstractmethod
    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the arrays of `_state`; `self.known` is already set."""
