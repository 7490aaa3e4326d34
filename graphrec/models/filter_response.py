"""The shape of the graph filter, and the quick choice of it on a held-out part of the training items."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from graphrec.models.dense import product
from graphrec.models.held_out import HoldOut, held_out, judged_at_once, list_quality
from graphrec.models.spectral import NormalisedInteractions, leading_directions
from graphrec.progress import Reporter

CUTOFFS = (0.01, 0.03, 0.1)
SMOOTH_SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 1.0)
GAIN_EXPONENTS = (0.3, 0.5, 0.6)
SHARPENINGS = (0.0, 0.7)
SHARPENED = 64  # directions; more find no more of Gowalla's or ml-1m's held-out items, and make ranking slower
_BLOCKS = 4  # of the users whose linear parts are held, ranked one after the other
_DEFAULT = (0.0, 0.2, 0.5, 0.0)  # for a log too small to hold anything out


@dataclass(frozen=True)
class Response:
    """How the graph filter treats the spectrum; see `GraphFilterSettings` for the four. None: to be chosen."""

    cutoff: float | None
    smooth_share: float | None
    gain_exponent: float | None
    sharpening: float | None = 0.0

    def flat(self, values: torch.Tensor) -> torch.Tensor:
        """The flat low-pass at each direction: l^2 / (l^2 + t^2) for l = s^2 / s_1^2, (r,); 0 for empty directions."""
        squares = (values / values[0].clamp(min=1e-30)).pow(4)
        return torch.where(squares > 0, squares / (squares + self.cutoff**2).clamp(min=1e-30), 0.0)

    def taken(self, values: torch.Tensor) -> torch.Tensor:
        """What sharpening takes from the linear low-pass in the leading directions: h l^2, (64,) or (r,) if r is less."""
        return self.sharpening * (values[:SHARPENED] / values[0].clamp(min=1e-30)).pow(4)


def factors(
    responses: Sequence[Response], train: sp.csr_matrix, values: torch.Tensor, directions: torch.Tensor
) -> tuple[np.ndarray, torch.Tensor]:
    """The thin factors of the flat low-passes' mean: D_i^-c Q g and D_i^c Q, both float32 (I, r).

    Args:
        responses: with equal c; g is the mean of w l^2 / (l^2 + t^2) over them.
        train: R, (U, I).
        values: singular values (r,), descending.
        directions: Q, (I, r).
    """
    degree = torch.from_numpy(np.asarray(train.sum(axis=0), dtype=np.float64).ravel())
    power = torch.where(degree > 0, degree, 1.0).pow(responses[0].gain_exponent).float()
    gain = torch.where(degree > 0, power, 0.0)[:, None]  # D_i^c
    loss = torch.where(degree > 0, 1 / power, 0.0)[:, None]  # D_i^-c
    flat = torch.stack([response.smooth_share * response.flat(values) for response in responses]).mean(dim=0)
    return (loss * directions * flat).numpy(), gain * directions


def smooth_share(responses: Sequence[Response]) -> float:
    """The mean weight of the flat low-passes."""
    return sum(response.smooth_share for response in responses) / len(responses)


def sharpening(responses: Sequence[Response], values: torch.Tensor) -> torch.Tensor:
    """The mean of (1 - w) h l^2, which the leading directions lose from the weighted linear low-passes; empty if all h are 0."""
    taken = torch.stack([(1 - one.smooth_share) * one.taken(values) for one in responses]).mean(dim=0)
    return taken if taken.any() else taken[:0]


def choose_responses(
    train: sp.csr_matrix,
    given: Response,
    user_exponent: float,
    item_exponent: float,
    rank: int,
    seed: int,
    progress: Reporter,
    hold_out: HoldOut = "random",
) -> list[Response]:
    """Fill in what `given` leaves open with the best of a small grid, judged by Recall@20 + NDCG@20.

    A fifth of each user's training items is hidden, at random or as a block, the filter is fitted on the rest, and up to 2,000
    users are ranked by the candidates. One decomposition serves them all. The gain exponent is chosen first, at the middle cutoff,
    for it hardly hangs on the others; then these together. The best candidates often lie closer together than chance, so all those
    are returned that fall behind the best, over the same users, by no more than one standard error of the difference: the
    filter is their mean, and does not hang on which of them came out first.

    Args:
        train: R, float32 (U, I).
        given: None fields are to be chosen; without any it is returned as it is.
        user_exponent, item_exponent, rank: of the filter.
        seed: of the held-out part, the users and the decomposition.
        progress: receives the candidates.
        hold_out: how the hidden part is drawn, see `held_out`.

    Source: the rule of one standard error, Breiman et al. (1984), "Classification and regression trees", section 3.4.3,
        which takes the simplest of the candidates; here they are averaged.
    """
    candidates = list(_candidates(given))
    if len(candidates) == 1:
        return candidates
    kept, hidden, users = held_out(train, seed, hold_out)
    if not len(users):
        fallback = Response(*_DEFAULT)
        return [replace(fallback, **{key: value for key, value in vars(given).items() if value is not None})]
    interactions = NormalisedInteractions(kept, user_exponent, item_exponent)
    generator = torch.Generator().manual_seed(seed)
    values, directions = leading_directions(interactions, min(rank, *kept.shape), generator, progress)
    judge = _Judge(kept, hidden, users, interactions, values, directions)
    judged = _judged(candidates, judge, progress)
    chosen = nearly_best(list(judged), np.stack(list(judged.values())))
    shapes = "; ".join(
        f"cutoff {one.cutoff:g}, smooth share {one.smooth_share:g}, sharpening {one.sharpening:g}" for one in chosen
    )
    progress.note(
        f"graph filter: gain exponent {chosen[0].gain_exponent:g}, mean of {len(chosen)} of {len(judged)} shapes, "
        f"judged on {len(users):,} users' held-out training items: {shapes}"
    )
    return chosen


def _judged(candidates: Sequence[Response], judge: _Judge, progress: Reporter) -> dict[Response, np.ndarray]:
    """The candidates of the best gain exponent, with their quality for each user."""
    groups: dict[tuple[float, float], list[Response]] = {}
    for one in candidates:
        groups.setdefault((one.gain_exponent, one.cutoff), []).append(one)
    gains, cutoffs = (sorted(set(values)) for values in zip(*groups, strict=True))
    middle = cutoffs[len(cutoffs) // 2]
    found: dict[Response, np.ndarray] = {}
    total = len(candidates) * (len(gains) + len(cutoffs) - 1) // len(groups)
    with progress.task("choosing the filter", total=total, unit="filters") as task:

        def judge_group(gain: float, cutoff: float) -> None:
            group = groups[gain, cutoff]
            found.update(zip(group, judge.quality(group), strict=True))
            task.advance(len(group))

        for gain in gains:
            judge_group(gain, middle)
        best = max(found, key=lambda one: found[one].mean()).gain_exponent
        for cutoff in cutoffs:
            if cutoff != middle:
                judge_group(best, cutoff)
    return {one: quality for one, quality in found.items() if one.gain_exponent == best}


def nearly_best(candidates: Sequence[Response], quality: np.ndarray) -> list[Response]:
    """The best by quality (candidates, users), then those at most one standard error of the difference behind it."""
    best = int(np.argmax(quality.mean(axis=1)))
    behind = quality[best] - quality  # of each candidate for each user
    error = behind.std(axis=1, ddof=1) / quality.shape[1] ** 0.5 if quality.shape[1] > 1 else np.zeros(len(quality))
    near = np.flatnonzero(behind.mean(axis=1) <= error)
    return [candidates[at] for at in (best, *near[near != best])]


def _candidates(given: Response) -> Iterator[Response]:
    grids = {
        "gain_exponent": GAIN_EXPONENTS,
        "cutoff": CUTOFFS,
        "smooth_share": SMOOTH_SHARES,
        "sharpening": SHARPENINGS,
    }
    fixed = {name: value for name, value in vars(given).items() if value is not None}
    tried = [(fixed[name],) if name in fixed else grid for name, grid in grids.items()]
    for shape in itertools.product(*tried):
        response = Response(**dict(zip(grids, shape, strict=True)))
        if response.smooth_share < 1 or response.sharpening == tried[-1][0]:  # only the linear part can be sharpened
            yield response


class _Judge:
    """Ranks a fixed sample of users by any response.

    What the responses have in common is computed once, unless the catalogue is so large that it is held for some users at a time.
    """

    def __init__(
        self,
        kept: sp.csr_matrix,
        hidden: sp.csr_matrix,
        users: np.ndarray,
        interactions: NormalisedInteractions,
        values: torch.Tensor,
        directions: torch.Tensor,
    ) -> None:
        self._kept, self._rows, self._truth = kept, kept[users], hidden[users]
        self._interactions, self._values, self._directions = interactions, values, directions
        self._at_once = judged_at_once(kept.shape[1])
        self._part, self._linear = slice(0), {}  # the users whose linear parts are held, and these by sharpening
        # Written anew for every block: memory that is new each time costs more than what is computed into it.
        self._block = -(-self._at_once // _BLOCKS)
        shape = min(self._block, len(users)), kept.shape[1]
        self._flat, self._scores = torch.empty(shape), torch.empty(shape)

    def quality(self, responses: Sequence[Response]) -> np.ndarray:
        """Recall@20 + NDCG@20 of each user by responses of one gain exponent and cutoff, float64 (responses, B)."""
        analysis, synthesis = factors([replace(responses[0], smooth_share=1.0)], self._kept, self._values, self._directions)
        users = self._rows.shape[0]
        quality = np.empty((len(responses), users))
        for first in range(0, users, self._at_once):
            self._hold(slice(first, min(first + self._at_once, users)))
            for start in range(first, self._part.stop, self._block):
                block = slice(start, min(start + self._block, self._part.stop))
                rows, truth, size = self._rows[block], self._truth[block], block.stop - start
                flat = product(torch.from_numpy(rows @ analysis), synthesis.T, out=self._flat[:size])
                for at, response in enumerate(responses):
                    linear = self._linear_part(response)[start - first : block.stop - first]
                    scores = torch.lerp(linear, flat, response.smooth_share, out=self._scores[:size])
                    quality[at, block] = list_quality(scores, rows, truth)
        return quality

    def _hold(self, part: slice) -> None:
        """Hold the linear low-pass of these users, in place of that of others."""
        if part == self._part:
            return
        self._part, self._linear = part, {}  # the others' memory is free before it is taken again
        rows = self._rows[part]
        self._linear[0.0] = torch.zeros(rows.shape)
        self._interactions.add_smoothed(self._linear[0.0], rows, 1 / max(float(self._values[0]) ** 2, 1e-30))

    def _linear_part(self, response: Response) -> torch.Tensor:
        """The linear low-pass with the response's sharpening for the users that are held, (B, I)."""
        if response.sharpening not in self._linear:
            taken = response.taken(self._values)
            leading = self._directions[:, : len(taken)]
            fewer = product(torch.from_numpy(self._rows[self._part] @ (leading * taken).numpy()), leading.T)
            self._linear[response.sharpening] = torch.sub(self._linear[0.0], fewer, out=fewer)
        return self._linear[response.sharpening]
