"""Rank the full catalogue for every test user and measure the lists."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import sparse

from graphrec.errors import ConfigError, UnsupportedError, check_list_length
from graphrec.evaluation import breakdown
from graphrec.evaluation.likeness import sums_of_cosines
from graphrec.evaluation.lists import Lists, compute, needs
from graphrec.evaluation.measured import Measured
from graphrec.evaluation.ranking import Positions, rank_positions, rank_users
from graphrec.evaluation.result import Evaluation
from graphrec.evaluation.settings import EvaluateSettings
from graphrec.evaluation.significance import bootstrap_intervals, interval_of, normal_intervals
from graphrec.evaluation.split_data import SplitData, check_fits, count_unknown, read_split
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.settings import parse

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender
    from graphrec.training.run import Run


@takes_progress
def evaluate(
    run_or_model: Run | Recommender | str | os.PathLike[str],
    store: GraphStore | str | os.PathLike[str] | None = None,
    split: str = "test",
    k: int | Sequence[int] | None = None,
    metrics: str | Sequence[str] | None = None,
    *,
    settings: EvaluateSettings | None = None,
    progress: Reporter | bool = SILENT,
    **overrides: Any,
) -> Evaluation:
    """Rank all items for every user with a test item, in blocks of bounded memory, and measure the lists.

    Args:
        run_or_model: a run, its folder, or a fitted model. The evaluation of a run is also written into its folder, where that
            can be written.
        store: the graph store or its folder; None takes the one the run was trained on.
        split: "test" or "valid".
        k: list lengths, each 1..I; None takes those of `settings`.
        metrics: names of registered metrics; None takes those of `settings`.
        settings: the `[evaluate]` section; None takes the defaults.
        progress: receives the long steps.
        overrides: single fields of `EvaluateSettings`.

    Returns:
        The overall metrics with intervals, per-user values, breakdowns, counts and times.

    Raises:
        ConfigError: a setting is wrong, a metric is unknown, k is larger than the catalogue, ratings are asked for and the
            weights are all equal, or no store is given.
        UnsupportedError: nothing but errors of predicted ratings is asked for, and the model predicts none; beside other metrics
            they are left out.
        StoreError: the store has no interaction in that split.
        RunError: the model was trained on another store, or its scores are not numbers.
    """
    given = {name: value for name, value in {"k": k, "metrics": metrics, **overrides}.items() if value is not None}
    settings = parse(EvaluateSettings, {**(settings.model_dump() if settings else {}), **given}, "evaluate")
    source = Measured.open(run_or_model, store, "evaluate", progress)
    model, store = source.model, source.store
    metrics = measurable(model, settings.metrics)
    started = time.perf_counter()
    data = read_split(store, split, settings.mask_valid)
    check_fits(model.catalogue, data, store)
    check_measurable(store, split, settings.k, metrics)
    wanted = frozenset().union(*map(needs, metrics))
    whole = {"all_users": len(data.users), "all_test_interactions": len(data.truth.indices)}
    if settings.users is not None and settings.users < len(data.users):
        data = data.sample(settings.users)
    ranked = time.perf_counter()
    topk = rank_users(model, data.users, max(settings.k), data.seen, block=settings.block, progress=progress)
    located = time.perf_counter()
    positions = None
    if wanted & {"ranks", "candidates", "predicted"}:
        positions = rank_positions(model, data.users, data.truth, data.seen, block=settings.block, progress=progress)
    measured = time.perf_counter()
    cosines = None
    if "cosines" in wanted:
        cosines = sums_of_cosines(topk, _item_vectors(store, data, settings.diversity_by), progress)
    lists = _lists(topk, positions, cosines, data)
    values = compute(metrics, settings.k, lists)
    seconds = {"read": ranked - started, "rank": located - ranked, "locate": measured - located}
    evaluation = _summarise(model, store, data, lists, values, settings, seconds, split in source.learned, progress)
    if len(data.users) < whole["all_users"]:
        evaluation.counts.update(whole)
    seconds["measure"] = time.perf_counter() - measured
    folder = source.folder(progress)
    if folder is not None:
        evaluation.save(folder)
    return evaluation


def check_measurable(store: GraphStore, split: str, k: Sequence[int], metrics: Sequence[str]) -> None:
    """Check whether a split of a store can be measured so, before models are trained for it or users ranked.

    Raises:
        ConfigError: k is larger than the catalogue, or ratings are asked for and the weights are all equal.
    """
    check_list_length(max(k), store.num_items)
    if not any("ratings" in needs(name) for name in metrics):
        return
    weights = store.interactions(split).weight
    if weights is None or (len(weights) and np.ptp(weights) == 0):
        raise ConfigError(
            f"rmse and mae compare scores with ratings, but every {split} interaction has the weight "
            f"{1 if weights is None else weights[0]:g}; leave these metrics out, or map the rating column to weight when reading "
            "the log"
        )


def measurable(model: Recommender, metrics: Sequence[str]) -> list[str]:
    """Return the metrics without those that a model's scores cannot have; `Evaluation.notes` says which are missing.

    Raises:
        UnsupportedError: none is left.
    """
    fitting = [name for name in metrics if model.predicts_ratings or "predicted" not in needs(name)]
    if not fitting:
        raise UnsupportedError(
            f"the scores of {model.name} order items and are no ratings, so {' and '.join(metrics)} would say nothing; choose "
            "other metrics, or a model that predicts ratings, such as gc-mc"
        )
    return fitting


def _item_vectors(store: GraphStore, data: SplitData, diversity_by: str) -> np.ndarray | sparse.csr_matrix:
    """(I, F), what makes two items alike."""
    if diversity_by == "co-occurrence":
        return data.cooccurrence_vectors()
    feature = store.feature("item", diversity_by)[0]
    return feature.reshape(len(feature), -1)


def _lists(topk: np.ndarray, positions: Positions | None, cosines: np.ndarray | None, data: SplitData) -> Lists:
    return Lists(
        topk=topk,
        hits=data.truth.contains(topk),
        relevant=data.truth.sizes,
        truth_indptr=data.truth.indptr,
        item_counts=data.catalogue.item_counts,
        num_users=data.catalogue.num_users,
        ranks=None if positions is None else positions.ranks,
        candidates=None if positions is None else positions.candidates,
        predicted=None if positions is None else positions.predicted,
        ratings=data.ratings,
        cosines=cosines,
    )


def _summarise(
    model: Recommender,
    store: GraphStore,
    data: SplitData,
    lists: Lists,
    values: dict[str, np.ndarray | float],
    settings: EvaluateSettings,
    seconds: dict[str, float],
    learned: bool,
    progress: Reporter,
) -> Evaluation:
    """Average, break down and bound the metrics."""
    per_user = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    intervals: dict[str, list[float]] = {}
    interval = interval_of(len(data.users))
    if settings.bootstrap and per_user:
        table = np.stack(list(per_user.values()), axis=1)
        if interval == "normal":
            bounds = normal_intervals(table, settings.confidence)
        else:
            bounds = bootstrap_intervals(table, settings.bootstrap, settings.confidence, settings.seed, progress)
        intervals = {
            name: pair.tolist() for name, pair in zip(per_user, bounds, strict=True) if np.isfinite(pair).all()
        }
    catalogue = data.catalogue
    unknown, unknown_users = count_unknown(store, data.split)
    history = np.diff(catalogue.seen_indptr)[data.users]
    ids = {"user_id": catalogue.users.gather(data.users), "history": history, "relevant": lists.relevant}
    return Evaluation(
        model=model.name,
        store=str(store.folder),
        split=data.split,
        data=data.fingerprint(),
        settings=settings.model_dump(mode="json"),
        metrics={n: breakdown.mean(v) if isinstance(v, np.ndarray) else v for n, v in values.items()},
        intervals=intervals,
        by_user_activity=breakdown.by_user_activity(history, per_user, settings.user_groups),
        by_item_popularity=breakdown.by_item_popularity(
            lists.topk, lists.hits, data.truth, catalogue.item_counts, list(settings.k)
        ),
        concentration=breakdown.concentration(lists.topk, data.truth, catalogue.item_counts),
        counts={
            "users": len(data.users),
            "test_interactions": len(data.truth.indices),
            "catalogue_items": catalogue.num_items,
            "training_users": catalogue.num_users,
            "left_out_users": data.left_out_users,
            "left_out_repeats": data.repeated,
            "left_out_unknown": unknown,
            "left_out_unknown_users": unknown_users,
        },
        seconds=seconds,
        per_user=pl.DataFrame({**ids, **per_user}),
        learned=learned,
        interval=interval,
    )
