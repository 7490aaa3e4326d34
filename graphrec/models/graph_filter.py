"""The graph filter: a training-free recommender that smooths a user's history over the item graph.

The family of GF-CF, BSPM and ChebyCF in closed form: a linear low-pass filter of the item-item graph plus a flat low-pass
filter, which keeps the smoothest directions of the graph and fades the others out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from graphrec import settings
from graphrec.errors import ConfigError
from graphrec.memory import available_memory
from graphrec.models.base import Recommender, training_matrix
from graphrec.models.dense import product
from graphrec.models.filter_response import SHARPENED, Response, choose_responses, factors, sharpening, smooth_share
from graphrec.models.held_out import HoldOut, judged_at_once
from graphrec.models.saved import csr_arrays, csr_from
from graphrec.models.spectral import NormalisedInteractions, bytes_of_directions, leading_directions
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_TOLD_BYTES = 1 << 30  # of memory, from which on a fit says how much it takes
_BYTES_OF_AN_EDGE = 60  # of the training matrix, its two parts while the shape is chosen, and both ways of the kernels


class GraphFilterSettings(settings.Settings):
    """Settings of the graph filter.

    Four settings, from cutoff to sharpening, shape the filter. What suits a log depends on how dense it is, so they are chosen
    at fit time on a fifth of the training items that is held out for that, c first and then the others together, and shapes that
    chance alone could part from the best are averaged; give all four to skip it.

    Attributes:
        user_exponent: a, how strongly long histories are discounted; 0.5 in GF-CF.
        item_exponent: b, how strongly popular items are discounted; 0.5 in GF-CF.
        rank: r, number of smooth directions that the flat low-pass may keep; at most min(U, I) of them are used. None
            takes a sixth of min(U, I), within 64..1,024.
        cutoff: t, the eigenvalue, as a share of the largest, that the flat low-pass halves; 0 keeps r directions whole.
        smooth_share: w, weight of the flat low-pass; the linear one has 1 - w.
        gain_exponent: c, how strongly the flat low-pass raises popular items back up; b in GF-CF.
        sharpening: h, how much of its broadest directions, which the flat low-pass has already, the linear one gives up; 0
            in GF-CF.
        hold_out: what is held out to choose the shape: "random" items, or a "block" of items that lie together in the graph, which
            is the better picture where a user's later items are of another place or kind.
    """

    search: ClassVar[Mapping[str, Any]] = {
        "user_exponent": {"low": 0.0, "high": 0.6},
        "item_exponent": {"low": 0.2, "high": 0.7},
        "rank": {"low": 32, "high": 1024, "log": True},
    }

    user_exponent: float = Field(0.3, ge=0, le=1)
    item_exponent: float = Field(0.5, ge=0, le=1)
    rank: int | None = Field(None, ge=1)
    cutoff: float | None = Field(None, ge=0, le=1)
    smooth_share: float | None = Field(None, ge=0, le=1)
    gain_exponent: float | None = Field(None, ge=0, le=1)
    sharpening: float | None = Field(None, ge=0, le=1)
    hold_out: HoldOut = "random"


class GraphFilter(Recommender):
    """Scores all items by filtering the user's row of the interaction matrix.

    With R~ = D_u^-a R D_i^-b, its largest singular value s_1, and its leading right singular vectors Q (I, r) with
    eigenvalues l = s^2 / s_1^2 of the item graph,

        score(u) = r_u ((1 - w) (R~^T R~ / s_1^2 - h Q' diag(l'^2) Q'^T) + w D_i^-c Q diag(l^2 / (l^2 + t^2)) Q^T D_i^c)

    The first term is the linear low-pass, evaluated for blocks of users as two sparse products, of which Q', the leading 64
    of Q, loses h l^2: the sharpening. The second is the flat low-pass, two thin dense products. No I x I matrix is ever
    formed. Several shapes (w, t, h) of one c give the mean of their filters.

    Source: Shen et al. (2021), "How powerful is graph convolution for recommendation?", arXiv 2108.07567, equation 12
        and algorithm 1, which is a = b = c = 1/2 and t = h = 0. The sharpening is one step of the sharpening process of Choi
        et al. (2023), "Blurring-sharpening process models for collaborative filtering", arXiv 2211.09324, applied to the
        linear part and cut to the directions where l^2 is not small. The smooth flank of the flat low-pass is the Butterworth
        response of second order, close to the plateau filter of Kim et al. (2025), arXiv 2505.00552.
    """

    name = "graph-filter"
    Settings = GraphFilterSettings

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        train = training_matrix(store, self.name)
        own = self.settings
        given = Response(own.cutoff, own.smooth_share, own.gain_exponent, own.sharpening)
        exponents = own.user_exponent, own.item_exponent
        rank = min(own.rank or min(1024, max(64, min(train.shape) // 6)), *train.shape)
        _check_memory(self.name, train, rank, None in astuple(given), progress)
        responses = choose_responses(train, given, *exponents, rank, seed, progress, own.hold_out)
        interactions = NormalisedInteractions(train, *exponents)
        generator = torch.Generator().manual_seed(seed)
        values, directions = leading_directions(interactions, rank, generator, progress)
        self._take(train, interactions, values, directions, responses)

    def _take(
        self,
        train: sp.csr_matrix,
        interactions: NormalisedInteractions,
        values: torch.Tensor,
        directions: torch.Tensor,
        responses: list[Response],
    ) -> None:
        self._train, self._interactions = train, interactions
        self._histories = train  # what is filtered
        self._values, self._directions, self.responses = values, directions, responses
        self._linear_weight = (1 - smooth_share(responses)) / max(float(values[0]) ** 2, 1e-30)
        self._analysis, synthesis = factors(responses, train, values, directions)
        self._taken = sharpening(responses, values)
        if len(self._taken):
            leading = directions[:, : len(self._taken)]
            self._analysis = np.concatenate([self._analysis, -(leading * self._taken).numpy()], axis=1)
            synthesis = torch.cat([synthesis, leading], dim=1)
        self._synthesis = synthesis.T.contiguous()  # (r + 64, I): the faster layout for scores

    def _score(self, users: np.ndarray) -> torch.Tensor:
        return self._filtered(self._histories[users])

    def _item_scores(self, items: np.ndarray) -> torch.Tensor:
        """The answer to a history of the one item."""
        one_each = np.ones(len(items), np.float32), items, np.arange(len(items) + 1)  # values, columns, row starts
        one_item = sp.csr_matrix(one_each, shape=(len(items), self._train.shape[1]))
        return self._filtered(one_item)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        return self._filtered(histories)

    def _filtered(self, histories: sp.csr_matrix) -> torch.Tensor:
        """Apply the filter to histories (B, I)."""
        scores = product(torch.from_numpy(histories @ self._analysis), self._synthesis)
        if self._linear_weight:
            self._interactions.add_smoothed(scores, histories, self._linear_weight)
        return scores

    def embeddings(self) -> dict[str, np.ndarray]:
        """The low-rank factors, user (U, r) and item (I, r), or (U, 2 r) and (I, 2 r) where the linear low-pass counts.

        The first r columns give the flat low-pass exactly: user r_u D_i^-c Q g, with g the mean of w l^2 / (l^2 + t^2),
        and item D_i^c Q. The next r, user (1 - w) r_u Q (l - h l^2) and item Q, give the linear one within the r directions;
        what it does beyond them is left out.
        """
        _ = self.catalogue
        rank = len(self._values)
        user, item = [self._histories @ self._analysis[:, :rank]], [self._synthesis[:rank].T.numpy()]
        if self._linear_weight:
            weights = self._linear_weight * self._values.square()
            weights[: len(self._taken)] -= self._taken
            user.append(self._histories @ (self._directions * weights).numpy())
            item.append(self._directions.numpy())
        return {"user": np.concatenate(user, axis=1), "item": np.concatenate(item, axis=1)}

    @property
    def scores_are_dot_products(self) -> bool:
        return self._linear_weight == 0

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        shapes = np.array([astuple(one) for one in self.responses])
        parts = {"directions": self._directions, "singular_values": self._values, "response": shapes}
        return {**csr_arrays("train", self._train), **parts}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        train = csr_from(state, "train", self.catalogue.num_items)
        interactions = NormalisedInteractions(train, self.settings.user_exponent, self.settings.item_exponent)
        responses = [Response(*shape) for shape in state["response"].tolist()]
        self._take(train, interactions, state["singular_values"], state["directions"], responses)


def _check_memory(name: str, train: sp.csr_matrix, rank: int, choosing: bool, progress: Reporter) -> None:
    """Say how much memory the fit takes where that is much, and refuse what is more than there is."""

    def needed(rank: int) -> int:
        items = train.shape[1]
        factors = 4 * 5 * items * (rank + SHARPENED)  # the directions and both thin factors, and copies while these are made
        judged = 4 * 3 * items * (rank + judged_at_once(items)) if choosing else 0
        return max(bytes_of_directions(train.shape, rank), factors, judged) + _BYTES_OF_AN_EDGE * train.nnz

    wanted, free = needed(rank), available_memory()
    what = f"{name}: rank {rank:,} for {train.shape[0]:,} users and {train.shape[1]:,} items takes about {wanted / 1e9:.1f} GB of memory"
    if free is not None and wanted > free:
        fits = bisect_right(range(1, rank + 1), free, key=needed)
        mend = f"set a smaller rank, such as {fits}, or take" if fits else "take"
        raise ConfigError(f"model {what}, and {free / 1e9:.1f} GB are free; {mend} a machine with more memory")
    if wanted > _TOLD_BYTES:
        progress.note(what)
