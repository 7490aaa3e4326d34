"""What a metric can be given, by parameter name, and the one place that calls metrics."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from graphrec.errors import ConfigError, nearest
from graphrec.evaluation import METRICS
from graphrec.registry import resolve


@dataclass(frozen=True)
class Lists:
    """The ranked lists of B users together with the truth about them. The names are the parameter names of metrics.

    Attributes:
        topk: int64 (B, K), recommended item indices, best first; -1 where a list is short.
        hits: bool (B, K), whether the item at that place is a test item of the user.
        relevant: int64 (B,), number of test items of the user.
        truth_indptr: int64 (B + 1,), where each user's test items start in `ranks`.
        item_counts: int64 (I,), training interactions per item.
        num_users: U, number of training users (not B).
        ranks: float64 (nnz,), rank of each test item among the user's candidates; given when a metric asks for it.
        candidates: int64 (B,), number of items that are not masked for the user.
        predicted: float64 (nnz,), score of each test interaction.
        ratings: float64 (nnz,), weight of each test interaction, in the same order.
        cosines: float64 (B, K), sum of the cosines between the item at that place and those before it; given when a metric asks
            for it.
    """

    topk: np.ndarray
    hits: np.ndarray
    relevant: np.ndarray
    truth_indptr: np.ndarray
    item_counts: np.ndarray
    num_users: int
    ranks: np.ndarray | None = None
    candidates: np.ndarray | None = None
    predicted: np.ndarray | None = None
    ratings: np.ndarray | None = None
    cosines: np.ndarray | None = None


_GIVEN = ("k", *(field.name for field in fields(Lists)))
ON_REQUEST = frozenset(field.name for field in fields(Lists) if field.default is None)
"""What a metric is given in an evaluation and not between epochs."""


def needs(metric: str) -> frozenset[str]:
    """Return what the metric registered as `metric` is given: fields of `Lists`, and `k` for a metric at k.

    Parameters of other names keep their defaults.

    Raises:
        ConfigError: the metric is unknown, or has a parameter of another name without a default.
    """
    parameters = inspect.signature(resolve("metric", METRICS, metric)).parameters
    for name, parameter in parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in _GIVEN and named and parameter.default is parameter.empty:
            raise ConfigError(
                f"the metric {metric} asks for {name!r}, which no metric is given; name its parameters among "
                f"{', '.join(_GIVEN)}{nearest(name, _GIVEN)}, or give this one a default"
            )
    return frozenset(_GIVEN).intersection(parameters)


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric registered as `metric` is the better one, as its function says.

    Raises:
        ConfigError: the metric is unknown.
    """
    return getattr(resolve("metric", METRICS, metric), "lower_is_better", False)


def compute(metrics: Iterable[str], ks: Iterable[int], lists: Lists) -> dict[str, np.ndarray | float]:
    """Compute metrics by name.

    Args:
        metrics: keys of `METRICS`.
        ks: list lengths, each at most K.
        lists: the lists and what is known about them.

    Returns:
        For example `{"recall@10": (B,), "recall@20": (B,), "coverage@10": 0.3, "auc": (B,)}`: float64 per user, or one
        float for all lists together.

    Raises:
        ConfigError: a metric is unknown, or returns neither one value per user nor one float.
    """
    ks = sorted(set(ks))
    results: dict[str, np.ndarray | float] = {}
    for name in metrics:
        function, wanted = resolve("metric", METRICS, name), needs(name)
        given = {field: getattr(lists, field) for field in wanted - {"k"}}
        if "k" in wanted:
            results.update({f"{name}@{k}": _checked(function(**given, k=k), name, lists) for k in ks})
        else:
            results[name] = _checked(function(**given), name, lists)
    return results


def _checked(value: Any, metric: str, lists: Lists) -> np.ndarray | float:
    """What a metric returned, as float64 (B,) or a float."""
    users = len(lists.relevant)
    try:
        found = None if value is None else np.asarray(value, np.float64)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or found.shape not in ((), (users,)):
        got = type(value).__name__ if found is None else f"{type(value).__name__} of shape {found.shape}"
        raise ConfigError(
            f"the metric {metric} must return one value for each of the {users:,} users, float64 ({users},), or one float for "
            f"all lists together, got {got}; a user without a value is NaN and stays in its place"
        )
    return found if found.ndim else float(found)


def split_name(metric: str) -> tuple[str, int | None]:
    """Split `"ndcg@20"` into `("ndcg", 20)` and `"auc"` into `("auc", None)`.

    Raises:
        ConfigError: the metric is unknown, has no k although it needs one, has one it does not know, or k is not a
            positive whole number.
    """
    name, at, text = metric.partition("@")
    if "k" not in needs(name):
        if at:
            raise ConfigError(f"the metric {name} takes no list length, got {metric!r}; write {name!r}")
        return name, None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            f"the metric {name} needs a list length of 1 or more, got {metric!r}; write for example '{name}@20'"
        )
    return name, int(text)
