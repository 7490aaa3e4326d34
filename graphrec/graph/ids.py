"""Original ids and dense indices, both ways."""

from __future__ import annotations

import bisect
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graphrec.atomic import atomic_file
from graphrec.errors import StoreError, UnknownIdError

Ids = Sequence[Any] | np.ndarray | pl.Series

_NEAREST_WINDOW = 2_000  # ids compared for "did you mean"; comparing millions would take longer than the command itself
_FEW = 8  # ids that are looked up one by one


class IdMap:
    """The ids of one node type. The index of an id is its position in ascending order, 0 to len - 1.

    Ids keep the dtype of the source, int64 or string; strings are ordered by their UTF-8 bytes. Sorted order makes the
    map independent of the row order of the log, and turns ids that already are 0 … n-1 into themselves.

    Args:
        ids: distinct ids in ascending order, `Int64` or `String`.
        name: the node type, for messages ("user").

    Raises:
        ValueError: the ids are of another dtype, null, or not strictly ascending.
    """

    def __init__(self, ids: pl.Series, name: str = "id") -> None:
        if ids.dtype not in (pl.Int64, pl.String):
            raise ValueError(f"{name} ids must be Int64 or String, got {ids.dtype}; cast them first")
        if ids.null_count() or not (ids.is_sorted() and ids.n_unique() == len(ids)):
            raise ValueError(f"{name} ids must be distinct and ascending; build the map with IdMap.fit")
        self.name = name
        self._ids = ids.rename("id").set_sorted()

    @classmethod
    def fit(cls, ids: Ids, name: str = "id") -> IdMap:
        """Build the map of the distinct values of `ids`, in any order."""
        series = _as_series(ids)
        return cls((series.cast(pl.Int64) if series.dtype.is_integer() else series).unique().sort(), name)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, value: object) -> bool:
        return self.find([value])[0] >= 0

    def __repr__(self) -> str:
        return f"IdMap({self.name}, {len(self):,} ids, {self.dtype})"

    @property
    def dtype(self) -> pl.DataType:
        """`Int64` or `String`."""
        return self._ids.dtype

    @property
    def series(self) -> pl.Series:
        """All ids; position = index."""
        return self._ids

    def find(self, ids: Ids) -> np.ndarray:
        """Return the int64 index of every id, -1 where the id is unknown.

        Text that spells a whole number is accepted for integer ids and the other way round, because the command line
        and JSON do not keep the difference.

        Args:
            ids: n ids: integers or strings, as a list, array or series.

        Returns:
            int64 array (n,).
        """
        wanted = self._cast(_as_series(ids))
        if len(self) == 0 or len(wanted) == 0:
            return np.full(len(wanted), -1, dtype=np.int64)
        if len(wanted) <= _FEW:  # a query costs more than so many look-ups
            return np.array([self._find_one(value) for value in wanted], dtype=np.int64)
        position = self._ids.search_sorted(wanted).cast(pl.Int64).fill_null(0).to_numpy()
        position = np.minimum(position, len(self) - 1)
        found = (self._ids.gather(position) == wanted).fill_null(False).to_numpy()
        return np.where(found, position, -1)

    def _find_one(self, value: int | str | None) -> int:
        if value is None:
            return -1
        place = bisect.bisect_left(self._ids, value)  # strings are in the order of their code points, as Python's are
        return place if place < len(self) and self._ids[place] == value else -1

    def index_of(self, ids: Ids) -> np.ndarray:
        """Return the int64 index of every id.

        Args:
            ids: n ids, as in `find`.

        Returns:
            int64 array (n,).

        Raises:
            UnknownIdError: some ids are not in the map; the message names them, how many they are, and the nearest
                known id.
        """
        index = self.find(ids)
        if (index < 0).any():
            raise self._unknown(_as_series(ids).filter(pl.Series(index < 0)), len(index))
        return index

    def ids_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the original ids at `indices`: int64, or object array of str, shape (n,).

        Raises:
            IndexError: an index is outside 0 … len - 1.
        """
        return self.gather(indices).to_numpy()

    def gather(self, indices: Sequence[int] | np.ndarray) -> pl.Series:
        """Return the original ids at `indices` as a series, which keeps strings out of Python.

        Raises:
            IndexError: an index is outside 0 … len - 1.
        """
        index = np.asarray(indices, dtype=np.int64)
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"{self.name} index must be 0 to {len(self) - 1}, got {index.min()} to {index.max()}")
        return self._ids.gather(index)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map as Parquet with the columns `id` and `index`."""
        with atomic_file(path, StoreError) as temporary:
            self._ids.to_frame().with_row_index("index").select("id", pl.col("index").cast(pl.Int64)).write_parquet(
                temporary
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str = "id") -> IdMap:
        """Read a map that `save` wrote.

        Raises:
            StoreError: the file is missing, damaged, or not an id map.
        """
        try:
            return cls(pl.read_parquet(path, columns=["id"])["id"], name)
        except (OSError, pl.exceptions.PolarsError, ValueError) as problem:
            raise StoreError(f"{Path(path)} is missing or damaged: {problem}; build or export it again") from problem

    def _cast(self, wanted: pl.Series) -> pl.Series:
        if wanted.dtype == self.dtype:
            return wanted
        if self.dtype == pl.String or wanted.dtype.is_integer():
            return wanted.cast(self.dtype, strict=False)
        # " 7", "+7" and "007" are not how an integer id is written, so they stay unknown.
        number = wanted.cast(pl.Int64, strict=False)
        return number.set(number.cast(pl.String).ne_missing(wanted), None)

    def _unknown(self, missing: pl.Series, asked: int) -> UnknownIdError:
        distinct = missing.unique(maintain_order=True)
        named = ", ".join(repr(value) for value in distinct.head(5)) + (", …" if len(distinct) > 5 else "")
        count = "is" if asked == 1 else f"({len(missing)} of the {asked} asked for) are"
        noun = f"{self.name} id" if asked == 1 else f"{self.name} ids"
        hint = self._nearest(distinct[0])
        return UnknownIdError(f"{noun} {named} {count} not among the {len(self):,} known {self.name}s{hint}")

    def near(self, value: Any, count: int = 3) -> list[Any]:
        """Return the known ids nearest to `value`, by distance for integers and by spelling for text; at most `count`."""
        if len(self) == 0:
            return []
        wanted = self._cast(pl.Series([value]))
        centre = 0 if wanted[0] is None else int(self._ids.search_sorted(wanted)[0])
        if self.dtype == pl.Int64 and wanted[0] is not None:
            around = self._ids.slice(max(centre - count, 0), 2 * count).to_list()
            return sorted(around, key=lambda known: (abs(known - wanted[0]), known))[:count]
        window = self._ids.slice(max(centre - _NEAREST_WINDOW // 2, 0), _NEAREST_WINDOW).cast(pl.String).to_list()
        return difflib.get_close_matches(str(value), window, n=count)

    def _nearest(self, value: Any) -> str:
        near = self.near(value, 1)
        if not near:
            return ""
        return f"; the nearest known id is {near[0]}" if isinstance(near[0], int) else f"; did you mean {near[0]!r}?"


def distinct(keys: np.ndarray) -> np.ndarray:
    """Return the distinct values of an array of numbers (n,), ascending: `np.unique`, at a twentieth of its time for
    millions of keys, because NumPy ≥ 2.3 hashes where sorting is far quicker."""
    ordered = np.sort(keys)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def contained(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return bool, shaped as `keys`: is the key in `among` (n,), ascending? `np.isin` hashes as `np.unique` does."""
    if not len(among):
        return np.zeros(np.shape(keys), dtype=bool)
    return among[np.minimum(np.searchsorted(among, keys), len(among) - 1)] == keys


def _as_series(ids: Ids) -> pl.Series:
    if isinstance(ids, str) or not hasattr(ids, "__len__"):
        raise TypeError(f"ids must be a list, array or series of ids, got {ids!r}; put a single id into a list")
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "OU":
        ids = ids.tolist()
    if isinstance(ids, list | tuple) and len({type(value) for value in ids}) > 1:
        ids = [str(value) for value in ids]
    series = pl.Series("id", ids)
    if len(series) == 0:
        return series.cast(pl.String) if series.dtype == pl.Null else series
    if series.dtype != pl.String and not series.dtype.is_integer():
        raise TypeError(f"ids must be integers or strings, got {series.dtype}")
    return series
