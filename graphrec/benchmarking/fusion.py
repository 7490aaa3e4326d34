"""The share of two models in their sum, chosen on a validation part of train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from graphrec import ops
from graphrec.evaluation.lists import Lists, compute
from graphrec.evaluation.split_data import SplitData, check_fits, read_split
from graphrec.evaluation.validation import metric_to_choose_by
from graphrec.models.base import Recommender, blocks
from graphrec.models.score_sum import ScoreSum

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

SHARES = tuple(step / 10 for step in range(11))
"""The shares of the second model that are tried; 0 and 1 are the two models alone."""


def choose_share(
    first: Recommender,
    second: Recommender,
    store: GraphStore,
    metric: str,
    seed: int = 0,
    spreads: tuple[float, float] | None = None,
) -> dict[float, float]:
    """Measure each share of `SHARES` on the validation split of `store`, which both models were trained without.

    Args:
        first, second: fitted on the training part of `store`.
        store: has a validation split.
        metric: a metric per user of the lists, with its length, such as "ndcg@20".
        seed: of the sample of users that the spreads are taken from.
        spreads: of both models, where they have been measured already.

    Returns:
        Share to value; the one to take is `best_share` of it.

    Raises:
        ConfigError: the metric is unknown, or nothing can be chosen by it (`metric_to_choose_by`).
    """
    name, k = metric_to_choose_by(metric, store.num_items)
    data = read_split(store, "valid", mask_valid=False)
    for model in (first, second):
        check_fits(model.catalogue, data, store)
    fused = ScoreSum.of((first, second), (1.0, 0.0), seed, spreads=spreads)
    topk = np.empty((len(SHARES), len(data.users), k), dtype=np.int64)
    start = 0
    for users in blocks(data.users, 4 * store.num_items):  # four score matrices are held at once
        a, b = fused.standard_scores(users)
        seen = data.seen.rows(users)
        for number, share in enumerate(SHARES):
            _, best = ops.select_topk(torch.lerp(a, b, share), k, seen.indptr, seen.indices)
            topk[number, start : start + len(users)] = best.cpu().numpy()
        start += len(users)
    return {share: _mean(name, k, topk[number], data) for number, share in enumerate(SHARES)}


def best_share(values: dict[float, float]) -> float:
    """Return the share with the highest value, the smallest of equals."""
    return max(values, key=lambda share: (values[share], -share))


def _mean(name: str, k: int, topk: np.ndarray, data: SplitData) -> float:
    lists = Lists(
        topk=topk,
        hits=data.truth.contains(topk),
        relevant=data.truth.sizes,
        truth_indptr=data.truth.indptr,
        item_counts=data.catalogue.item_counts,
        num_users=data.catalogue.num_users,
    )
    return float(np.nanmean(compute([name], [k], lists)[f"{name}@{k}"]))
