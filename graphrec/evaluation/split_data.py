"""What an evaluation needs of a store: the test items, the masked items and the popularity of items."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import sparse

from graphrec.errors import ConfigError, RunError, StoreError
from graphrec.evaluation.user_items import UserItems

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue
    from graphrec.graph.store import GraphStore


@dataclass(frozen=True)
class SplitData:
    """One split of a store, ready to be ranked.

    Attributes:
        catalogue: users, items and training popularity.
        split: name of the split.
        users: int64 (B,), ascending: the users with at least one test item.
        truth: their test items (B rows).
        ratings: float64 (nnz,), recorded weight of each test item, in the order of `truth.indices`.
        seen: the masked items of all users (U rows).
        repeated: test interactions left out because the item is masked for that user, so no list could hold it.
        left_out_users: users whose every test item was left out for that reason.
    """

    catalogue: Catalogue
    split: str
    users: np.ndarray
    truth: UserItems
    ratings: np.ndarray
    seen: UserItems
    repeated: int
    left_out_users: int

    def fingerprint(self) -> str:
        """Return a sha256 of the split: equal where the same users are tested on the same items with the same mask."""
        parts = (self.split, hashlib.sha256(self.users.tobytes()).hexdigest(), self.truth.fingerprint())
        return hashlib.sha256("/".join((*parts, self.seen.fingerprint())).encode()).hexdigest()

    def sample(self, count: int) -> SplitData:
        """Return the split with `count` of its users: random ones, the same of every call."""
        kept = np.zeros(len(self.users), dtype=bool)
        kept[np.random.default_rng(0).permutation(len(self.users))[:count]] = True
        ratings = self.ratings[np.repeat(kept, self.truth.sizes)]
        return replace(self, users=self.users[kept], truth=self.truth.rows(np.flatnonzero(kept)), ratings=ratings)

    def cooccurrence_vectors(self) -> sparse.csr_matrix:
        """Return each item's training users as a row, float32 (I, U): their cosine is that of co-occurrence."""
        catalogue = self.catalogue
        ones = np.ones(len(catalogue.seen_indices), dtype=np.float32)
        shape = (catalogue.num_users, catalogue.num_items)
        return sparse.csr_matrix((ones, catalogue.seen_indices, catalogue.seen_indptr), shape=shape).T.tocsr()


def read_split(store: GraphStore, split: str, mask_valid: bool) -> SplitData:
    """Read the test items of `split` and the items to mask: training items and, for the test split, valid items.

    Args:
        store: the graph store.
        split: "valid" or "test".
        mask_valid: leave the valid items out of the lists that are ranked for the test split.

    Raises:
        ConfigError: there is no split of that name.
        StoreError: the store has no interaction in that split.
    """
    if split not in ("valid", "test"):
        raise ConfigError(f"split must be 'valid' or 'test', got {split!r}")
    catalogue = store.catalogue()
    num_users, num_items = catalogue.num_users, catalogue.num_items
    users, items, weights = _pairs(store, split)
    if not len(users):
        raise StoreError(
            f"{store.folder} has no {split} interactions of the target behaviour, so there is nothing to evaluate: "
            f"{store.manifest.splits[split].describe(split, store.target_behavior)}"
        )
    seen = UserItems(catalogue.seen_indptr.astype(np.int64), catalogue.seen_indices.astype(np.int64), num_items)
    if split == "test" and mask_valid:
        valid_users, valid_items, _ = _pairs(store, "valid")
        if len(valid_users):
            seen = seen.union(UserItems.from_pairs(valid_users, valid_items, num_users, num_items))
    given = UserItems.from_pairs(users, items, num_users, num_items)
    truth = given.minus(seen)
    tested = np.flatnonzero(truth.sizes)
    if not len(tested):
        raise StoreError(
            f"{store.folder}: every {split} interaction repeats an item the user has already seen, so no list can hold it; "
            "build the store with another split, or keep only the first interaction of each user and item"
        )
    return SplitData(
        catalogue=catalogue,
        split=split,
        users=tested,
        truth=truth.rows(tested),
        ratings=_ratings(truth.keys, users * num_items + items, weights),
        seen=seen,
        repeated=len(given.indices) - len(truth.indices),
        left_out_users=int((given.sizes > 0).sum() - len(tested)),
    )


def count_unknown(store: GraphStore, split: str) -> tuple[int, int]:
    """Count the held-out pairs of user and item that no metric counts, because training knows not both.

    Returns:
        The distinct pairs, and the users who have no others.
    """
    counts = store.manifest.splits[split]
    if counts.target_events == counts.known_target:
        return 0, 0
    known = pl.col("user").is_not_null() & pl.col("item").is_not_null()
    events = store.events(split).filter(pl.col("behavior") == store.target_behavior)
    unknown = events.filter(~known).unique(["user_id", "item_id"])
    others = events.filter(known).select("user_id").unique()
    return len(unknown), unknown.join(others, on="user_id", how="anti")["user_id"].n_unique()


def check_fits(catalogue: Catalogue, data: SplitData, store: GraphStore) -> None:
    """Check that a model with `catalogue` learned from the training part of `store`.

    Raises:
        RunError: it learned from other users, items or interactions.
    """
    own = data.catalogue
    sizes = (catalogue.num_users, catalogue.num_items), (own.num_users, own.num_items)
    if sizes[0] != sizes[1]:
        raise RunError(
            f"the model was trained on {sizes[0][0]:,} users and {sizes[0][1]:,} items, but {store.folder} has "
            f"{sizes[1][0]:,} and {sizes[1][1]:,}; evaluate it on the store it was trained on, or train it again"
        )
    if not (
        np.array_equal(catalogue.seen_indptr, own.seen_indptr)
        and np.array_equal(catalogue.seen_indices, own.seen_indices)
    ):
        raise RunError(
            f"the model was trained on other interactions than the training part of {store.folder}, so its test part may "
            "have leaked; evaluate it on the store it was trained on, or train it again"
        )


def _pairs(store: GraphStore, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, item (int64) and weight (float64) of a split, without rows whose user or item training never saw."""
    rows = store.interactions(split)
    known = (rows.user >= 0) & (rows.item >= 0)
    weight = np.ones(len(rows.user)) if rows.weight is None else rows.weight
    return rows.user[known].astype(np.int64), rows.item[known].astype(np.int64), weight[known].astype(np.float64)


def _ratings(wanted: np.ndarray, keys: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of each wanted pair; the last recorded one where a pair occurs more than once."""
    order = np.argsort(keys, kind="stable")
    return weights[order][np.searchsorted(keys[order], wanted, side="right") - 1]
