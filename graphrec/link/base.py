"""What every link predictor can do: fit, score pairs, give node vectors where it has them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from graphrec.logs.link_graph import LinkGraph
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, parse


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
        values = settings.model_dump() if isinstance(settings, Settings) else dict(settings or {})
        self.settings = parse(self.Settings, {**values, **overrides}, f"link model {self.name}")

    @abstractmethod
    def fit(self, graph: LinkGraph, *, seed: int = 0, progress: Reporter = SILENT) -> Self:
        """Learn from the training edges of `graph`; its validation links choose when to stop. Returns the model itself.

        Args:
            graph: see `LinkGraph`.
            seed: of all randomness; the same seed gives the same weights bit for bit on CPU.
            progress: receives the long steps.
        """

    @abstractmethod
    def score(self, pairs: np.ndarray) -> np.ndarray:
        """Score pairs int64 (n, 2); returns float32 (n,)."""

    def embeddings(self) -> np.ndarray | None:
        """Return float32 (N, D), a vector a node, or None where the model has none."""
        return None
