"""The sum of models' scores, each in units of its own spread; the share of two is chosen on a validation part of train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from graphrec import ops
from graphrec.errors import UnsupportedError
from graphrec.evaluation.lists import Lists, compute, split_name
from graphrec.evaluation.ranking import check_list_length
from graphrec.evaluation.split_data import SplitData, check_fits, read_split
from graphrec.models.base import Recommender, blocks
from graphrec.models.spread import sample_users, spread

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

SHARES = tuple(step / 10 for step in range(11))
"""The shares of the second model that are tried; 0 and 1 are the two models alone."""


class ScoreSum(Recommender):
    """s(u, i) = sum over the models m of w_m s_m(u, i) / sigma_m

    with sigma_m the standard deviation of a model's scores over all items and one sample of users, as in
    `graphrec.models.residual`. It is made of fitted models, so it is neither fitted nor saved. Models that are trained alike from
    several seeds err in different places, so that their mean is better than each of them.

    Args:
        models: fitted on the same store.
        weights: w, one for each model.
        seed: of the sample of users.

    Source: Montague and Aslam 2001, Relevance score normalization for metasearch; here one deviation per model instead of one
        per query, and weights. Means over seeds: Lakshminarayanan et al. 2017, arXiv:1612.01474.
    """

    name = "sum"

    def __init__(self, models: Sequence[Recommender], weights: Sequence[float], seed: int = 0) -> None:
        super().__init__()
        self.catalogue = models[0].catalogue
        self._models, self.weights = tuple(models), tuple(weights)
        users = sample_users(self.catalogue, seed)
        self._spreads = tuple(spread(model.score, users) for model in self._models)

    @property
    def scores_are_dot_products(self) -> bool:
        return False

    def standard_scores(self, users: np.ndarray) -> Iterator[torch.Tensor]:
        """Each model's scores in units of their spread, float32 (B, I), one after the other."""
        for model, unit in zip(self._models, self._spreads, strict=True):
            yield model.score(users) / unit

    def _score(self, users: np.ndarray) -> torch.Tensor:
        parts = zip(self.standard_scores(users), self.weights, strict=True)
        scores, weight = next(parts)
        scores = scores * weight
        for part, weight in parts:
            scores.add_(part, alpha=weight)
        return scores

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        raise UnsupportedError("a sum of models is not saved; save each of them")

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        raise UnsupportedError("a sum of models is not read back; read each of them")


def choose_share(
    first: Recommender, second: Recommender, store: GraphStore, metric: str, seed: int = 0
) -> dict[float, float]:
    """Measure each share of `SHARES` on the validation split of `store`, which both models were trained without.

    Args:
        first, second: fitted on the training part of `store`.
        store: has a validation split.
        metric: a metric per user of the lists, with its length, such as "ndcg@20".
        seed: of the sample of users that the spreads are taken from.

    Returns:
        Share to value; the one to take is `best_share` of it.

    Raises:
        ConfigError: the list is longer than the catalogue.
    """
    data = read_split(store, "valid", mask_valid=False)
    for model in (first, second):
        check_fits(model.catalogue, data, store)
    name, k = split_name(metric)
    check_list_length(k, store.num_items)
    fused = ScoreSum((first, second), (1.0, 0.0), seed)
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
