"""Metrics of link prediction, as pure functions of the scores of links and of pairs that are none. Ties never favour a link."""

from __future__ import annotations

import numpy as np

from graphrec.errors import ConfigError, nearest

METRICS = ("auc", "ap", "mrr", "hits@K")


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a link scores above a non-link; ties count half.

    AUC = (sum of the links' mean ranks - n (n + 1) / 2) / (n m).

    Args:
        positive: (n,) scores of links.
        negative: (m,) scores of non-links.

    Returns:
        In [0, 1]; 0.5 is chance.
    """
    below, equal = _below_and_equal(positive, negative)
    return float((below + 0.5 * equal).mean() / len(negative))


def average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean over the links of the precision among all pairs that score at least as high; a group of ties is one threshold.

    AP = sum over thresholds t of (recall_t - recall_{t-1}) precision_t, as in scikit-learn.

    Args:
        positive, negative: as for `auc`.
    """
    order = np.sort(positive)
    at_least = len(order) - np.searchsorted(order, positive, side="left")
    below, _ = _below_and_equal(positive, negative)
    return float((at_least / (at_least + len(negative) - below)).mean())


def hits_at(positive: np.ndarray, negative: np.ndarray, k: int) -> float:
    """Share of the links that score above the k-th best of the non-links; 1 where there are fewer than k of these.

    Args:
        positive, negative: as for `auc`.
        k: at least 1.

    Source: Hu et al. 2020, Open Graph Benchmark, arXiv:2005.00687, appendix; the rule for few negatives is its Evaluator's.
    """
    if len(negative) < k:
        return 1.0
    threshold = np.partition(negative, len(negative) - k)[len(negative) - k]
    return float((positive > threshold).mean())


def mrr(positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean over the links of 1 / rank among non-links, rank = 1 + (negatives above) + (negatives equal) / 2.

    Args:
        positive: (n,) scores of links.
        negative: (n, K), those of each link's own non-links, or (m,), shared by all.

    Source: Hu et al. 2020, arXiv:2005.00687, with the mean of the optimistic and the pessimistic rank as in ogb's Evaluator.
    """
    if negative.ndim == 2:
        above = (negative > positive[:, None]).sum(1)
        equal = (negative == positive[:, None]).sum(1)
    else:
        below, equal = _below_and_equal(positive, negative)
        above = len(negative) - below - equal
    return float((1.0 / (1 + above + 0.5 * equal)).mean())


def measure(positive: np.ndarray, negative: np.ndarray, names: list[str]) -> dict[str, float]:
    """Take several metrics of one set of scores.

    Args:
        positive: (n,).
        negative: (m,) shared, or (n, K); for all but "mrr" the latter counts as n K shared ones.
        names: among `METRICS`, with a number for K.

    Raises:
        ConfigError: a name is not known or asks for more negatives than there are, or a score is NaN.
    """
    if np.isnan(positive).any() or np.isnan(negative).any():
        raise ConfigError("a score is NaN; lower the learning rate, or check the features")
    flat = negative.reshape(-1)
    found = {}
    for name in names:
        base, _, k = check_metric(name, len(flat)).partition("@")
        if base == "hits":
            found[name] = hits_at(positive, flat, int(k))
        elif base == "mrr":
            found[name] = mrr(positive, negative)
        else:
            found[name] = {"auc": auc, "ap": average_precision}[base](positive, flat)
    return found


def check_metric(name: str, negatives: int | None = None, side: str = "") -> str:
    """Return `name`.

    Args:
        name: of a metric.
        negatives: how many non-links there are, where it is known.
        side: of which held-out side, for messages.

    Raises:
        ConfigError: it is not a metric of link prediction, or its K is above the number of non-links, where every link hits.
    """
    base, _, k = name.partition("@")
    if name in METRICS[:3] or (base == "hits" and k.isdigit() and int(k) > 0):
        if k and negatives is not None and int(k) > negatives:
            raise ConfigError(
                f"{name}: only {negatives:,} pairs that are no links are held out{f' for {side}' if side else ''}, so every link would "
                "be a hit; choose a smaller K, or, where the split is drawn, hold out more links (--valid, --test)"
            )
        return name
    raise ConfigError(f"unknown metric {name!r}; choose among {', '.join(METRICS)} with a number for K{nearest(name, METRICS)}")


def _below_and_equal(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.sort(negative)
    below = np.searchsorted(order, positive, side="left")
    return below, np.searchsorted(order, positive, side="right") - below
