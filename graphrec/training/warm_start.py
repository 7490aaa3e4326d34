"""Training that goes on from yesterday's run on today's store.

The rows of users and items that both know are taken over by original id, whatever their order in the two stores; new users and
items start as they would without it. Layers and heads are taken over where they have the same shape.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from graphrec import checkpoints
from graphrec.errors import ConfigError, RunError
from graphrec.graph.ids import contained
from graphrec.graph.store import GraphStore
from graphrec.models.trained import TrainedRecommender
from graphrec.progress import Reporter
from graphrec.training.run import Run, RunRecord, identity

_TABLES = {"inputs.user": "users", "inputs.item": "items"}


@torch.no_grad()
def start_from(model: TrainedRecommender, store: GraphStore, folder: str | os.PathLike[str], progress: Reporter) -> list[str]:
    """Put the parameters of a finished run in the place of a prepared model's start.

    Args:
        model: prepared, on `store`.
        store: the new one.
        folder: the run, of a model of the same name.
        progress: told how many rows were found and what starts anew.

    Returns:
        The splits of `store` of which the run has learned interactions: what is measured on them says too much.

    Raises:
        ConfigError: the run is of another model, its vectors have another length, or it knows none of the users and items.
        RunError: there is no finished run with checkpoints, it is replaced meanwhile, or a file is damaged.
    """
    run = Run.load(folder)
    if run.model.name != model.name:
        raise ConfigError(
            f"train start_from: a run of the model {model.name!r} is needed, got {run.model.name!r} in {folder}; train from that "
            f"model, or leave start_from out"
        )
    found_run = identity(run.folder)
    saved = _weights(run.folder)
    places = {side: getattr(run.model.catalogue, side).find(getattr(model.training_catalogue, side).series) for side in _TABLES.values()}
    if identity(run.folder) != found_run or RunRecord.read(run.folder) != run.config:
        raise RunError(f"train start_from: the run in {folder} was replaced while it was read; run this again")
    if all((place < 0).all() for place in places.values()):
        raise ConfigError(
            f"train start_from: {folder} knows none of the users and items of {store.folder}; is it a run on another log, or are "
            "other columns taken for ids?"
        )
    others = {count for ntype, count in store.manifest.nodes.items() if ntype not in ("user", "item")}
    found, anew = [], []
    for name, parameter in model.network.named_parameters():
        old = saved.get(f"parameter.{name}")
        side = _TABLES.get(name)
        if old is None or old.shape[1:] != parameter.shape[1:]:
            if side is not None:
                raise ConfigError(
                    f"train start_from: {name} of {folder} must have rows of {tuple(parameter.shape[1:])}, got "
                    f"{'none' if old is None else tuple(old.shape[1:])}; train with the settings of that run"
                )
            anew.append(name)
        elif side is not None:
            place = places[side]
            known = torch.from_numpy(np.flatnonzero(place >= 0))
            parameter[known.to(parameter.device)] = old[place[known]].to(parameter)
            found.append(f"{len(known):,} of {len(place):,} {side}")
        elif old.shape != parameter.shape or len(parameter) in others:
            anew.append(name)  # perhaps rows of nodes whose ids a run does not hold
        else:
            parameter.copy_(old)
    progress.note(f"starting from {folder}: {', '.join(found)}" + (f"; anew: {', '.join(anew)}" if anew else ""))
    return _learned(run, store, places, folder, progress)


def _learned(
    run: Run, store: GraphStore, places: dict[str, np.ndarray], folder: str | os.PathLike[str], progress: Reporter
) -> list[str]:
    """The splits with interactions that the run was trained on, which are counted aloud."""
    old, learned = run.model.catalogue, []
    splits = [split for split in ("valid", "test") if split in store.splits]
    if not splits:
        return learned
    seen = np.repeat(np.arange(old.num_users), np.diff(old.seen_indptr)) * old.num_items + old.seen_indices  # ascending
    for split in splits:
        held = store.interactions(split)
        user, item = places["users"][held.user], places["items"][held.item]
        keys = (user * old.num_items + item)[(user >= 0) & (item >= 0)]
        count = int(contained(keys, seen).sum())
        if count:
            learned.append(split)
            progress.note(
                f"warning: {count:,} of {len(held.user):,} {split} interactions of {store.folder} were training data of {folder}, so "
                f"metrics on that split say too much"
            )
    return learned


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    """The parameters of a run: the best where it was validated, else the last."""
    for kind in ("best", "last"):
        if checkpoints.exists(folder / "checkpoints" / kind):
            return checkpoints.load(folder / "checkpoints" / kind)[0]
    raise RunError(f"train start_from: {folder} has no checkpoints; a run that others start from keeps that folder")

