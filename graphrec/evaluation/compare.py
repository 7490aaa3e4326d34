"""Is one run better than another, or were the users lucky? Paired tests on the same users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrec.errors import ConfigError, RunError, nearest
from graphrec.evaluation import METRICS
from graphrec.evaluation.evaluate import evaluate
from graphrec.evaluation.lists import lower_is_better
from graphrec.evaluation.result import Evaluation, file_names
from graphrec.evaluation.significance import (
    bootstrap_means,
    holm,
    interval_of,
    normal_intervals,
    paired_t_p,
    sign_flip_p,
)
from graphrec.progress import SILENT, Reporter, takes_progress

if TYPE_CHECKING:
    from graphrec.training.run import Run


_FEWEST = 100  # draws


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same users.

    Attributes:
        metric: for example "recall@20".
        a, b: the two means.
        difference: b - a.
        low, high: 95 % paired interval of the difference: of the bootstrap, or for more than 100,000 users the normal one.
        p_permutation: two-sided p-value of the paired sign-flip test.
        p_t: two-sided p-value of the paired t-test.
        better: "A" or "B" where p_permutation < 0.05, else "neither". Several metrics are several tests: a single p-value
            near 0.05 among many is no finding (`Comparison.p_holm`).
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_permutation: float
    p_t: float
    better: str


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two evaluations side by side.

    Attributes:
        a, b: what was compared, for people.
        split, users: the split, and the number of users that both were evaluated on.
        differences: one per metric that has a value per user.
        totals: `{metric: (a, b)}` of the metrics of all lists together, which no paired test fits.
        p_holm: p_permutation of each metric, adjusted for all metrics of `differences` by Holm's method.
        learned: which of the two has learned from the split, "A" or "B"; its figures are not of unseen interactions.
        all_users: of the split, more than `users` where both were evaluated on a sample.
    """

    a: str
    b: str
    split: str
    users: int
    differences: list[Difference]
    totals: dict[str, tuple[float, float]]
    p_holm: dict[str, float]
    learned: list[str]
    all_users: int

    @property
    def interval(self) -> str:
        """What `low` and `high` are of: "bootstrap" or "normal"."""
        return interval_of(self.users)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def notes(self) -> list[str]:
        """Return what has to be known of the figures, in sentences."""
        sample = [f"both on a random sample of {self.users:,} of {self.all_users:,} users"] if self.users < self.all_users else []
        return sample + [
            f"{side} has learned from the {self.split} split: its figures are not of unseen interactions, and better ones no finding"
            for side in self.learned
        ]

    def __str__(self) -> str:
        lines = [f"A = {self.a}, B = {self.b}; split {self.split}, {self.users:,} users", *self.notes()]
        for row in self.differences:
            lines.append(
                f"  {row.metric:<14} A {row.a:>10.4f}  B {row.b:>10.4f}  B - A {row.difference:+.4f} "
                f"[{row.low:+.4f}, {row.high:+.4f}]  p {row.p_permutation:.4f}  p (Holm) {self.p_holm[row.metric]:.4f}  "
                f"better: {row.better}"
            )
        lines += [f"  {name:<14} A {a:>10.4f}  B {b:>10.4f}" for name, (a, b) in self.totals.items()]
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook shows of it


@takes_progress
def compare(
    a: Evaluation | Run | str | os.PathLike[str],
    b: Evaluation | Run | str | os.PathLike[str],
    split: str = "test",
    metrics: Sequence[str] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    progress: Reporter | bool = SILENT,
) -> Comparison:
    """Compare two runs user by user.

    A run that has not been evaluated yet is evaluated first, with the settings of the other one.

    Args:
        a, b: evaluations, runs or run folders.
        split: the split to compare on; evaluations bring their own.
        metrics: full names such as "recall@20"; None takes all that both have.
        resamples: draws of the bootstrap and sign patterns of the permutation test, at least 100.
        seed: fixes them.
        progress: receives the long steps.

    Raises:
        RunError: the two were evaluated on other stores, splits or masks, or have no metric in common.
        ConfigError: a metric is not in both evaluations or has no value per user, or `resamples` is too small for an interval.
    """
    if resamples < _FEWEST:
        raise ConfigError(
            f"compare: resamples must be at least {_FEWEST}, for fewer draws have no 95% interval and no small p, got "
            f"{resamples}; leave it out for 10,000"
        )
    first, second = _saved(a, split), _saved(b, split)
    first = first or evaluate(a, split=split, progress=progress, **_settings_of(second))
    second = second or evaluate(b, split=split, progress=progress, **_settings_of(first))
    _check_same_data(first, second)
    names = _common(first, second, metrics)
    values_a, values_b = (np.stack([side.values(name) for name in names], axis=1) for side in (first, second))
    difference = values_b - values_a
    if interval_of(len(difference)) == "normal":
        bounds = normal_intervals(difference, 0.95).T
    else:
        bounds = np.nanquantile(bootstrap_means(difference, resamples, seed, progress), [0.025, 0.975], axis=0)
    permutation, student = sign_flip_p(difference, resamples, seed, progress), paired_t_p(difference)
    rows = []
    for column, name in enumerate(names):
        gap = float(np.nanmean(difference[:, column]))
        rows.append(
            Difference(
                metric=name,
                a=first.metrics[name],
                b=second.metrics[name],
                difference=gap,
                low=float(bounds[0, column]),
                high=float(bounds[1, column]),
                p_permutation=float(permutation[column]),
                p_t=float(student[column]),
                better=better(name, gap, float(permutation[column])),
            )
        )
    shared = [name for name in first.metrics if name in second.metrics and name not in first.user_metrics]
    totals = {name: (first.metrics[name], second.metrics[name]) for name in shared if metrics is None}
    learned = [name for name, side in (("A", first), ("B", second)) if side.learned]
    adjusted = dict(zip(names, holm(permutation).tolist(), strict=True))
    users = len(difference)
    named, whole = (_label(a, first), _label(b, second)), first.counts.get("all_users", users)
    return Comparison(*named, first.split, users, rows, totals, adjusted, learned, whole)


def _saved(source: Evaluation | Run | str | os.PathLike[str], split: str) -> Evaluation | None:
    """The evaluation that `source` is or holds; None where it has not been made."""
    if isinstance(source, Evaluation):
        return source
    folder = source if isinstance(source, str | os.PathLike) else source.folder
    return Evaluation.load(folder, split) if file_names(folder, split)[0].is_file() else None


def _settings_of(other: Evaluation | None) -> dict[str, Any]:
    return {} if other is None else other.settings


def _check_same_data(first: Evaluation, second: Evaluation) -> None:
    if first.split != second.split:
        raise RunError(
            f"A was evaluated on the split {first.split!r} and B on {second.split!r}; evaluate both on the same split"
        )
    if first.data != second.data:
        raise RunError(
            f"A (store {first.store}) and B (store {second.store}) were tested on other users, test items or masked items, "
            "so their users cannot be paired; train and evaluate both on one store, as it is now, with the same mask_valid and users"
        )


def _common(first: Evaluation, second: Evaluation, metrics: Sequence[str] | None) -> list[str]:
    shared = [name for name in first.user_metrics if name in second.user_metrics]
    if not shared:
        raise RunError(
            f"A has {', '.join(first.metrics)} and B has {', '.join(second.metrics)}: no metric with a value per user in common, "
            "which a paired test needs; evaluate both again with the same k and metrics, such as recall"
        )
    for name in metrics or ():
        if name in first.metrics and name in second.metrics and name not in shared:
            raise ConfigError(
                f"{name!r} has one value for all lists together, which no paired test fits; leave --metrics out to see it beside "
                f"the tests, or choose among {', '.join(shared)}"
            )
        if name in ("rmse", "mae") and (name in first.metrics) != (name in second.metrics):
            without = "B" if name in first.metrics else "A"
            raise ConfigError(f"{name!r} compares scores with ratings, and {without} has none: its model only orders items; leave it out")
        if name not in shared:
            raise ConfigError(
                f"{name!r} is not in both evaluations; they share {', '.join(shared)}{nearest(name, shared)}; "
                "measure both again with it: graphrec evaluate RUN --k ... --metrics ..."
            )
    return list(metrics) if metrics else shared


def better(metric: str, difference: float, p_value: float) -> str:
    """Return which of two models is better, "A", "B" or "neither", by the difference B - A and its p-value.

    Of a metric that is not registered in this process nothing says which way is better: "neither".
    """
    name = metric.partition("@")[0]
    if not p_value < 0.05 or difference == 0 or name not in METRICS:
        return "neither"
    return "B" if (difference > 0) != lower_is_better(name) else "A"


def _label(source: Any, evaluation: Evaluation) -> str:
    if isinstance(source, Evaluation):
        return evaluation.model
    folder = source if isinstance(source, str | os.PathLike) else source.folder
    return f"{folder} ({evaluation.model})"
