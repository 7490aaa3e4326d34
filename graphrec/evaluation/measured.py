"""What is measured: a run or a model alone, its store, and the folder that may keep the result."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from graphrec.atomic import is_writable
from graphrec.errors import ConfigError
from graphrec.graph.store import GraphStore
from graphrec.models.base import Recommender
from graphrec.progress import Reporter
from graphrec.training.run import Run


@dataclass(frozen=True)
class Measured:
    """A model that is to be measured on a store.

    Attributes:
        model: the model.
        store: the one given, else the one that the run was trained on.
        run: None for a model alone.
    """

    model: Recommender
    store: GraphStore
    run: Run | None
    _kept: bool

    @classmethod
    def open(
        cls,
        source: Run | Recommender | str | os.PathLike[str],
        store: GraphStore | str | os.PathLike[str] | None,
        where: str,
        progress: Reporter,
    ) -> Measured:
        """Read what is not given as an object yet.

        Args:
            source: a run, its folder, or a model.
            store: the graph store or its folder; None takes the run's own.
            where: what asks, for the message ("evaluate").
            progress: told where the folder of the run does not take the result.

        Raises:
            ConfigError: a model is given without a store.
            RunError: there is no such run, or it is damaged.
            StoreError: the store is damaged.
        """
        run = Run.load(source) if isinstance(source, str | os.PathLike) else source
        run = None if isinstance(run, Recommender) else run
        if run is None and store is None:
            raise ConfigError(f"{where}: a model alone does not know its store; pass it too: {where}(model, store)")
        store = run.store_path if store is None else store
        store = GraphStore.open(store) if isinstance(store, str | os.PathLike) else store
        if run is None:
            return cls(source, store, None, False)
        return cls(run.model, store, run, _is_kept(run, progress))

    @property
    def learned(self) -> tuple[str, ...]:
        """The held-out splits that the model has learned from, by itself or through a run that it started from or is made of."""
        return (*self.model.learned_splits, *(() if self.run is None else self.run.config.learned))

    def folder(self, progress: Reporter) -> Path | None:
        """Where the finished result goes; None where nowhere, of which `progress` is told if `open` has not told it."""
        return self.run.folder if self._kept and _is_kept(self.run, progress) else None


def why_not_kept(run: Run) -> str | None:
    """Why the folder of a run does not take what is measured of it; None where it does."""
    if not is_writable(run.folder):
        return f"{run.folder} cannot be written, so the result is shown and not kept there"
    if run.was_replaced():
        return f"the run in {run.folder} was replaced meanwhile, so the result of the old one is shown and not kept there"
    return None


def _is_kept(run: Run, progress: Reporter) -> bool:
    """Whether its folder takes a result; `progress` is told why not."""
    reason = why_not_kept(run)
    if reason is not None:
        progress.note(reason)
    return reason is None
