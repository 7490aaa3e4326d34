"""Where rooms that may not know each other meet: training is handed the validation that evaluation makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender
    from graphrec.settings import Settings
    from graphrec.training.run import Run
    from graphrec.training.settings import TrainSettings


def train(
    store: GraphStore | str | os.PathLike[str] | None,
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

    A model that learns by steps is checked on the store's validation split every `eval_every` epochs; the metric of the
    settings picks the best weights and stops the training when it no longer rises. A closed-form model is fitted.

        graphrec.train(store, "lightgcn", "runs/demo", {"epochs": 30}, model_settings={"embedding_dim": 32})

    Args:
        store: the graph store, or its folder; None only on resume, for the run's own.
        model: a registered name or a model not yet trained; None means "lightgcn", or the model of the resumed run.
        folder: the run folder; None means `runs/<model name>`.
        settings: of the training; None takes the defaults, or those of the resumed run.
        model_settings: of the model, where `model` is a name.
        resume: go on with the run in `folder` from its last checkpoint.
        overwrite: replace the run in `folder`.
        progress: receives steps, rate, loss and validations.

    Raises:
        ConfigError: an unknown model or metric, a setting out of range, or a changed setting on resume.
        RunError: the folder is taken, a checkpoint is damaged, the loss is not finite, or the disk is full.
        StoreError: the store is damaged.
    """
    from graphrec.evaluation.validation import watch
    from graphrec.training.train import train as train_with

    return train_with(
        store,
        model,
        folder,
        settings,
        model_settings=model_settings,
        validation=watch,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )
