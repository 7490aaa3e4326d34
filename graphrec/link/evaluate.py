"""Measuring a link predictor on held-out links, and the whole way from a source to a result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graphrec.errors import unknown_name
from graphrec.link import LINK_MODELS
from graphrec.link.base import LinkModel
from graphrec.link.metrics import METRICS, check_metric, measure
from graphrec.logs.link_graph import SIDES, HeldOut, LinkGraph
from graphrec.logs.ogb import import_ogb
from graphrec.progress import SILENT, Reporter
from graphrec.registry import resolve

DEFAULT_METRICS = ("auc", "ap", "hits@20", "hits@50", "mrr")
_RULES = {
    "hits@": "hits@K counts the links above the K-th best of these pairs",
    "mrr": "mrr is a mean over links and not over nodes",
}


@dataclass(frozen=True)
class LinkResult:
    """What `predict_links` gives.

    Attributes:
        model: fitted.
        valid, test: metrics of the held-out links; those of a data set of OGB's last, named as in "ogbl-collab hits@50", its
            own metric by ogb's Evaluator.
        seconds: to fit.
    """

    model: LinkModel
    valid: dict[str, float]
    test: dict[str, float]
    seconds: float


def create(name: str, settings: Mapping[str, Any] | None = None, **overrides: Any) -> LinkModel:
    """Make the link predictor registered as `name`, not yet fitted.

    Raises:
        ConfigError: the name is unknown, or a setting is unknown or out of range.
    """
    return resolve("link model", LINK_MODELS, name)(settings, **overrides)


def create_all(names: Sequence[str], tables: Mapping[str, Mapping[str, Any]]) -> list[LinkModel]:
    """Make several link predictors.

    Args:
        names: keys of `LINK_MODELS`.
        tables: settings by model name; those under "model" are for all of them.

    Raises:
        ConfigError: a name is unknown, a setting is unknown or out of range, or settings are given for another model.
    """
    for table in tables:
        if table not in ("model", *names):
            raise unknown_name("model in settings", table, ["model", *names])
    return [create(name, {**tables.get("model", {}), **tables.get(name, {})}) for name in names]


def default_metrics(graph: LinkGraph) -> list[str]:
    """Return those of `DEFAULT_METRICS` for which both sides of the graph have enough non-links."""
    fewest = min(getattr(graph, side).num_negatives for side in SIDES)
    return [name for name in DEFAULT_METRICS if int(name.partition("@")[2] or 0) <= fewest]


def protocol(graph: LinkGraph, split: str = "test", metrics: Iterable[str] = METRICS) -> dict[str, Any]:
    """Return against what the links of one side are measured: `links` and `non_links`, how many; `own_non_links`, whether each link
    has some of its own; `non_links_are`, how they were found; and all of it, with the rules of `metrics`, in a sentence, `how`."""
    shown = " ".join(f" {name}" for name in metrics)
    held: HeldOut = getattr(graph, split)
    links, non_links, own = len(held.positives), held.num_negatives, held.negatives is None
    against = f"the same {non_links:,} pairs that are no links"
    if own:
        each = non_links // links
        of_all = [name for name in ("auc", "ap", "hits@K") if f" {name.removesuffix('K')}" in shown]
        against = f"{each:,} pairs of its own with the same source that are no links"
        against += f" (by {', '.join(of_all)} against those of all)" if of_all else ""
    rules = [rule for name, rule in _RULES.items() if f" {name}" in shown]
    how = "; ".join([f"each of {links:,} {split} links is ranked against {against}, {graph.negatives_are}", *rules])
    if graph.benchmark is not None:
        how += f"; {graph.benchmark}'s own metric is by ogb's Evaluator"
        if int((graph.metric or "").partition("@")[2] or 0) > non_links:
            how += ", to which every link is a hit where there are fewer than K such pairs"
    found = {"links": links, "non_links": non_links, "own_non_links": own, "non_links_are": graph.negatives_are}
    return {**found, "how": how}


def evaluate(model: LinkModel, graph: LinkGraph, split: str, metrics: Sequence[str] | None = None) -> dict[str, float]:
    """Score the held-out links and non-links of one side and measure them.

    Args:
        model: fitted.
        graph: the graph it was fitted on.
        split: "valid" or "test".
        metrics: see `graphrec.link.metrics`; None takes `default_metrics`.

    Raises:
        ConfigError: an unknown split or metric, or hits@K with more than there are non-links.
    """
    if split not in SIDES:
        raise unknown_name("split", split, SIDES)
    return measure(*_scores(model, graph, split), default_metrics(graph) if metrics is None else list(metrics))


def _scores(model: LinkModel, graph: LinkGraph, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The scores of one side's links (n,), and of its non-links, (m,) shared or (n, K)."""
    held: HeldOut = getattr(graph, split)
    negative = model.score(held.negative_pairs)
    if held.negatives is None:
        negative = negative.reshape(held.negative_targets.shape)
    return model.score(held.positives), negative


def official(benchmark: str, positive: np.ndarray, negative: np.ndarray) -> dict[str, float]:
    """Take the metric of one of OGB's data sets with ogb's own `Evaluator`; where hits@K has fewer than K non-links, it is 1.

    Args:
        benchmark: "ogbl-collab", say.
        positive, negative: as for `graphrec.link.metrics.measure`.

    Returns:
        The metric under the data set's name and its own, as "ogbl-collab hits@50".

    Raises:
        MissingExtraError: ogb is not installed.
    """
    evaluator = import_ogb().Evaluator(benchmark)
    name = evaluator.eval_metric
    scores = {"y_pred_pos": torch.from_numpy(positive), "y_pred_neg": torch.from_numpy(negative)}  # its mrr fails on arrays
    found = evaluator.eval(scores)
    value = found["mrr_list"].double().mean() if name == "mrr" else found[name]
    return {f"{benchmark} {name}": float(value)}


def predict_links(
    graph: LinkGraph,
    model: str | LinkModel = "gae",
    settings: Mapping[str, Any] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    progress: Reporter = SILENT,
) -> LinkResult:
    """Fit a link predictor and measure it on the validation and the test links.

        graph = open_link_graph("trust.txt.gz")
        predict_links(graph, "vgae", {"out_dim": 32}).test["auc"]

    Args:
        graph: the graph and its split.
        model: a registered name or a predictor not yet fitted.
        settings: of the model, where `model` is a name.
        metrics: see `graphrec.link.metrics`; None takes `default_metrics`.
        seed: of all randomness.
        progress: receives the training.

    Raises:
        ConfigError: an unknown model, setting or metric, or hits@K with more than there are non-links.
        RunError: the loss is not finite.
    """
    metrics = default_metrics(graph) if metrics is None else metrics
    for metric in metrics:
        for side in SIDES:
            check_metric(metric, getattr(graph, side).num_negatives, side)
    model = create(model, settings) if isinstance(model, str) else model
    start = time.perf_counter()
    model.fit(graph, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    sides = []
    for side in SIDES:
        scores = _scores(model, graph, side)
        own = {} if graph.benchmark is None else official(graph.benchmark, *scores)
        sides.append(measure(*scores, list(metrics)) | own)
    return LinkResult(model, *sides, seconds)
