"""A finished run's model, learned anew on a part of its training interactions, so that the rest can judge it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from graphrec.errors import RunError
from graphrec.graph.store import GraphStore
from graphrec.models import create
from graphrec.models.base import Recommender
from graphrec.models.score_sum import ScoreSum
from graphrec.models.trained import TrainedRecommender
from graphrec.progress import Reporter
from graphrec.training.run import Run
from graphrec.training.settings import TrainSettings
from graphrec.training.train import train


def learn_again(
    run: Run,
    view: GraphStore,
    progress: Reporter,
    folder: str | os.PathLike[str] | None = None,
    device: str | None = None,
) -> Recommender:
    """A model like the run's, learned on `view`; of a sum each member, and the spreads, with the weights of the run.

    A trained one takes as many epochs as the run's best weights took, and no validation.

    Args:
        run: finished.
        view: the run's store, without some of the training interactions.
        progress: receives the steps, and what is learned.
        folder: where training may write for a while; None for the system's.
        device: where to train; None for the run's own.

    Raises:
        RunError: the run is a sum that does not say how its members were trained.
    """
    if not isinstance(run.model, ScoreSum):
        return _fit_again(run.config.model, run.training(), view, progress, folder, device)
    trainings = run.config.train.get("members")
    if trainings is None:
        raise RunError(
            f"{run.folder} does not say how its members were trained, as sums of an earlier graphrec, and hold-out labels need them "
            "learned again; make it again with graphrec fuse"
        )
    own = run.model.settings
    members = [_fit_again(member, how, view, progress, folder, device) for member, how in zip(own.members, trainings, strict=True)]
    return ScoreSum.of(members, own.weights, run.config.train["seed"], own.chosen_on)


def _fit_again(
    made: dict[str, Any],
    how: dict[str, Any],
    view: GraphStore,
    progress: Reporter,
    folder: str | os.PathLike[str] | None,
    device: str | None,
) -> Recommender:
    """The model of a run as `RunRecord.model` names it, learned on `view` as `Run.training` says."""
    name = made["name"]
    progress.note(f"hold-out: learning {name} again on train without the held-out interactions")
    model = create(name, made["settings"])
    if not isinstance(model, TrainedRecommender):
        return model.fit(view, seed=how["seed"], progress=progress)
    epochs = how["epochs"]
    if how.get("start_from"):  # its few epochs went on from a model that has seen what is held out here
        epochs = max(epochs, TrainSettings().epochs)
        progress.note(f"hold-out: the run started from another, so {name} learns from the beginning, for {epochs} epochs")
    with tempfile.TemporaryDirectory(prefix="graphrec-again-", dir=folder) as scratch:
        how = {**how, "epochs": epochs, "patience": 0, "start_from": None, "device": device or how["device"]}
        try:
            return train(view, model, Path(scratch) / "run", how, progress=progress).model
        except KeyboardInterrupt as interrupt:
            interrupt.args = ()  # there will be no folder to go on in
            raise
