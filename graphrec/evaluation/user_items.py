"""Sets of items per user as sorted CSR rows: what a user has seen, and what the user is tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from graphrec.graph.ids import contained, distinct


@dataclass(frozen=True)
class UserItems:
    """One sorted set of item indices per user.

    Attributes:
        indptr: int64 (U + 1,); the items of user u are `indices[indptr[u]:indptr[u + 1]]`.
        indices: int64 (nnz,), ascending and distinct within a row.
        num_items: I; every index is in 0..I-1.
    """

    indptr: np.ndarray
    indices: np.ndarray
    num_items: int

    @classmethod
    def from_pairs(cls, users: np.ndarray, items: np.ndarray, num_users: int, num_items: int) -> UserItems:
        """Collect pairs (user, item), int64 (nnz,) each, in any order and with repeats."""
        keys = np.asarray(users, dtype=np.int64) * num_items + np.asarray(items, dtype=np.int64)
        return cls._from_keys(distinct(keys), num_users, num_items)

    @classmethod
    def _from_keys(cls, keys: np.ndarray, num_users: int, num_items: int) -> UserItems:
        counts = np.bincount(keys // num_items, minlength=num_users)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), keys % num_items, num_items)

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.indptr) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Number of items per user, int64 (U,)."""
        return np.diff(self.indptr)

    @property
    def keys(self) -> np.ndarray:
        """`user * num_items + item` of every pair, int64 (nnz,), ascending."""
        return np.repeat(np.arange(self.num_users), self.sizes) * self.num_items + self.indices

    def rows(self, users: np.ndarray) -> UserItems:
        """Return the rows of `users`, int64 (B,), in that order, as `UserItems` with B rows."""
        sizes = self.sizes[users]
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        # Position p of row b lies p - indptr[b] after the start of that user's row.
        source = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][users] - indptr[:-1], sizes)
        return UserItems(indptr, self.indices[source], self.num_items)

    def union(self, other: UserItems) -> UserItems:
        """Return the items that are in either set, per user."""
        return self._from_keys(distinct(np.concatenate([self.keys, other.keys])), self.num_users, self.num_items)

    def minus(self, other: UserItems) -> UserItems:
        """Return the items that are in this set and not in `other`, per user."""
        keep = ~other.contains_keys(self.keys)
        return self._from_keys(self.keys[keep], self.num_users, self.num_items)

    def contains(self, items: np.ndarray) -> np.ndarray:
        """Return bool (U, K): is `items[u, j]`, int64 (U, K), in the set of user u? False for index -1."""
        keys = np.arange(self.num_users)[:, None] * self.num_items + items
        return self.contains_keys(keys.ravel()).reshape(items.shape) & (items >= 0)

    def contains_keys(self, keys: np.ndarray) -> np.ndarray:
        """Return bool, shaped as `keys`: is this `user * num_items + item` among the pairs?"""
        return contained(keys, self.keys)

    def fingerprint(self) -> str:
        """Return a sha256 over the pairs and the shape; equal sets have equal fingerprints."""
        digest = hashlib.sha256(f"{self.num_users},{self.num_items};".encode())
        digest.update(np.ascontiguousarray(self.indptr, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.indices, dtype="<i8").tobytes())
        return digest.hexdigest()
