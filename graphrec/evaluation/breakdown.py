"""Where a model is good: by how active the users are, and by how popular the items are."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrec.evaluation.user_items import UserItems
from graphrec.graph.ids import distinct

_CURVE_POINTS = 101


def by_user_activity(history: np.ndarray, per_user: dict[str, np.ndarray], groups: int) -> list[dict[str, Any]]:
    """Average the metrics within groups of users of about equal size, from the least to the most active.

    Args:
        history: int64 (B,), training items of each user.
        per_user: metric name to float64 (B,).
        groups: number of quantile groups; fewer come back where many users are equally active, since users with the
            same history length are never parted.

    Returns:
        One dict per group: label, min_history, max_history, users, metrics.
    """
    edges = distinct(np.quantile(history, np.linspace(0, 1, groups + 1)[1:-1], method="higher"))
    group = np.searchsorted(edges, history, side="right")  # a user at an edge opens the next group
    result = []
    for number in distinct(group):
        member = group == number
        low, high = int(history[member].min()), int(history[member].max())
        result.append(
            {
                "label": f"{low:,}" if low == high else f"{low:,}–{high:,}",
                "min_history": low,
                "max_history": high,
                "users": int(member.sum()),
                "metrics": {name: mean(values[member]) for name, values in per_user.items()},
            }
        )
    return result


def by_item_popularity(
    topk: np.ndarray, hits: np.ndarray, truth: UserItems, item_counts: np.ndarray, ks: list[int]
) -> list[dict[str, Any]]:
    """Recall and share of places for head, mid and tail items, each third holding a third of the training interactions.

    Recall of a group is a micro average: hits on its items / test interactions with its items.

    Args:
        topk: int64 (B, K), with -1 where a list is short.
        hits: bool (B, K).
        truth: the test items of the B users.
        item_counts: int64 (I,), training interactions per item.
        ks: list lengths.

    Returns:
        Three dicts (head, mid, tail): label, items, share_of_catalogue, test_interactions, share_of_test, and per k
        `recall@k` (None where the group has no test interaction) and `share_of_places@k`.

    Source: grouping by equal interaction mass as in Wu et al., SGL (2021, arXiv 2010.10783), with three groups.
    """
    group = _popularity_group(item_counts)
    tested = np.bincount(group[truth.indices], minlength=3)
    result = []
    for number, label in enumerate(("head", "mid", "tail")):
        row: dict[str, Any] = {
            "label": label,
            "items": int((group == number).sum()),
            "share_of_catalogue": float((group == number).mean()),
            "test_interactions": int(tested[number]),
            "share_of_test": float(tested[number] / max(1, tested.sum())),
        }
        for k in ks:
            listed, hit = topk[:, :k], hits[:, :k]
            inside = (group[listed] == number) & (listed >= 0)
            row[f"recall@{k}"] = float((inside & hit).sum() / tested[number]) if tested[number] else None
            row[f"share_of_places@{k}"] = float(inside.sum() / max(1, (listed >= 0).sum()))
        result.append(row)
    return result


def concentration(topk: np.ndarray, truth: UserItems, item_counts: np.ndarray) -> dict[str, list[float]]:
    """Cumulative share of recommended places and of test interactions over the items, most popular in training first.

    Returns:
        101 points each of catalogue_share, recommended, consumed and training; all from 0 to 1.

    Source: the concentration curve of Lorenz (1905), with a common order of the items so that the curves compare.
    """
    order = np.argsort(-item_counts, kind="stable")
    position = np.linspace(0, len(order), _CURVE_POINTS)
    curves = {"catalogue_share": (position / len(order)).tolist()}
    for name, counts in (
        ("recommended", np.bincount(topk[topk >= 0], minlength=len(order))),
        ("consumed", np.bincount(truth.indices, minlength=len(order))),
        ("training", item_counts),
    ):
        running = np.concatenate([[0.0], np.cumsum(counts[order])]) / max(1, counts.sum())
        curves[name] = np.interp(position, np.arange(len(running)), running).tolist()
    return curves


def mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN when there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _popularity_group(item_counts: np.ndarray) -> np.ndarray:
    """0 head, 1 mid, 2 tail: int64 (I,). An item belongs where the mass before it, most popular first, ends."""
    order = np.argsort(-item_counts, kind="stable")
    before = np.cumsum(item_counts[order]) - item_counts[order]
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.minimum(2, 3 * before // max(1, item_counts.sum()))
    return group
