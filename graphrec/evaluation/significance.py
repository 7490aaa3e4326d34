"""How sure we are of a mean over users: bootstrap and normal intervals, and paired tests of the difference between two models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from graphrec.progress import SILENT, Reporter

RESAMPLED_USERS = 100_000
"""Up to so many users are drawn again for intervals; of more the mean is normal, and the draws would take minutes."""

_CELLS = 8_000_000  # random draws in memory at a time
_PAIRS = 256  # differences between columns in memory at a time
_TIE = 1e-12  # of the sum of absolute values, by which sums of the same numbers in another order may differ


def interval_of(users: int) -> str:
    """Which intervals the means over so many users have: "bootstrap" or "normal"."""
    return "normal" if users > RESAMPLED_USERS else "bootstrap"



def bootstrap_means(values: np.ndarray, resamples: int, seed: int, progress: Reporter = SILENT) -> np.ndarray:
    """Draw users with replacement, `resamples` times, and return the mean of each draw.

    Args:
        values: float64 (B, M), M metrics of B users; NaN where a user has no value, which leaves that user out of the
            metric's mean.
        resamples: number of draws R.
        seed: fixes the draws; the same users are drawn for all M metrics.
        progress: receives the draws.

    Returns:
        float64 (R, M).

    Source: Efron, Bootstrap methods: another look at the jackknife (1979).
    """
    rng = np.random.default_rng(seed)
    num_users = len(values)
    known = np.isfinite(values)
    filled, weight = np.where(known, values, 0.0), known.astype(np.float64)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _CELLS // max(1, num_users))
    with progress.task("Bootstrapping users", total=resamples, unit="resamples") as task:
        for start in range(0, resamples, step):
            stop = min(start + step, resamples)
            drawn = rng.integers(0, num_users, size=(stop - start, num_users))
            drawn += np.arange(stop - start)[:, None] * num_users
            times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
            with np.errstate(invalid="ignore"):
                means[start:stop] = (times @ filled) / (times @ weight)
            task.advance(stop - start)
    return means


def bootstrap_intervals(
    values: np.ndarray, resamples: int, confidence: float, seed: int, progress: Reporter = SILENT
) -> np.ndarray:
    """Return the percentile bootstrap interval of each mean.

    Args:
        values: float64 (B, M), NaN where a user has no value.
        resamples: number of draws.
        confidence: for example 0.95.
        seed: fixes the draws.
        progress: receives the draws.

    Returns:
        float64 (M, 2): lower and upper bound; NaN for a metric that no user has.
    """
    tail = (1.0 - confidence) / 2.0
    means = bootstrap_means(values, resamples, seed, progress)
    known = np.isfinite(means).all(axis=0)
    bounds = np.full((values.shape[1], 2), np.nan)
    bounds[known] = np.quantile(means[:, known], [tail, 1.0 - tail], axis=0).T
    return bounds


def normal_intervals(values: np.ndarray, confidence: float) -> np.ndarray:
    """Return the interval mean ± z sd / sqrt(n) of each mean, which is that of the bootstrap for many users.

    Args:
        values: float64 (B, M), NaN where a user has no value, who is not among the n of that metric.
        confidence: for example 0.95.

    Returns:
        float64 (M, 2): lower and upper bound; NaN for a metric that fewer than two users have.
    """
    bounds = np.full((values.shape[1], 2), np.nan)
    for column, one in enumerate(values.T):
        known = one[np.isfinite(one)]
        if len(known) > 1:
            half = stats.norm.ppf((1 + confidence) / 2) * known.std(ddof=1) / np.sqrt(len(known))
            bounds[column] = known.mean() - half, known.mean() + half
    return bounds


def sign_flip_p(difference: np.ndarray, resamples: int, seed: int, progress: Reporter = SILENT) -> np.ndarray:
    """Two-sided p-value of the paired permutation test: under the null, each user's difference may change its sign.

    p = (1 + number of random sign patterns whose |mean| is at least the observed) / (1 + resamples).

    Args:
        difference: float64 (B, M), metric of A minus metric of B per user; NaN where either has no value.
        resamples: number of sign patterns; no p-value is below 1 / (1 + resamples).
        seed: fixes them; the same patterns serve all M metrics.
        progress: receives the patterns.

    Returns:
        float64 (M,).

    Source: Fisher (1935); recommended for retrieval metrics by Smucker, Allan and Carterette (2007).
    """
    filled = np.where(np.isfinite(difference), difference, 0.0)
    total = filled.sum(axis=0)
    # Sums of the same numbers in another order differ in the last bits; those are ties, not smaller values.
    observed = np.abs(total) - _TIE * np.abs(filled).sum(axis=0)
    reached = np.zeros(difference.shape[1], dtype=np.int64)
    with progress.task("Permutation test", total=resamples, unit="patterns") as task:
        for kept in _sign_patterns(resamples, len(filled), filled.shape[1], seed):
            reached += (np.abs(2.0 * (kept @ filled) - total) >= observed).sum(axis=0)
            task.advance(len(kept))
    return (1 + reached) / (1 + resamples)


def sign_flip_p_of_pairs(values: np.ndarray, pairs: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """`sign_flip_p` of the differences between columns: the sums over users are those of the columns, not of every pair.

    Args:
        values: float64 (B, R), one metric of R models per user; NaN where a model has none.
        pairs: int (P, 2), columns a and b of each pair.
        resamples, seed: as in `sign_flip_p`.

    Returns:
        float64 (P,).
    """
    known = np.isfinite(values)
    if (known != known[:, :1]).any():  # a pair's users are those that both have values for
        blocks = np.array_split(pairs, max(1, -(-len(pairs) // _PAIRS)))
        parts = [sign_flip_p(values[:, block[:, 1]] - values[:, block[:, 0]], resamples, seed) for block in blocks]
        return np.concatenate(parts)
    filled, (a, b) = np.where(known, values, 0.0), pairs.T
    total = filled.sum(axis=0)
    size = np.abs(filled).sum(axis=0)
    total, observed = total[b] - total[a], np.abs(total[b] - total[a]) - _TIE * (size[a] + size[b])
    reached = np.zeros(len(pairs), dtype=np.int64)
    for kept in _sign_patterns(resamples, len(filled), len(pairs), seed):
        sums = kept @ filled
        reached += (np.abs(2.0 * (sums[:, b] - sums[:, a]) - total) >= observed).sum(axis=0)
    return (1 + reached) / (1 + resamples)


def _sign_patterns(resamples: int, num_users: int, num_columns: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (n, B) of 0 and 1 in float64, of `resamples` rows in all: which users keep their sign."""
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // max(1, num_users, num_columns))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        bits = np.frombuffer(rng.bytes((rows * num_users + 7) // 8), dtype=np.uint8)
        yield np.unpackbits(bits, count=rows * num_users).reshape(rows, num_users).astype(np.float64)


def resamples_for(tests: int) -> int:
    """How many sign patterns a family of tests needs, for its smallest p-value to stay below 0.005 when Holm's method adjusts it.

    At least 10,000 and, to bound the time, at most 1,000,000, which is enough for 5,000 tests.
    """
    return min(max(10_000, 200 * tests), 1_000_000)


def paired_t_p(difference: np.ndarray) -> np.ndarray:
    """Two-sided p-value of the paired t-test per metric, float64 (M,); 1 where all differences are zero.

    Args:
        difference: float64 (B, M); NaN where either model has no value for the user.

    Source: Student (1908).
    """
    p_values = np.ones(difference.shape[1])
    for column in range(difference.shape[1]):
        known = difference[np.isfinite(difference[:, column]), column]
        if len(known) > 1 and np.ptp(known) > 0:
            p_values[column] = stats.ttest_1samp(known, 0.0).pvalue
        elif len(known) > 1 and known[0] != 0:
            p_values[column] = 0.0
    return p_values


def shown_p(p_value: float) -> float | str:
    """A p-value as tables of four digits show it, which would call the smallest ones zero."""
    return p_value if p_value >= 0.0001 else "< 0.0001"


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust the p-values of a family of tests, so that the chance of any false finding among them stays below the level.

    p_(i)' = max over j <= i of min(1, (n - j + 1) p_(j)), with p_(1) <= ... <= p_(n).

    Args:
        p_values: float64 (n,).

    Returns:
        float64 (n,), in the order given.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.minimum(1.0, p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted
