"""`train`: from a graph store and a model's name to a run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphrec import checkpoints
from graphrec.atomic import is_vacant
from graphrec.errors import ConfigError, RunError, shell_word
from graphrec.graph.recency import edge_ages, half_life_of
from graphrec.graph.store import GraphStore
from graphrec.models import MADE_BY, check_registered, create
from graphrec.models.base import Recommender
from graphrec.models.trained import TrainedRecommender
from graphrec.progress import SILENT, Reporter
from graphrec.registry import resolve
from graphrec.settings import Settings, parse
from graphrec.training import SAMPLERS, journal
from graphrec.training.history import check_takes_past
from graphrec.training.journal import Journal
from graphrec.training.loop import Loop, Validate
from graphrec.training.negatives import NegativeSource, check_count
from graphrec.training.neighbourhoods import NeighbourhoodBatches, neighbourhoods_of, with_block
from graphrec.training.place import MODEL, check_free, clear, forget_results, locked, place_of, recover, take_over
from graphrec.training.run import Run, RunRecord, fingerprint, other_data, other_features
from graphrec.training.samplers import Sampler
from graphrec.training.settings import TrainSettings
from graphrec.training.warm_start import start_from

Validation = Callable[[GraphStore, TrainSettings, Reporter], Validate | None]

DEFAULT_MODEL = "lightgcn"
_NAMED = 5  # users whose ids a note gives
_FREE_ON_RESUME = {"epochs", "patience", "checkpoint_every", "device", "inference_block"}


def train(
    store: GraphStore | str | os.PathLike[str] | None,
    model: str | Recommender | None = None,
    folder: str | os.PathLike[str] | None = None,
    settings: TrainSettings | Mapping[str, Any] | None = None,
    *,
    model_settings: Settings | Mapping[str, Any] | None = None,
    validation: Validation | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporter = SILENT,
) -> Run:
    """Train a model and write its run folder. A closed-form model is fitted and written the same way.

    A training that was killed at any moment and resumed reaches the same weights bit for bit on CPU, with the same number of
    threads.

    Args:
        store: the graph store, or its folder; None only on resume, for the run's own.
        model: a registered name or a model not yet trained; None means "lightgcn", or the model of the resumed run.
        folder: the run folder; None means `runs/<model name>`.
        settings: of the training; None takes the defaults, or those of the resumed run.
        model_settings: of the model, where `model` is a name.
        validation: called once as `validation(store, settings, progress)`; returns a function from the model to metrics of the
            validation split, called every `eval_every` epochs, or None where the store has no such split. `settings.metric`
            picks the best weights and stops early; without a validation, training goes on for all epochs.
        resume: go on with the run in `folder` from its last checkpoint; settings given must be the run's own, except
            epochs, patience, checkpoint_every, device and inference_block.
        overwrite: replace the run in `folder`, which stays and answers until the new one is finished.
        progress: receives steps, rate, loss and validations.

    Raises:
        ConfigError: an unknown model, or one that has learned already or whose name does not lead to its class, a setting out of
            range, a device that is not there, a changed setting on resume, or batches or blocks that the model cannot be trained
            on or computed in.
        RunError: the folder holds a run (or something else) and neither `resume` nor `overwrite` is given, another process
            trains in it, a checkpoint is damaged, the loss is not finite, or the disk is full.
        StoreError: the store is damaged.
    """
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other: going on with a run keeps it")
    if not (model is None or isinstance(model, str | Recommender)):
        raise ConfigError(
            f"model must be a name or a model, got {type(model).__name__}; give its settings as model_settings = {{...}}"
        )
    path = _folder(folder, model)
    if not resume:
        check_free(path, overwrite)
    recover(path)
    place = place_of(path, resume)
    saved = RunRecord.read(place) if resume else None
    if store is None:
        if saved is None:
            raise ConfigError("train needs a graph store; only a resumed run knows its own")
        store = saved.store["path"]
    if not isinstance(store, GraphStore):
        store = GraphStore.open(store)
    given = _explicit(settings)
    if given.get("start_from"):
        given["start_from"] = str(Path(given["start_from"]).resolve())
    if saved is not None:
        if place != path:
            progress.note(f"going on with the run that is to replace the one in {path}; delete {place} to give it up")
        _check_same_store(saved, store, path)
        chosen, train_settings = _resumed(saved, model, model_settings, given)
    else:
        chosen = _create(DEFAULT_MODEL if model is None else model, model_settings)
        _check_not_of_the_model(given, chosen)
        train_settings = with_block(_with_half_life(parse(TrainSettings, given, "train"), chosen, store, progress), chosen)
    with locked(path):
        if place_of(path, resume) != place:
            raise RunError(f"another process has finished a training in {path} meanwhile; look at its run, and start again")
        record = RunRecord(
            model={"name": chosen.name, "settings": chosen.settings.model_dump(mode="json")},
            train=train_settings.model_dump(mode="json"),
            store={"path": str(store.folder.resolve()), "fingerprint": fingerprint(store)},
        )
        # What the store or the settings forbid must show before the old run is cleared.
        trained = isinstance(chosen, TrainedRecommender)
        loop, learned = _loop(chosen, store, place, train_settings, validation, progress) if trained else (None, [])
        if trained:
            record = record.model_copy(update={"origins": chosen.origins, "learned": learned or (saved.learned if saved else [])})
            if saved is not None and saved.origins and saved.origins != chosen.origins:
                raise other_features(path, saved, chosen.origins)
        seconds = _fit(chosen, store, train_settings.seed, progress) if loop is None else None
        if place != path:
            progress.note(f"the run in {path} stays until the new one, trained in {place}, is finished")
        if not resume:
            clear(place)
        fresh = not resume and is_vacant(place)
        record.write(place)
        if loop is None:
            _record_fit(place, seconds)
        else:
            before = journal.read(place)
            try:
                _run(loop, path)
            except Exception:
                if fresh and loop.position.steps == 0:  # no run has begun, and the mended command may have the folder
                    clear(place)
                raise
            if journal.read(place) != before:
                forget_results(place)
        chosen.save(place / MODEL, overwrite=True)
        take_over(path)
    return Run(path, chosen, Path(record.store["path"]), record)


def _loop(
    model: TrainedRecommender,
    store: GraphStore,
    folder: Path,
    settings: TrainSettings,
    validation: Validation | None,
    progress: Reporter,
) -> tuple[Loop, list[str]]:
    """Prepare the model and everything its training needs, nothing of it written yet; and what its start has learned already."""
    device = _device(settings.device)
    validate = validation(store, settings, progress) if validation else None
    if validate is None:
        progress.note(f"no validation: training for all {settings.epochs} epochs")
    model.prepare(store, seed=settings.seed, device=device, progress=progress)
    learned: list[str] = []
    if settings.start_from is not None and not checkpoints.exists(folder / "checkpoints" / "last"):
        learned = start_from(model, store, settings.start_from, progress)
    if settings.inference_block:
        model.check_blocks()
    ages = None
    if settings.half_life_days is not None:
        ages = edge_ages(store, settings.half_life_days, "train")
        progress.note(f"half-life of {settings.half_life_days:g} days: old interactions are drawn less often")
    return Loop(model, make_sampler(model, settings, ages, progress), settings, folder, validate, progress), learned


def _run(loop: Loop, folder: Path) -> None:
    try:
        loop.run()
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"go on with: graphrec train --resume --out {shell_word(folder)}",)
        raise


def make_sampler(
    model: TrainedRecommender, settings: TrainSettings, ages: np.ndarray | None = None, progress: Reporter = SILENT
) -> Sampler | NeighbourhoodBatches:
    """Make the sampler that `settings` names, with the negatives that the prepared `model`'s loss wants.

    Args:
        model: prepared.
        settings: of the training.
        ages: of the training edges, as `graphrec.graph.recency.edge_ages` gives them, where `settings` has a half-life.
        progress: receives a note of the users whose pairs are left out.

    Raises:
        ConfigError: batches are to be sampled and the model cannot, or the fanouts or a history do not fit it; or the loss wants
            far more negatives than there are items.
        RunError: negatives per row are wanted and every user has chosen every item.
    """
    check_count(model.loss.negatives, model.training_catalogue.num_items, f'model {model.name}: loss "{model.parts["loss"].name}"')
    source = NegativeSource(model.training_catalogue, settings.negative_distribution, settings.negative_exponent)
    if model.loss.negatives.hard:
        source.find_hard(model.relation.to("cpu"), settings.seed)
    sampler = resolve("sampler", SAMPLERS, settings.sampler)
    batches = sampler(model.training_catalogue, settings.batch_size, model.loss.negatives, source, settings.seed, ages)
    if len(batches.left_out):
        ids = model.training_catalogue.users.ids_of(batches.left_out[:_NAMED]).tolist()
        named = ", ".join(repr(one) for one in ids) + (", ..." if len(batches.left_out) > _NAMED else "")
        progress.note(
            f"{len(batches.left_out):,} user(s) have every item that can be a negative ({named}): their pairs are not drawn, "
            "for nothing is left to rank below them; their edges stay in the graph"
        )
    if settings.batching == "full":
        return batches
    if settings.history_every is not None:
        check_takes_past(model)
    return NeighbourhoodBatches(batches, neighbourhoods_of(model, settings.fanouts), settings.seed)


def _with_half_life(settings: TrainSettings, model: Recommender, store: GraphStore, progress: Reporter) -> TrainSettings:
    """The settings with the store's half-life where they give none, for the record of what was done."""
    days = settings.half_life_days
    if not isinstance(model, TrainedRecommender):
        if settings.start_from is not None:
            progress.note(f"train start_from does nothing here: {model.name} is fitted in closed form, anew each time")
        if days is not None:
            progress.note(
                f"train half_life_days = {days:g} does nothing here: {model.name} is fitted in closed form and draws no pairs; "
                f"build the store with [build] half_life_days = {days:g}, which it reads"
            )
        return settings
    own = half_life_of(store)
    if days is None and own is not None and store.interactions("train").timestamp is not None:
        return settings.model_copy(update={"half_life_days": own})
    return settings


def _fit(model: Recommender, store: GraphStore, seed: int, progress: Reporter) -> float:
    """Fit a closed-form model and return the seconds it took."""
    start = time.monotonic()
    model.fit(store, seed=seed, progress=progress)
    return time.monotonic() - start


def _record_fit(folder: Path, seconds: float) -> None:
    log = Journal(folder)
    try:
        log.record(0, {"train_seconds": round(seconds, 3)})
    finally:
        log.close()


def _folder(folder: str | os.PathLike[str] | None, model: str | Recommender | None) -> Path:
    if folder is not None:
        return Path(folder)
    name = model.name if isinstance(model, Recommender) else DEFAULT_MODEL if model is None else model
    return Path("runs") / name


def _explicit(settings: Settings | Mapping[str, Any] | None) -> dict[str, Any]:
    """The values that were given, without defaults."""
    return settings.model_dump(exclude_unset=True) if isinstance(settings, Settings) else dict(settings or {})


def _create(model: str | Recommender, settings: Settings | Mapping[str, Any] | None) -> Recommender:
    """The model to train, which nobody else holds as a finished one, and which its run will find again."""
    if isinstance(model, Recommender) and settings:
        raise ConfigError(f"give model_settings with a model's name; this {model.name} model already has its settings")
    chosen = create(model, settings) if isinstance(model, str) else model
    check_registered(chosen)
    if chosen.has_learned:
        raise ConfigError(
            f"this {chosen.name} model has learned already, and the run it belongs to would change with it; train a new one, "
            f"graphrec.models.create({chosen.name!r}, model.settings), or go on with its run by resume=True"
        )
    return chosen


def _check_not_of_the_model(given: Mapping[str, Any], model: Recommender) -> None:
    """Name settings of the model that stand among those of the training."""
    misplaced = [key for key in given if key not in TrainSettings.model_fields and key in type(model.settings).model_fields]
    if misplaced:
        raise ConfigError(
            f"train {misplaced[0]}: a setting of the model {model.name}, not of its training; give it in model_settings"
        )


def _resumed(
    saved: RunRecord, model: str | Recommender | None, model_settings: Any, given: dict[str, Any]
) -> tuple[Recommender, TrainSettings]:
    """Rebuild model and settings of a run, and refuse what would make it another run."""
    name = saved.model["name"]
    if name in MADE_BY:
        what = {"two-stage": "a second stage", "sum": "a sum of runs"}[name]
        raise ConfigError(f"the run is {what}, which is not resumed; make it again with {MADE_BY[name]} and overwrite")
    asked = model.name if isinstance(model, Recommender) else name if model is None else model
    if asked != name:
        raise ConfigError(f"the run to resume trains the model {name!r}, not {asked!r}; choose another folder")
    explicit = _explicit(model.settings if isinstance(model, Recommender) else model_settings)
    chosen = create(name, {**saved.model["settings"], **explicit})
    before = parse(TrainSettings, saved.train, "train").model_dump(mode="json")  # with defaults of keys it did not know yet
    old = create(name, saved.model["settings"]).settings.model_dump(mode="json") | {f"train.{key}": value for key, value in before.items()}
    settings = parse(TrainSettings, {**saved.train, **given}, "train")
    new = chosen.settings.model_dump(mode="json") | {
        f"train.{k}": v for k, v in settings.model_dump(mode="json").items()
    }
    free = {f"train.{key}" for key in _FREE_ON_RESUME}
    changed = [
        f"{key} is {old.get(key)!r} in the run, not {value!r}" for key, value in new.items() if old.get(key) != value
    ]
    changed = [line for line in changed if line.split(" ", 1)[0] not in free]
    if changed:
        raise ConfigError("a resumed run keeps its settings: " + "; ".join(changed) + "; leave them out, or train anew")
    return chosen, settings


def _check_same_store(saved: RunRecord, store: GraphStore, path: Path) -> None:
    if saved.store["fingerprint"] != fingerprint(store):
        raise RunError(
            f"the run {path} {other_data(saved, store)}; resume it with its own store, or train anew in another folder"
        )


def write_made(
    path: Path,
    model: Recommender,
    train: dict[str, Any],
    store: dict[str, str],
    told: list[tuple[int, dict[str, Any]]],
    runs: Sequence[Run],
) -> Run:
    """Write the run folder of a model that was made from finished runs, in the place of what is there.

    Args:
        path: the folder, `locked`.
        train, store: of the `RunRecord`.
        told: steps and records of the journal.
        runs: what it was made of, which its origins are those of; the splits that these have learned from, it has, too.
    """
    take_over(path)
    place = place_of(path, resume=False)
    clear(place)
    record = RunRecord(
        model={"name": model.name, "settings": model.settings.model_dump(mode="json")},
        train=train,
        store=store,
        origins=_origins_of(runs),
        learned=list(dict.fromkeys(split for run in runs for split in run.config.learned)),
    )
    record.write(place)
    log = Journal(place)
    try:
        for step, values in told:
            log.record(step, values)
    finally:
        log.close()
    model.save(place / MODEL, overwrite=True)
    take_over(path)
    return Run(path, model, Path(store["path"]), record)


def _origins_of(runs: Sequence[Run]) -> dict[str, str]:
    """The origins of several runs, those that differ side by side."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for ntype, text in run.config.origins.items():
            found.setdefault(ntype, {})[text] = None
    return {ntype: "; ".join(texts) for ntype, texts in found.items()}


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"train device: choose auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"train device: choose auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count()
        raise ConfigError(f"train device: {name} is not there ({count} GPUs are visible to torch); use cpu or auto")
    return device
