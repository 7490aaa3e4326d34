"""Where rooms that may not know each other meet: training is handed the validation that evaluation makes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphrec.progress import SILENT, Reporter, takes_progress

if TYPE_CHECKING:
    from graphrec.benchmarking.plan import Contender
    from graphrec.benchmarking.summary import Benchmark
    from graphrec.features.settings import FeaturesSettings
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender
    from graphrec.settings import Settings
    from graphrec.training.run import Run
    from graphrec.training.settings import TrainSettings


@takes_progress
def train(
    store: GraphStore | str | os.PathLike[str] | None,
    model: str | Recommender | None = None,
    folder: str | os.PathLike[str] | None = None,
    settings: TrainSettings | Mapping[str, Any] | None = None,
    *,
    model_settings: Settings | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporter | bool = SILENT,
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


def check_features(
    features: FeaturesSettings,
    store: str | os.PathLike[str],
    model: str,
    model_settings: Mapping[str, Any],
    progress: Reporter = SILENT,
) -> None:
    """Refuse features of a run file that its model would not use, or that the store made otherwise.

    Args:
        features: the `[features]` section.
        store: the store's folder; it is not opened where no feature is configured.
        model: registered name.
        model_settings: of the model.
        progress: told of features that the model cannot read.

    Raises:
        ConfigError: as in `graphrec.features.configured.check_configured`, or the model or a setting is unknown.
        StoreError: the store is missing or damaged.
    """
    from graphrec.features.configured import check_configured
    from graphrec.graph.store import GraphStore
    from graphrec.models import create

    if features.item or features.user or features.media:
        opened = GraphStore.open(store)
        made = create(model, model_settings)
        check_configured(features, made.features_used(opened), model, type(made.settings).model_fields, opened, progress)


@takes_progress
def benchmark(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    models: str | Sequence[str],
    folder: str | os.PathLike[str] = "benchmarks/default",
    *,
    seeds: int = 1,
    first_seed: int = 0,
    k: int | Sequence[int] = 20,
    metrics: str | Sequence[str] = ("recall", "ndcg"),
    validate: bool = False,
    device: str | None = None,
    ablate: str | None = None,
    progress: Reporter | bool = SILENT,
) -> Benchmark:
    """Measure models on data sets, every pair with every seed in a fresh process, and write tables with paired tests.

    A cell that is finished is kept in `folder` and not measured again, unless its settings or data have changed; a benchmark that
    was killed goes on where it was. A cell that fails is named in the tables, and the others go on. The processes do not know
    models, parts and metrics that were registered at run time.

        graphrec.benchmark("data/gowalla", ["graph-filter", "lightgcn", "sum:graph-filter+lightgcn"], seeds=3)

    Args:
        data: folders: graph stores, or with a given split (`train.txt` and `test.txt`, plain or compressed).
        models: registered names, run files (their [model] and [train]; the name of the file is the row's); `4*A`, the mean of
            four of A, with four seeds of their own for each seed (of popularity, where the seed changes nothing, it ranks as A); and
            `sum:A+B` of two of all these: their scores added in units of their spreads, the weight chosen on a part of the training
            items. What a sum names and the list does not is added to it.
        folder: keeps cells and tables.
        seeds, first_seed: the seeds are first_seed, first_seed + 1, ...
        k: list lengths.
        metrics: names of registered metrics.
        validate: measure on a validation part of the training items; the test items are then not looked at.
        device: where to train; None takes a run file's own, else the GPU where there is one.
        ablate: "relations" adds, for each model that reads several edge types or features of one store, a row without each of
            them; the paired tests are then those of these rows against their full models.
        progress: receives the cells.

    Raises:
        ConfigError: a model, setting or metric is unknown, a name comes twice, is empty or none is given, or there is nothing to
            leave out.
        LogError: there is no such data folder.
        RunError: another process is at work in `folder`, or the disk is full.
    """
    from graphrec.benchmarking.contest import contest, contestants

    folders = [data] if isinstance(data, str | os.PathLike) else list(data)
    validated = {Path(folder).resolve() for folder in folders} if validate else set()
    rows = contestants(models, lambda name: _read_contender(name, progress, validated))
    return contest(data, rows, folder, seeds, first_seed, k, metrics, validate, device, progress, ablate)


def _read_contender(name: str, progress: Reporter, validated: set[Path]) -> Contender:
    """A row of the table from a registered name or a run file, whose metrics would be those of one row alone.

    `validated` are the stores on whose validation split all rows are measured.
    """
    from graphrec.benchmarking.plan import Contender
    from graphrec.config import load_config
    from graphrec.errors import ConfigError
    from graphrec.models import MODELS
    from graphrec.tuning.result import tuned_on

    if Path(name).is_dir() and name not in MODELS:
        raise ConfigError(
            f"models: {name} is a folder; give a run file (.toml), whose model is trained for each data set and seed, or the name of a "
            "model"
        )
    if not name.endswith(".toml"):
        return Contender(name, name)
    config = load_config(name)
    if config.evaluate.model_fields_set:
        unused = ", ".join(sorted(config.evaluate.model_fields_set))
        progress.note(f"{name}: its [evaluate] {unused} is not used; all rows are measured alike, as metrics and k say")
    if "seed" in config.train.model_fields_set:
        own = config.train.seed
        progress.note(f"{name}: its [train] seed {own} is not used; the seeds are those of the benchmark, the same for all rows")
    tuned = tuned_on(name)
    if tuned is not None and Path(tuned).resolve() in validated:
        progress.note(
            f"{name}: found by the validation split of {tuned}, on which --validate measures: its row is better than on items that no "
            "search has seen, and is to be compared on the test, without --validate"
        )
    model, train = (settings.model_dump(exclude_unset=True) for settings in (config.model.settings, config.train))
    return Contender(Path(name).stem, config.model.name, model, train)
