"""The shape of the graph filter, and the quick choice of it on a held-out part of the training items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from graphrec.models.spectral import NormalisedInteractions, truncated_svd
from graphrec.ops import select_topk
from graphrec.progress import Reporter

CUTOFFS = (0.01, 0.03, 0.1)
SMOOTH_SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 1.0)
GAIN_EXPONENTS = (0.3, 0.5)
_HELD_OUT = 0.2  # of each user's training items: the usual share of a test split; less favours the linear part too much
_USERS = 2000  # judged at the most; their standard error is common to all candidates, so differences are sharper
_LIST_LENGTH = 20
_DEFAULT = (0.0, 0.2, 0.5)  # for a log too small to hold anything out


@dataclass(frozen=True)
class Response:
    """How the graph filter treats the spectrum; see `GraphFilterSettings` for the three. None: to be chosen."""

    cutoff: float | None
    smooth_share: float | None
    gain_exponent: float | None

    def factors(
        self, train: sp.csr_matrix, values: torch.Tensor, directions: torch.Tensor
    ) -> tuple[np.ndarray, torch.Tensor]:
        """The thin factors of the flat low-pass: w D_i^-c Q h and D_i^c Q, both float32 (I, r).

        Args:
            train: R, (U, I).
            values: singular values (r,), descending.
            directions: Q, (I, r).
        """
        degree = torch.from_numpy(np.asarray(train.sum(axis=0), dtype=np.float64).ravel())
        power = torch.where(degree > 0, degree, 1.0).pow(self.gain_exponent).float()
        gain = torch.where(degree > 0, power, 0.0)[:, None]  # D_i^c
        loss = torch.where(degree > 0, 1 / power, 0.0)[:, None]  # D_i^-c
        flat = self.smooth_share * self.flat(values)
        return (loss * directions * flat).numpy(), gain * directions

    def flat(self, values: torch.Tensor) -> torch.Tensor:
        """The flat low-pass at each direction: l^2 / (l^2 + t^2) for l = s^2 / s_1^2, (r,); 0 for empty directions."""
        squares = (values / values[0].clamp(min=1e-30)).pow(4)
        return torch.where(squares > 0, squares / (squares + self.cutoff**2).clamp(min=1e-30), 0.0)


def choose_response(
    train: sp.csr_matrix,
    given: Response,
    user_exponent: float,
    item_exponent: float,
    rank: int,
    seed: int,
    progress: Reporter,
) -> Response:
    """Fill in what `given` leaves open with the best of a small grid, judged by Recall@20 + NDCG@20.

    A fifth of each user's training items is hidden, the filter is fitted on the rest, and up to 2,000 users are ranked
    by every candidate. One decomposition serves them all.

    Args:
        train: R, float32 (U, I).
        given: None fields are to be chosen; without any it is returned as it is.
        user_exponent, item_exponent, rank: of the filter.
        seed: of the held-out part, the users and the decomposition.
        progress: receives the candidates.
    """
    candidates = list(_candidates(given))
    if len(candidates) == 1:
        return candidates[0]
    rng = np.random.default_rng(seed)
    kept, hidden = hide(train, _HELD_OUT, rng)
    users = np.flatnonzero(np.diff(hidden.indptr))
    if not len(users):
        cutoff, share, gain = _DEFAULT
        fallback = Response(cutoff, share, gain)
        return replace(fallback, **{key: value for key, value in vars(given).items() if value is not None})
    users = np.sort(rng.permutation(users)[:_USERS])
    interactions = NormalisedInteractions(kept, user_exponent, item_exponent)
    generator = torch.Generator().manual_seed(seed)
    _, values, directions = truncated_svd(interactions, min(rank, *kept.shape), generator, progress)
    judge = _Judge(kept, hidden, users, interactions, float(values[0]))
    with progress.task("choosing the filter", total=len(candidates), unit="filters") as task:
        quality = []
        for candidate in candidates:
            quality.append(judge.quality(candidate, values, directions))
            task.advance()
    best = candidates[int(np.argmax(quality))]
    progress.note(
        f"graph filter: cutoff {best.cutoff:g}, smooth share {best.smooth_share:g}, gain exponent "
        f"{best.gain_exponent:g}, chosen among {len(candidates)} on {len(users):,} users' held-out training items"
    )
    return best


def hide(matrix: sp.csr_matrix, share: float, rng: np.random.Generator) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Part each row's entries at random: all but `share` of them, and the rest; rows with fewer than 3 stay whole."""
    degree = np.diff(matrix.indptr)
    count = np.where(degree < 3, 0, np.maximum(1, np.round(share * degree))).astype(np.int64)
    rows = np.repeat(np.arange(matrix.shape[0]), degree)
    order = np.lexsort((rng.random(matrix.nnz), rows))
    is_hidden = np.arange(matrix.nnz) - matrix.indptr[rows] < count[rows]

    def part(chosen: np.ndarray) -> sp.csr_matrix:
        entries = np.sort(order[chosen])
        coordinates = (rows[entries], matrix.indices[entries])
        return sp.csr_matrix((matrix.data[entries], coordinates), shape=matrix.shape)

    return part(~is_hidden), part(is_hidden)


def _candidates(given: Response) -> Iterator[Response]:
    for gain in GAIN_EXPONENTS if given.gain_exponent is None else (given.gain_exponent,):
        for cutoff in CUTOFFS if given.cutoff is None else (given.cutoff,):
            for share in SMOOTH_SHARES if given.smooth_share is None else (given.smooth_share,):
                yield Response(cutoff, share, gain)


class _Judge:
    """Ranks a fixed sample of users by any response; what the responses have in common is computed once."""

    def __init__(
        self,
        kept: sp.csr_matrix,
        hidden: sp.csr_matrix,
        users: np.ndarray,
        interactions: NormalisedInteractions,
        largest: float,
    ) -> None:
        self._kept, self._rows, self._truth = kept, kept[users], hidden[users]
        signal = torch.from_numpy(self._rows.T.toarray())  # (I, B)
        self._linear = (interactions.to_items(interactions.to_users(signal)) / max(largest**2, 1e-30)).T.contiguous()
        self._flat: tuple[tuple[float, float], torch.Tensor] | None = None
        self._discount = 1 / np.log2(np.arange(2, _LIST_LENGTH + 2))

    def quality(self, response: Response, values: torch.Tensor, directions: torch.Tensor) -> float:
        """Mean Recall@20 + NDCG@20 over the users."""
        key = response.cutoff, response.gain_exponent
        if self._flat is None or self._flat[0] != key:  # the grid varies the share fastest
            analysis, synthesis = replace(response, smooth_share=1.0).factors(self._kept, values, directions)
            self._flat = key, torch.from_numpy(self._rows @ analysis) @ synthesis.T
        scores = torch.lerp(self._linear, self._flat[1], response.smooth_share)
        k = min(_LIST_LENGTH, scores.shape[1])
        _, listed = select_topk(scores, k, self._rows.indptr, self._rows.indices)
        listed = listed.numpy()
        users = np.repeat(np.arange(len(listed)), k)
        hits = np.asarray(self._truth[users, listed.ravel()]).reshape(listed.shape) != 0
        hits &= listed >= 0
        wanted = np.diff(self._truth.indptr)
        ideal = np.cumsum(self._discount)[np.minimum(wanted, _LIST_LENGTH) - 1]
        gain = (hits * self._discount[:k]).sum(axis=1) / ideal
        return float((hits.sum(axis=1) / wanted + gain).mean())
