"""What a model must carry to answer by original id without its store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from graphrec.errors import StoreError
from graphrec.graph.ids import IdMap


@dataclass(frozen=True)
class Catalogue:
    """Users, items, what each user has already chosen, and how popular each item is.

    Attributes:
        users: original user ids and their indices 0 … U-1.
        items: original item ids and their indices 0 … I-1.
        seen_indptr: int64 (U+1,); the items of user u are `seen_indices[seen_indptr[u]:seen_indptr[u+1]]`.
        seen_indices: int32 (nnz,); distinct training items of the target behaviour, ascending per user.
        item_counts: int64 (I,); distinct training users of the target behaviour per item.
        titles: a title per item (I,), or None where the log has none. An item without a title has an empty one.
    """

    users: IdMap
    items: IdMap
    seen_indptr: np.ndarray
    seen_indices: np.ndarray
    item_counts: np.ndarray
    titles: list[str] | None = None

    def __post_init__(self) -> None:
        if self.seen_indptr.shape != (self.num_users + 1,):
            raise ValueError(f"seen_indptr must have shape ({self.num_users + 1},), got {self.seen_indptr.shape}")
        if self.seen_indices.shape != (int(self.seen_indptr[-1]),):
            raise ValueError(f"seen_indices must have shape ({self.seen_indptr[-1]},), got {self.seen_indices.shape}")
        if self.item_counts.shape != (self.num_items,):
            raise ValueError(f"item_counts must have shape ({self.num_items},), got {self.item_counts.shape}")
        if self.titles is not None and len(self.titles) != self.num_items:
            raise ValueError(f"titles must hold {self.num_items} entries, got {len(self.titles)}")

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """I."""
        return len(self.items)

    def seen(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the seen items of `users` as CSR rows in the order asked for.

        Args:
            users: user indices, int64 (B,).

        Returns:
            indptr int64 (B+1,) and indices int32 (nnz of those rows,).
        """
        users = np.asarray(users, dtype=np.int64)
        starts = self.seen_indptr[users]
        lengths = self.seen_indptr[users + 1] - starts
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Position p of the result comes from starts[row] + (p - indptr[row]).
        source = np.arange(indptr[-1], dtype=np.int64) + np.repeat(starts - indptr[:-1], lengths)
        return indptr, self.seen_indices[source]

    def with_items(self, ids: pl.Series, titles: list[str] | None = None) -> tuple[Catalogue, np.ndarray, np.ndarray]:
        """Add items that nobody has chosen yet.

        Args:
            ids: ids of the new items, distinct and not in the catalogue.
            titles: a title per new item; None gives them empty ones, where the others have any.

        Returns:
            The larger catalogue, and the new indices, ascending ids, of the items that were there (I,) and of the new ones (n,).
        """
        ids = ids.cast(self.items.dtype)
        items = IdMap.fit(pl.concat([self.items.series, ids.rename("id")]), "item")
        old, new = items.find(self.items.series), items.find(ids)
        counts = np.zeros(len(items), dtype=np.int64)
        counts[old] = self.item_counts
        all_titles = None
        if self.titles is not None:
            all_titles = [""] * len(items)
            for index, title in [*zip(old, self.titles, strict=True), *zip(new, titles or [""] * len(new), strict=True)]:
                all_titles[index] = title
        seen = old[self.seen_indices].astype(np.int32)  # ids keep their order, so rows stay sorted
        return Catalogue(self.users, items, self.seen_indptr, seen, counts, all_titles), old, new

    def seen_matrix(self) -> sp.csr_matrix:
        """Return the seen items as a matrix (U, I) of ones."""
        ones = np.ones(len(self.seen_indices), dtype=np.float32)
        return sp.csr_matrix((ones, self.seen_indices, self.seen_indptr), shape=(self.num_users, self.num_items))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the catalogue into `folder` (made if missing): two id maps, the arrays, and the titles if any."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.users.save(folder / "users.parquet")
        self.items.save(folder / "items.parquet")
        arrays = {
            "seen_indptr": np.ascontiguousarray(self.seen_indptr, dtype=np.int64),
            "seen_indices": np.ascontiguousarray(self.seen_indices, dtype=np.int32),
            "item_counts": np.ascontiguousarray(self.item_counts, dtype=np.int64),
        }
        save_file(arrays, folder / "arrays.safetensors")
        if self.titles is not None:
            pl.DataFrame({"title": pl.Series(self.titles, dtype=pl.String)}).write_parquet(folder / "titles.parquet")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Catalogue:
        """Read a catalogue that `save` wrote.

        Raises:
            StoreError: a file is missing or damaged; the message names it.
        """
        folder = Path(folder)
        path = folder / "arrays.safetensors"
        try:
            arrays = load_file(path)
            titles = None
            if (path := folder / "titles.parquet").exists():
                titles = pl.read_parquet(path)["title"].to_list()
            users = IdMap.load(folder / "users.parquet", "user")
            items = IdMap.load(folder / "items.parquet", "item")
            path = folder
            return cls(users, items, arrays["seen_indptr"], arrays["seen_indices"], arrays["item_counts"], titles)
        except (OSError, SafetensorError, pl.exceptions.PolarsError, KeyError, ValueError) as problem:
            raise StoreError(f"{path} is missing or damaged: {problem}; write the catalogue again") from problem
