"""What a second-stage ranker knows of a user, an item and the pair, all of it taken from training interactions alone.

- static: a row per user and per item: activity, popularity, mean weight, recency, numeric attributes, values as indicators;
- dots: affinities, each the inner product of a user's and an item's row;
- gaps: how far an item lies from what the user usually takes, |user's number - item's number|;
- paths: user -> item -> user -> item paths that lead from the user to the item;
- steps: whether others took the item soon after what the user took last (`graphrec.features.sequence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from graphrec.features.attributes import Attributes
from graphrec.features.sequence import NextSteps
from graphrec.graph.split import NO_TIME
from graphrec.graph.store import Interactions

PATHS, STEPS = ("paths", "paths weighted"), "next step"
_PRIOR = 10.0  # interactions that shrink a mean or a share towards that of everybody
_RECENT = 0.1  # share of the training events, the latest, that tell what is on the rise
_DAY = 86_400e6  # µs
_MEAN_TIME = "mean time"
_USERS_AT_ONCE = 64


@dataclass(frozen=True)
class InteractionFeatures:
    """Raw features of users, items and pairs.

    Attributes:
        arrays: float32: "user" (U, Fu) and "item" (I, Fi); "dot.<name>.user" (U, V) and "dot.<name>.item" (I, V);
            "gap.user" (U, G) and "gap.item" (I, G).
        names: "user", "item", "dot" and "gap" to the names of the columns.
        history: training pairs, CSR (U, I) of ones.
        steps: the order in time; None where there are no times.
    """

    arrays: dict[str, np.ndarray]
    names: dict[str, list[str]]
    history: sp.csr_matrix
    steps: NextSteps | None = None

    @classmethod
    def fit(cls, rows: Interactions, shape: tuple[int, int], user: Attributes, item: Attributes) -> InteractionFeatures:
        """Take all features from training interactions and attributes.

        Args:
            rows: the training events of the target behaviour. What a ranker is to predict must not be among them.
            shape: (U, I).
            user, item: attributes of all users and items.
        """
        history = _history(rows, shape)
        arrays, names = {}, {"dot": [], "gap": []}
        when = {side: _times(rows, shape, side) for side in ("user", "item")}
        for side, attributes in (("user", user), ("item", item)):
            columns = {**_counts(rows, shape, side), **when[side], **attributes.numeric}
            blocks, names[side] = _standardised(columns)
            for name, values in attributes.values.items():
                blocks.append(values)
                names[side] += [f"{name}={value}" for value in attributes.value_names[name]]
            arrays[side] = np.concatenate([np.zeros((shape[side == "item"], 0)), *blocks], 1, dtype=np.float32)
        for name, values in item.values.items():
            arrays |= {f"dot.item {name}.user": _affinity(history, values), f"dot.item {name}.item": _shares(values)}
            names["dot"].append(f"item {name}")
        for name, values in user.values.items():
            arrays |= {f"dot.user {name}.user": _shares(values), f"dot.user {name}.item": _affinity(history.T, values)}
            names["dot"].append(f"user {name}")
        popularity = np.log1p(np.asarray(history.sum(0), dtype=np.float64).ravel())
        gaps = {"popularity": _gap(history, popularity)}
        gaps |= {f"item {name}": _gap(history, values) for name, values in item.numeric.items()}
        gaps |= {f"user {name}": _gap(history.T.tocsr(), values)[::-1] for name, values in user.numeric.items()}
        if when["user"]:
            gaps["time"] = _distance(when["user"][_MEAN_TIME], when["item"][_MEAN_TIME])
        names["gap"] = list(gaps)
        arrays["gap.user"], arrays["gap.item"] = (np.stack(part, 1) for part in zip(*gaps.values(), strict=True))
        return cls(arrays, names, history, NextSteps.fit(rows, shape))

    @property
    def pair_names(self) -> list[str]:
        """Names of the columns of `pairs`."""
        return [*self.names["dot"], *(f"gap {name}" for name in self.names["gap"]), *PATHS,
                *([] if self.steps is None else [STEPS])]  # fmt: skip

    def pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the features of pairs, float32 (B, N, Fp).

        Args:
            users: int64 (B,).
            items: int64 (B, N).
        """
        found = np.empty((*items.shape, len(self.pair_names)), dtype=np.float32)
        for start in range(0, len(users), _USERS_AT_ONCE):
            part = slice(start, start + _USERS_AT_ONCE)
            found[part] = self._pairs(users[part], items[part])
        return found

    def _pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        columns = []
        for name in self.names["dot"]:
            user, item = self.arrays[f"dot.{name}.user"][users], self.arrays[f"dot.{name}.item"]
            columns.append(np.take_along_axis(user @ item.T, items, 1))  # (B, N)
        gaps = np.abs(self.arrays["gap.user"][users][:, None] - self.arrays["gap.item"][items])  # (B, N, G)
        columns += list(np.moveaxis(gaps, 2, 0))
        dense = self._paths(users) + ([] if self.steps is None else [1e3 * self.steps.scores(users)])
        columns += [np.log1p(np.take_along_axis(values, items, 1)) for values in dense]
        return np.stack(columns, 2)

    def _paths(self, users: np.ndarray) -> list[np.ndarray]:
        """Path counts and weighted path counts from users to all items, (B, I) each.

        With R the training pairs, the counts are R_u R^T R and the weights R_u D_i^-1 R^T D_u^-1 R, the chance that a random
        walk takes the path (Zhou et al. 2007, arXiv:0707.0540). A pair that is not in R is never a step of its own path.
        """
        history, steps = self.history, self.history[users]
        degree = [1.0 / np.maximum(1.0, np.asarray(history.sum(axis)).ravel()) for axis in (0, 1)]
        plain = (steps @ history.T) @ history
        weighted = (steps.multiply(degree[0]).tocsr() @ history.T).multiply(degree[1]).tocsr() @ history
        return [plain.toarray(), 1e3 * weighted.toarray()]


def standardise_lists(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Centre and scale each column within each list, so that it says how a candidate compares with the others.

    Args:
        values: float32 (B, N, F).
        known: bool (B, N), places that hold a candidate; the others become 0.

    Returns:
        float32 (B, N, F); a column that is constant in a list is 0 there.
    """
    weight = known[..., None].astype(np.float32)
    count = np.maximum(weight.sum(1, keepdims=True), 1.0)
    centred = (values - (values * weight).sum(1, keepdims=True) / count) * weight
    spread = np.sqrt(np.square(centred).sum(1, keepdims=True) / count)
    size = np.abs(values * weight).max(1, keepdims=True)
    return centred / np.where(spread > 1e-6 * size, spread, np.inf)  # what differs by rounding alone is constant


def _history(rows: Interactions, shape: tuple[int, int]) -> sp.csr_matrix:
    history = sp.csr_matrix((np.ones(len(rows), np.float32), (rows.user, rows.item)), shape=shape)
    history.sum_duplicates()
    history.data[:] = 1.0
    return history


def _counts(rows: Interactions, shape: tuple[int, int], side: str) -> dict[str, np.ndarray]:
    index, size = getattr(rows, side), shape[side == "item"]
    count = np.bincount(index, minlength=size).astype(np.float64)
    columns = {"log count": np.log((count + 1) / (count.mean() + 1))}
    if len(rows) and np.ptp(rows.weight) > 0:
        total = np.bincount(index, weights=rows.weight, minlength=size)
        columns["mean weight"] = (total + _PRIOR * rows.weight.mean()) / (count + _PRIOR)
    return columns


def _times(rows: Interactions, shape: tuple[int, int], side: str) -> dict[str, np.ndarray]:
    """When the first, the mean and the last event was, in days before the end, and whether the recent share of events is
    larger than that of everybody. NaN for a row without any time."""
    if rows.timestamp is None or not (rows.timestamp != NO_TIME).any():
        return {}
    timed = rows.timestamp != NO_TIME
    index, size = getattr(rows, side)[timed], shape[side == "item"]
    time = rows.timestamp[timed].astype(np.float64)
    age = (time.max() - time) / _DAY
    first, last = np.full(size, np.nan), np.full(size, np.nan)
    np.fmax.at(first, index, age)
    np.fmin.at(last, index, age)
    recent = age <= np.quantile(age, _RECENT)
    count = np.bincount(index, minlength=size)
    mean = np.where(count > 0, np.bincount(index, weights=age, minlength=size) / np.maximum(count, 1), np.nan)
    rise = np.log((np.bincount(index[recent], minlength=size) + 1) / (recent.mean() * count + 1))
    return {"first": np.log1p(first), _MEAN_TIME: mean, "last": np.log1p(last), "rise": rise}


def _standardised(columns: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """Each column to mean 0 and deviation 1 with 0 where missing, and a column that says what is missing.

    That column is there even where nothing is missing: another training side of the same store has the same columns.
    """
    blocks, names = [], []
    for name, values in columns.items():
        missing = np.isnan(values)
        mean, deviation = (np.nanmean(values), np.nanstd(values)) if not missing.all() else (0.0, 0.0)
        scaled = (np.where(missing, mean, values) - mean) / (deviation if deviation > 0 else 1.0)
        blocks += [scaled[:, None], missing[:, None]]
        names += [name, f"{name} missing"]
    return blocks, names


def _affinity(history: sp.csr_matrix, values: np.ndarray) -> np.ndarray:
    """log of how much more often a row's history has a value than everybody's, shrunk: float32 (rows, V).

    log((n_v + a p_v) / ((n + a) p_v)) with n_v of the n interactions having the value, p_v their share over all, a = 10.
    """
    having = np.asarray(history @ values, dtype=np.float64)
    total = np.asarray(history.sum(1), dtype=np.float64)
    share = having.sum(0) / max(1.0, total.sum())
    share = np.where(share > 0, share, 1.0)
    return np.log((having + _PRIOR * share) / ((total + _PRIOR) * share)).astype(np.float32)


def _shares(values: np.ndarray) -> np.ndarray:
    """Rows that sum to 1, zero rows kept."""
    return values / np.maximum(values.sum(1, keepdims=True), 1.0)


def _gap(history: sp.csr_matrix, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shrunk mean of a row's history and each column's own number, both in deviations; missing ones at the mean."""
    known = np.isfinite(values)
    mean, deviation = (values[known].mean(), values[known].std()) if known.any() else (0.0, 0.0)
    own = np.where(known, (values - mean) / (deviation if deviation > 0 else 1.0), 0.0).astype(np.float32)
    total, count = history @ own, history @ known.astype(np.float32)
    return ((total / (count + _PRIOR)).astype(np.float32), own)


def _distance(user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sides of one scale, in deviations of the items'; missing ones at the items' mean."""
    known = item[np.isfinite(item)]
    mean, deviation = known.mean(), known.std()
    sides = (
        np.where(np.isfinite(side), side - mean, 0.0) / (deviation if deviation > 0 else 1.0) for side in (user, item)
    )
    return tuple(side.astype(np.float32) for side in sides)
