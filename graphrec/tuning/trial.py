"""One setting, trained and measured on the validation split; nothing of it stays but the value."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphrec.models import create
from graphrec.models.trained import TrainedRecommender
from graphrec.training.settings import TrainSettings
from graphrec.training.train import train

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender
    from graphrec.training.loop import Validate

Report = Callable[[int, float, bool], None]
"""Told the epoch and the metric after each validation, and whether it was the last; what it raises ends the trial."""

_NO_CHECKPOINTS = 1e9  # seconds between two; a trial that dies starts again


def measure(
    store: GraphStore,
    model: str,
    tables: Mapping[str, Mapping[str, Any]],
    folder: Path,
    metric: str,
    validate: Validate,
    report: Report,
) -> float:
    """Train a setting and return the best value of `metric` over its validations, which is that of the weights kept.

    Args:
        store: the graph store.
        model: a key of `graphrec.models.MODELS`.
        tables: `{"model": ..., "train": ...}`, the settings.
        folder: where the training may write; it is gone afterwards, however the training ends.
        metric: full name, such as "ndcg@20".
        validate: measures a model on the validation split.
        report: see `Report`; a closed-form model has nothing to report.

    Raises:
        ConfigError: the settings do not fit together.
        RunError: the loss is not finite, or the disk is full.
    """
    chosen = create(model, tables["model"])
    settings = TrainSettings.model_validate({**tables["train"], "checkpoint_every": _NO_CHECKPOINTS})
    values: list[float] = []

    def watched(model: Recommender) -> dict[str, float]:
        metrics = validate(model)
        values.append(float(metrics[metric]))
        epoch = min(len(values) * settings.eval_every, settings.epochs)
        report(epoch, values[-1], epoch == settings.epochs)
        return metrics

    if not isinstance(chosen, TrainedRecommender):
        return float(validate(chosen.fit(store, seed=settings.seed))[metric])
    try:
        train(store, chosen, folder, settings, validation=lambda *_: watched)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return max(values)
