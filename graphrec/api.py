"""The public `train`: the training loop, with validation on the store's validation split.

Training may not import evaluation, so the two meet here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphrec.evaluation.validation import validator
from graphrec.graph.store import GraphStore
from graphrec.progress import SILENT, Reporter
from graphrec.training.loop import Validate
from graphrec.training.run import Run
from graphrec.training.settings import TrainSettings
from graphrec.training.train import train as run_training

if TYPE_CHECKING:
    from graphrec.models.base import Recommender
    from graphrec.settings import Settings


def train(
    store: GraphStore | str | os.PathLike[str],
    model: str | Recommender | None = None,
    folder: str | os.PathLike[str] | None = None,
    settings: TrainSettings | Mapping[str, Any] | None = None,
    *,
    model_settings: Settings | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporter = SILENT,
) -> Run:
    """Train a model on a store and write its run folder.

    Where the store has a validation split, the weights that do best on it are kept and training stops early; where it has
    none, training goes on for all epochs.

    Args and Raises: as in `graphrec.training.train.train`, with the validation filled in.
    """
    return run_training(
        store,
        model,
        folder,
        settings,
        model_settings=model_settings,
        validation=_validation,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def _validation(store: GraphStore, metric: str) -> Validate | None:
    """Watch `metric`, and recall at the same list length beside it."""
    return validator(store, list(dict.fromkeys([metric, f"recall@{metric.partition('@')[2]}"])))
