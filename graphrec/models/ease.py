"""EASE: every item predicted from the other items of the user by a ridge regression, in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from graphrec import settings
from graphrec.errors import ConfigError
from graphrec.models.base import Recommender, training_matrix
from graphrec.models.dense import inverse, product
from graphrec.models.held_out import best_of, held_out, list_quality
from graphrec.models.saved import csr_arrays, csr_from
from graphrec.models.spectral import NormalisedInteractions
from graphrec.progress import Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

REGULARISATIONS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.2)  # tried when none is given
LARGEST = 40_000  # users or items, whichever are fewer: one dense matrix of 6.4 GB
_POWER_ITERATIONS = 50
_THINNER = 20  # one in so many entries filled, and a sparse product is quicker than a dense one
_ROWS_AT_ONCE = 1024  # of the dense matrix while it is filled, and of what is taken out of it


class EASESettings(settings.Settings):
    """Settings of EASE.

    Attributes:
        user_exponent: a, how strongly long histories are discounted; 0 in Steck's paper.
        item_exponent: b, how strongly popular items are discounted; 0 in Steck's paper. The defaults did best on validation items
            of Last.fm of HetRec 2011 among a = b = 0, and a of 0.25 and 0.5 with b of 0, 0.25 and 0.5.
        regularisation: l, the ridge penalty as a share of the largest eigenvalue of the item graph; None chooses it at fit
            time among 0.01, 0.02, 0.04, 0.06, 0.1 and 0.2 on a fifth of the training items.
    """

    search: ClassVar[Mapping[str, Any]] = {
        "user_exponent": {"low": 0.0, "high": 0.5},
        "item_exponent": {"low": 0.0, "high": 0.5},
    }

    user_exponent: float = Field(0.25, ge=0, le=1)
    item_exponent: float = Field(0.25, ge=0, le=1)
    regularisation: float | None = Field(None, gt=0)


class EASE(Recommender):
    """Scores all items by a learned item-item matrix B with an empty diagonal.

    With R~ = D_u^-a R D_i^-b, B minimises |R~ - R~ B|^2 + l s_1^2 |B|^2 subject to diag(B) = 0, s_1 being the largest singular
    value of R~, and

        score(u) = r_u D_i^-b B D_i^b.

    B = I - P diag(P)^-1 with P = (R~^T R~ + l s_1^2 I)^-1. Where users are fewer than items, P is never formed: with
    A = (R~ R~^T + l s_1^2 I)^-1 it is (I - R~^T A R~) / (l s_1^2), so that only a matrix of users by users is inverted; and as
    R~ P = A R~, a known user's row of P takes that user's row of A and one sparse product. N of them, whichever are fewer, cost
    N^3 multiplications and 4 N^2 bytes for each penalty: 4 GB and some minutes for 30,000.

    Source: Steck 2019, "Embarrassingly shallow autoencoders for sparse data", arXiv:1905.03375, eq. 8, which is a = b = 0; the
        degrees enter as in the graph filter (Shen et al. 2021, arXiv:2108.07567), and the penalty is a share of the spectrum.
    """

    name = "ease"
    Settings = EASESettings

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        train = training_matrix(store, self.name)
        if min(train.shape) > LARGEST:
            raise ConfigError(
                f"model {self.name} inverts a dense matrix of the users or of the items, whichever are fewer, and takes at "
                f"most {LARGEST:,} of them, got {train.shape[0]:,} users and {train.shape[1]:,} items; take graph-filter"
            )
        chosen = self.settings.regularisation
        self.regularisation = self._choose(train, seed, progress) if chosen is None else chosen
        self._solve(train, self.regularisation)

    def _choose(self, train: sp.csr_matrix, seed: int, progress: Reporter) -> float:
        """The penalty that finds most of a fifth of the training items, hidden at random."""
        kept, hidden, users = held_out(train, seed)
        if not len(users):
            return REGULARISATIONS[2]
        quality = []
        with progress.task(f"choosing the penalty of {self.name}", total=len(REGULARISATIONS), unit="penalties") as task:
            for value in REGULARISATIONS:
                self._solve(kept, value)
                scores = EASE._score(self, users)  # a subclass may add to it
                quality.append(float(list_quality(scores, kept[users], hidden[users]).mean()))
                task.advance()
        return best_of(REGULARISATIONS, quality, f"{self.name}: penalty", progress)

    def _solve(self, train: sp.csr_matrix, regularisation: float) -> None:
        """Invert for the whole of `train`."""
        self._core = None  # so that two of them are never in memory
        self._take(train, regularisation)
        rows, others = self._scaled, self._scaled.T.tocsr()
        if not self._by_users:
            rows, others = others, rows
        gram = np.empty((rows.shape[0],) * 2, np.float32)
        for start in range(0, len(gram), _ROWS_AT_ONCE):
            (rows[start : start + _ROWS_AT_ONCE] @ others).toarray(out=gram[start : start + _ROWS_AT_ONCE])
        gram.reshape(-1)[:: len(gram) + 1] += self._penalty
        try:
            self._core = torch.from_numpy(inverse(gram))
        except np.linalg.LinAlgError:
            raise ConfigError(
                f"model {self.name}: with regularisation = {regularisation:g} the matrix cannot be inverted in float32; "
                f"take a larger one, such as {REGULARISATIONS[0]:g}"
            ) from None
        self._gain = 1 / (1 - self._explained()) if self._by_users else 1 / self._core.diagonal()

    def _take(self, train: sp.csr_matrix, regularisation: float) -> None:
        own = NormalisedInteractions(train, self.settings.user_exponent, self.settings.item_exponent)
        self._train, self._interactions = train, own
        self._user_scale, self._item_scale = own.user_scale.numpy(), own.item_scale.numpy()
        scaled = sp.diags(self._user_scale) @ train @ sp.diags(self._item_scale)
        self._scaled = sp.csr_matrix(scaled, dtype=np.float32)  # R~
        self._by_users = train.shape[0] <= train.shape[1]
        self._penalty = max(regularisation * _largest_eigenvalue(self._scaled), 1e-12)  # l s_1^2

    def _explained(self) -> torch.Tensor:
        """The diagonal of R~^T A R~, (I,)."""
        columns, core = self._scaled.tocsc(), self._core.numpy()
        found = np.zeros(columns.shape[1], np.float32)
        for item, (start, stop) in enumerate(itertools.pairwise(columns.indptr)):
            users, values = columns.indices[start:stop], columns.data[start:stop]
            for first in range(0, len(users), _ROWS_AT_ONCE):
                some = slice(first, first + _ROWS_AT_ONCE)
                found[item] += values[some] @ (core[np.ix_(users[some], users)] @ values)
        return torch.from_numpy(found).clamp_(max=1 - 1e-6)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        return self._predicted(histories)

    def _score(self, users: np.ndarray) -> torch.Tensor:
        if not self._by_users:
            return self._predicted(self._train[users])
        signal = sp.csr_matrix(self._train[users] @ sp.diags(self._item_scale), dtype=np.float32)
        rows = self._interactions.to_items(self._core[users].T.contiguous()).T  # A R~, (B, I)
        own = self._user_scale[users]  # 0 of a user without an item, whose row is 0
        back = np.where(own > 0, self._penalty / np.maximum(own, 1e-30), 0).astype(np.float32)
        return self._answer(signal, rows * torch.from_numpy(back)[:, None])

    def _item_scores(self, items: np.ndarray) -> torch.Tensor:
        """The answer to a history of the one item."""
        one_each = np.ones(len(items), np.float32), items, np.arange(len(items) + 1)
        return self._predicted(sp.csr_matrix(one_each, shape=(len(items), self._train.shape[1])))

    def _predicted(self, histories: sp.csr_matrix) -> torch.Tensor:
        """Apply D_i^-b B D_i^b to histories (B, I): float32 (B, I)."""
        signal = sp.csr_matrix(histories @ sp.diags(self._item_scale), dtype=np.float32)
        if self._by_users:
            explained = self._interactions.to_items(self._through_core(signal @ self._scaled.T).T.contiguous()).T
            left = torch.from_numpy(signal.toarray()) - explained
        else:
            left = torch.from_numpy(signal @ self._core.numpy())  # r P
        return self._answer(signal, left)

    def _through_core(self, seen: sp.csr_matrix) -> torch.Tensor:
        """x A for sparse x (B, U): float32 (B, U); only the rows of A that x needs are read where that is quicker."""
        count, users = seen.shape
        if seen.nnz <= users // 2 or seen.nnz * _THINNER < count * users:
            return torch.from_numpy(seen @ self._core.numpy())
        return product(torch.from_numpy(seen.toarray()), self._core)

    def _answer(self, signal: sp.csr_matrix, left: torch.Tensor) -> torch.Tensor:
        """The scores (B, I) of r D_i^-b (B, I), from r D_i^-b P but for the factor that the gain has too."""
        scores = torch.from_numpy(signal.toarray()) - left * self._gain
        back = np.where(self._item_scale > 0, 1 / np.maximum(self._item_scale, 1e-30), 0).astype(np.float32)  # D_i^b
        return scores.mul_(torch.from_numpy(back))

    def embeddings(self) -> None:
        """None: B has full rank."""
        return

    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        own = {"core": self._core, "gain": self._gain, "regularisation": np.array([self.regularisation])}
        return {**csr_arrays("train", self._train), **own}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        self.regularisation = float(state["regularisation"])
        self._take(csr_from(state, "train", self.catalogue.num_items), self.regularisation)
        self._core, self._gain = state["core"].clone(), state["gain"].clone()


def _largest_eigenvalue(rows: sp.csr_matrix) -> float:
    """Of rows @ rows.T, non-negative, by power iteration from ones."""
    x, value = np.ones(rows.shape[0], np.float64), 0.0
    for _ in range(_POWER_ITERATIONS):
        x = rows @ (rows.T @ x)
        value = float(np.linalg.norm(x))
        if value == 0:
            break
        x /= value
    return value
