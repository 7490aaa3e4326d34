"""What every recommender can do: score, recommend, find similar items, give embeddings, save and load.

A new model is one subclass in its own file, with a `name`, plus one line of that name in `graphrec.models.MODELS`. A
closed-form model fills in `_fit`, `_score`, `_state` and `_restore`; where it has them, `embeddings` or `_item_scores` too. A
model that learns by gradient steps derives from `graphrec.models.trained.TrainedRecommender` instead.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch

from graphrec import models, ops
from graphrec.errors import ConfigError, RunError, UnsupportedError, check_list_length
from graphrec.graph.ids import IdMap, distinct
from graphrec.memory import kept_memory
from graphrec.models import saved
from graphrec.models.listing import ranked_frame
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.settings import Settings, resolved

if TYPE_CHECKING:
    from typing_extensions import Self

    from graphrec.graph.catalogue import Catalogue
    from graphrec.graph.store import GraphStore

_BLOCK_SCORES = 32_000_000  # 128 MB of float32 scores at a time


class Recommender(ABC):
    """Ranks all items of a catalogue for its users.

    Args:
        settings: an instance of the class's own `Settings`, a mapping of values, or None for the defaults.
        overrides: single settings that win over `settings`.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Settings | Mapping[str, Any] | None = None, **overrides: Any) -> None:
        self.settings = resolved(self.Settings, settings, overrides, f"model {self.name}")
        self._catalogue: Catalogue | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The users, items, titles and seen items that the model was fitted on.

        Raises:
            RunError: the model has not been fitted, trained or loaded yet.
        """
        if not self.has_learned:
            raise RunError(
                f"this {self.name} model has not learned anything yet; "
                f"train it with graphrec.train(store, {self.name!r}) or read a saved one with graphrec.load(folder)"
            )
        return self._catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @property
    def has_learned(self) -> bool:
        """Whether the model has been fitted, trained or loaded, so that it can answer."""
        return self._catalogue is not None

    @takes_progress
    def fit(self, store: GraphStore, *, seed: int = 0, progress: Reporter | bool = SILENT) -> Self:
        """Learn from the training part of `store` and return the model itself.

        Args:
            store: the graph store.
            seed: fixes every random choice; the same seed gives the same weights bit for bit on CPU.
            progress: receives the long steps.

        Raises:
            UnsupportedError: the model learns by gradient steps; `graphrec.train` runs its loop.
        """
        self._catalogue = None  # a failed fit leaves no half-new model behind
        with kept_memory():
            self._fit(store, seed, progress)
        self._catalogue = store.catalogue()
        return self

    def score(self, users: np.ndarray) -> torch.Tensor:
        """Score all items for some users.

        Args:
            users: int64 (B,), dense user indices in 0..U-1.

        Returns:
            float32 (B, I); higher is better; items the user has seen are not masked.

        Raises:
            RunError: the model has not been fitted, trained or loaded, or it gives NaN as a score.
            TypeError: the indices are no integers.
            IndexError: an index lies outside 0..U-1.
            ValueError: `_score` of a model of one's own gives something else.
        """
        num_users = self.catalogue.num_users
        users = np.asarray(users).reshape(-1)
        if users.size and users.dtype.kind not in "iu":
            raise TypeError(f"score: user indices must be integers, got {users.dtype}; recommend takes original ids")
        users = users.astype(np.int64)
        if users.size and (users.min() < 0 or users.max() >= num_users):
            raise IndexError(f"score: user indices must lie in 0..{num_users - 1}, got {users.min()}..{users.max()}")
        return self._checked(self._score(users), len(users))

    def recommend(self, users: Iterable[Any], k: int = 10, *, exclude_seen: bool = True) -> pl.DataFrame:
        """Return the `k` best items for each user, by original id.

        Args:
            users: original user ids; a single id counts as a list of one.
            k: list length, 1..I.
            exclude_seen: leave out the items of the user's training history.

        Returns:
            A frame with user_id, rank (1 is best), item_id, score and, where the catalogue has titles, title. Users come
            in the order given; a user who has seen nearly everything gets fewer than `k` rows. Ties break to the lower
            item index.

        Raises:
            UnknownIdError: a user does not occur in the training data.
            ConfigError: `k` is below 1 or above the number of items.
            RunError: the model has not been fitted, trained or loaded.
        """
        catalogue = self.catalogue
        check_list_length(k, catalogue.num_items)
        user_index = catalogue.users.index_of(_as_ids(users))
        frames = [_user_frame(catalogue, user_index[:0], *_no_lists(k))]
        for block in blocks(user_index, catalogue.num_items):
            seen = catalogue.seen(block) if exclude_seen else (None, None)
            frames.append(_user_frame(catalogue, block, *_select(self.score(block), k, seen)))
        return pl.concat(frames)

    def similar(self, items: Iterable[Any], k: int = 10) -> pl.DataFrame:
        """Return the `k` items most similar to each given item, never the item itself.

        Args:
            items: original item ids; a single id counts as a list of one.
            k: list length, 1..I-1.

        Returns:
            A frame with item_id, rank, similar_item_id, score and, where the catalogue has titles, title (of the similar
            item). An item with fewer than `k` neighbours gets fewer rows.

        Raises:
            UnknownIdError: an item does not occur in the training data.
            ConfigError: `k` is below 1 or above the number of other items.
            UnsupportedError: the model knows no similarity between items.
        """
        catalogue = self.catalogue
        check_list_length(k, catalogue.num_items - 1, "other items in the catalogue")
        item_index = catalogue.items.index_of(_as_ids(items))
        frames = [_item_frame(catalogue, item_index[:0], *_no_lists(k))]
        for block in blocks(item_index, catalogue.num_items):
            itself = np.arange(len(block) + 1, dtype=np.int64), block.astype(np.int32)
            frames.append(_item_frame(catalogue, block, *_select(self._item_scores(block), k, itself)))
        return pl.concat(frames)

    def fold_in(self, histories: Sequence[Iterable[Any]]) -> torch.Tensor:
        """Score all items for users that are not in the training data, from what they have chosen; nothing is trained.

        Args:
            histories: original item ids per user, at least one each.

        Returns:
            float32 (B, I), as `score` gives for users of the training data.

        Raises:
            UnknownIdError: an item does not occur in the training data.
            ConfigError: a history is empty.
            UnsupportedError: the model cannot place a new user.
        """
        return self._checked(self._fold_in(self._history_matrix(histories)), len(histories))

    def recommend_to_new(self, histories: Sequence[Iterable[Any]], k: int = 10, *, exclude_seen: bool = True) -> pl.DataFrame:
        """Return the `k` best items for users that are not in the training data, from what they have chosen.

        Args:
            histories: original item ids per user, at least one each.
            k: list length, 1..I.
            exclude_seen: leave out the items of the history.

        Returns:
            As `recommend`, with the position of the history (from 0) as `user_id`.

        Raises:
            UnknownIdError, ConfigError, UnsupportedError: as in `fold_in`.
        """
        check_list_length(k, self.catalogue.num_items)
        matrix = self._history_matrix(histories)
        seen = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)) if exclude_seen else (None, None)
        items, values = _select(self._checked(self._fold_in(matrix), len(histories)), k, seen)
        everyone = IdMap(pl.Series(np.arange(len(histories), dtype=np.int64)), "history")
        return ranked_frame("user_id", everyone, np.arange(len(histories)), "item_id", items, values, self.catalogue)

    def features_used(self, store: GraphStore) -> set[str]:
        """Names, such as "item.text", of the store's features that the model reads."""
        return set()

    def embeddings(self) -> dict[str, np.ndarray] | None:
        """Return `{"user": float32 (U, D), "item": float32 (I, D)}`, or None where the model has none.

        The dot product of a user's and an item's row ranks as `score` does, unless the model's page says otherwise. The arrays
        are the caller's own: what is done to them does not change the model.
        """
        return None

    @property
    def scores_are_dot_products(self) -> bool:
        """Whether the embeddings rank exactly as `score` does; ranking then multiplies them, once it has checked a sample."""
        return True

    @property
    def personal(self) -> bool:
        """Whether the scores depend on the user."""
        return True

    def knows(self, users: np.ndarray) -> np.ndarray:
        """Whether the scores of users rest on anything of theirs: by default on a training event of the target behaviour.

        Args:
            users: int64 (B,), dense user indices.

        Returns:
            bool (B,).
        """
        return np.diff(self.catalogue.seen_indptr)[users] > 0

    @property
    def predicts_ratings(self) -> bool:
        """Whether a score estimates the weight that the interaction would have, and does not only order the items."""
        return False

    @property
    def learned_splits(self) -> tuple[str, ...]:
        """Held-out splits that the model has learned from, where it is not to be measured."""
        return ()

    @property
    def vectors_note(self) -> str:
        """What export says of the embeddings where their dot products do not rank as `score` does."""
        return "hold only a part of its score"

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model as `model.json`, `model.safetensors` and `catalogue/`; the folder appears whole or not at all.

        Raises:
            RunError: nothing has been learned yet, the folder exists and `overwrite` is false, or the disk is full.
        """
        catalogue = self.catalogue  # refuses before anything is written where nothing has been learned
        saved.write(folder, self.name, self.settings, self._state(), catalogue, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a saved model; called on `Recommender` itself, it finds the class by the saved name.

        Raises:
            RunError: the folder holds no model, another model, a truncated or edited one, or one from a newer graphrec.
        """
        table, elsewhere = models.MODELS | models.MADE_FROM_RUNS, "graphrec.models.load_model(folder)"
        beside = saved.read_catalogue
        return saved.load_as(cls, folder, saved.HEADER, beside, table, "model", elsewhere, "_catalogue")

    def _fit(self, store: GraphStore, seed: int, progress: Reporter) -> None:
        raise UnsupportedError(
            f"{self.name} is trained step by step, not fitted in closed form; use graphrec.train(store, {self.name!r})"
        )

    def _checked(self, scores: Any, num_rows: int) -> torch.Tensor:
        """Return scores that are what `_score` and `_fold_in` must give."""
        shape, given = (num_rows, self.catalogue.num_items), getattr(scores, "shape", None)
        if not isinstance(scores, torch.Tensor) or scores.dtype != torch.float32 or tuple(given) != shape:
            got = type(scores).__name__ + ("" if given is None else f" of {scores.dtype} {tuple(given)}")
            raise ValueError(f"{self.name}: scores must be a torch tensor of float32 {shape}, a row for each user, got {got}")
        if scores.numel() and torch.isnan(scores.amax()):  # the maximum passes NaN on, and needs no mask of the same size
            raise RunError(
                f"the {self.name} model gives NaN as a score, so it cannot rank; if it was trained, that has diverged: "
                "train again with a smaller learning rate"
            )
        return scores

    def _history_matrix(self, histories: Sequence[Iterable[Any]]) -> sp.csr_matrix:
        """Item ids per user as ones (B, I)."""
        found = [distinct(self.catalogue.items.index_of(_as_ids(history))) for history in histories]
        for number, items in enumerate(found):
            if not len(items):
                raise ConfigError(f"history {number} is empty; give at least one item, or recommend what is popular")
        indptr = np.concatenate([[0], np.cumsum([len(items) for items in found])])
        indices = np.concatenate([*found, np.empty(0, np.int64)])
        shape = (len(found), self.catalogue.num_items)
        return sp.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)

    def _fold_in(self, histories: sp.csr_matrix) -> torch.Tensor:
        """Score all items for histories (B, I) of at least one item each: float32 (B, I)."""
        raise cannot_fold_in(self.name)

    @abstractmethod
    def _score(self, users: np.ndarray) -> torch.Tensor:
        """Score all items for checked user indices: float32 (B, I)."""

    @abstractmethod
    def _state(self) -> dict[str, torch.Tensor | np.ndarray]:
        """The learned arrays, by name; `_restore` gets them back as tensors."""

    @abstractmethod
    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the arrays of `_state`; `self.catalogue` is already set."""

    def _item_scores(self, items: np.ndarray) -> torch.Tensor:
        """Similarity of item indices (B,) to all items: float32 (B, I), -inf where there is none; cosine by default."""
        embeddings = self.embeddings()
        if embeddings is None:
            raise UnsupportedError(
                f"{self.name} knows no similarity between items; use item-knn or a model with embeddings"
            )
        unit = torch.nn.functional.normalize(torch.from_numpy(embeddings["item"]), dim=1)
        return unit[torch.from_numpy(items)] @ unit.T


def cannot_fold_in(name: str) -> UnsupportedError:
    """What a model called `name` that has no place for new users raises."""
    return UnsupportedError(f"{name} cannot place a new user; use graph-filter, item-knn or a model with embeddings")


def training_matrix(store: GraphStore, name: str) -> sp.csr_matrix:
    """The training weights (U, I) for a model called `name` that cannot use negative ones.

    Raises:
        ConfigError: some weights are negative.
    """
    matrix = store.train_matrix()
    negative = int((matrix.data < 0).sum())
    if negative:
        count = "1 training weight is" if negative == 1 else f"{negative:,} training weights are"
        raise ConfigError(
            f"{name}: weights must be at least 0, and {count} negative, down to {matrix.data.min():g}; "
            "build the store with min_weight = 0 or without weights"
        )
    return matrix


def blocks(rows: np.ndarray, num_columns: int) -> Iterable[np.ndarray]:
    """Cut `rows` into consecutive parts whose dense float32 scores against `num_columns` fit in 128 MB."""
    step = max(1, min(4096, _BLOCK_SCORES // max(1, num_columns)))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _select(
    scores: torch.Tensor, k: int, excluded: tuple[np.ndarray, np.ndarray] | tuple[None, None]
) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` items (B, k) and their scores (B, k), without the excluded ones of each row."""
    values, items = ops.select_topk(scores, k, *excluded)
    return items.numpy(), values.numpy()


def _as_ids(ids: Iterable[Any]) -> list[Any]:
    return [ids] if isinstance(ids, (str, int, np.integer)) else list(ids)


def _no_lists(k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((0, k), np.int64), np.empty((0, k), np.float32)


def _user_frame(catalogue: Catalogue, users: np.ndarray, items: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    return ranked_frame("user_id", catalogue.users, users, "item_id", items, scores, catalogue)


def _item_frame(catalogue: Catalogue, queries: np.ndarray, items: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    return ranked_frame("item_id", catalogue.items, queries, "similar_item_id", items, scores, catalogue)
