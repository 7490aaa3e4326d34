"""The graph store: a folder with everything that training, evaluation and serving need of a log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from graphrec.errors import ConfigError, StoreError, unknown_name
from graphrec.graph.arrays import feature_path, list_features, read_feature, read_provenance, unfit, write_feature
from graphrec.graph.catalogue import Catalogue
from graphrec.graph.heterograph import EdgeType, load_graph
from graphrec.graph.ids import IdMap
from graphrec.graph.manifest import Manifest
from graphrec.graph.sides import HELD_LINKS, NEW_ITEMS, NEW_LINKS
from graphrec.graph.split import NO_TIME, SIDES


@dataclass(frozen=True)
class Interactions:
    """Events of one side and one behaviour, with users and items that training knows.

    Attributes:
        user, item: int64 indices (E,). The training side is sorted by (user, item), the others by (user, timestamp).
        weight: float32 (E,).
        timestamp: int64 µs since 1970, UTC (E,), `split.NO_TIME` where missing; None where no event has one.
    """

    user: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    timestamp: np.ndarray | None

    def __len__(self) -> int:
        return len(self.user)


class GraphStore:
    """A built graph on disk.

    The folder holds::

        manifest.json                 schema version, settings, counts, sizes and checksums
        splits/{train,valid,test}.parquet   the events of each side; the truth about interactions
        splits/links.parquet          links between users that were held out of the graph, by original id
        graph.dgl                     the training events as a DGL heterograph, with the side tables' edges
        ids/<ntype>.parquet           original id and index
        tables/<ntype>.parquet        attributes as read, row = index
        tables/item-new.parquet       attributes of items without a training event: no nodes, but they can be recommended
        tables/item-new-links.parquet   triples between such items and entities of the graph
        features/<ntype>.<name>.safetensors   arrays with provenance; may be added after the build
        rejected.parquet              side-table rows that do not fit the graph

    Edge e of `(user, b, item)` in `graph.dgl` is row e of behaviour b in `splits/train.parquet`; both are written by
    one build and checksummed. Interactions are read from `splits/`, which does not need DGL, and
    `graph.dgl` only by `graph()`. Everything is read when it is asked for; once the store was built anew in the meantime, that
    is a StoreError.

    Open a store with `GraphStore.open` or get one from `build`.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._ids: dict[str, IdMap] = {}

    @classmethod
    def open(cls, folder: str | os.PathLike[str], verify: bool = True) -> GraphStore:
        """Open the store in `folder`.

        Args:
            folder: a folder that `build` wrote.
            verify: compare all files with their checksums (about 1 s per GB).

        Raises:
            StoreError: there is no store, it is truncated or edited (the message names the file), or it was
                written by a newer graphrec.
        """
        path = Path(folder)
        manifest = Manifest.read(path)
        if verify:
            manifest.verify(path)
        return cls(path, manifest)

    def __repr__(self) -> str:
        return f"GraphStore({str(self.folder)!r}, {self.num_users:,} users, {self.num_items:,} items)"

    @property
    def _current(self) -> Path:
        """The folder, as long as what is read there is of the store that was opened."""
        if Manifest.read(self.folder) != self.manifest:
            raise StoreError(f"the store {self.folder} was built anew since it was opened; open it again")
        return self.folder

    @property
    def num_users(self) -> int:
        """U."""
        return self.manifest.nodes["user"]

    @property
    def num_items(self) -> int:
        """I."""
        return self.manifest.nodes["item"]

    @property
    def node_types(self) -> list[str]:
        """Node types, sorted: item, user, and entity where the log has triples."""
        return sorted(self.manifest.nodes)

    @property
    def canonical_etypes(self) -> list[EdgeType]:
        """Edge types as (source type, relation, target type)."""
        return [(edge.source, edge.relation, edge.target) for edge in self.manifest.edges]

    @property
    def behaviors(self) -> list[str]:
        """Behaviours that occur in training, sorted by name."""
        return self.manifest.behaviors

    @property
    def target_behavior(self) -> str:
        """The behaviour that recommendations are for."""
        return self.manifest.target_behavior

    @property
    def splits(self) -> list[str]:
        """The sides that hold events: "train", and "valid" and "test" unless they are empty."""
        return [side for side in SIDES if self.manifest.splits[side].events]

    def graph(self) -> Any:
        """Load the DGL heterograph of the training edges (int32 ids; edge data `weight` and, with times, `timestamp`)."""
        return load_graph(self._current / "graph.dgl")

    def ids(self, ntype: str) -> IdMap:
        """Return the id map of a node type ("user", "item", "entity").

        Raises:
            ConfigError: the store has no such node type.
        """
        if ntype not in self.manifest.nodes:
            raise unknown_name("node type", ntype, self.node_types)
        if ntype not in self._ids:
            self._ids[ntype] = IdMap.load(self._current / "ids" / f"{ntype}.parquet", ntype)
        return self._ids[ntype]

    def interactions(self, split: str = "train", behavior: str | None = None) -> Interactions:
        """Return the events of one side whose user and item training knows.

        Args:
            split: "train", "valid" or "test".
            behavior: None means the target behaviour.

        Raises:
            ConfigError: unknown split or behaviour.
        """
        if split not in SIDES:
            raise unknown_name("split", split, SIDES)
        frame = self._events(split, ["user", "item", "weight", "timestamp"], behavior)
        time = frame["timestamp"].to_physical()
        return Interactions(  # writable, so that torch takes the arrays without a copy or a warning
            frame["user"].cast(pl.Int64).to_numpy(writable=True),
            frame["item"].cast(pl.Int64).to_numpy(writable=True),
            frame["weight"].to_numpy(writable=True),
            None if time.null_count() == len(frame) else time.fill_null(NO_TIME).to_numpy(writable=True),
        )

    def train_matrix(self, behavior: str | None = None) -> sparse.csr_matrix:
        """Return the training events as a CSR matrix (U, I) of float32 weights, columns sorted, duplicates summed.

        Args:
            behavior: None means the target behaviour.
        """
        frame = self._events("train", ["user", "item", "weight"], behavior)
        indptr = np.zeros(self.num_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(frame["user"].to_numpy(), minlength=self.num_users), out=indptr[1:])
        matrix = sparse.csr_matrix(
            (frame["weight"].to_numpy(writable=True), frame["item"].to_numpy(writable=True), indptr),
            shape=(self.num_users, self.num_items),
        )
        matrix.has_sorted_indices = True
        matrix.sum_duplicates()
        return matrix

    def events(self, split: str = "train") -> pl.DataFrame:
        """Return every event of one side as a table: `user`, `item`, `behavior`, `timestamp`, `weight`. The held-out sides
        also have `user_id` and `item_id`, and null indices where training does not know the id."""
        if split not in SIDES:
            raise unknown_name("split", split, SIDES)
        return _read_parquet(self._current / "splits" / f"{split}.parquet")

    def table(self, ntype: str) -> pl.DataFrame | None:
        """Return the attributes of a node type as read, row i for node i, or None where the log has none."""
        name = f"tables/{ntype}.parquet"
        return _read_parquet(self._current / name) if name in self.manifest.files else None

    def new_items(self) -> tuple[IdMap, pl.DataFrame] | None:
        """Return ids and attributes, row by row, of the listed items without a training event; None where there are none."""
        table = self.table(NEW_ITEMS)
        return None if table is None else (IdMap(table[:, 0], "new item"), table)

    def new_links(self) -> tuple[IdMap, pl.DataFrame] | None:
        """Return the items without a training event that triples tie to entities of the graph, and these triples: `item`
        (position among those ids), `relation`, `entity` (node index), `item_is_head`; None where there are none."""
        table = self.table(NEW_LINKS)
        if table is None:
            return None
        ids = IdMap.fit(table["item_id"], "new item")
        return ids, table.select("relation", "entity", "item_is_head", item=pl.Series(ids.find(table["item_id"])))

    def held_out_links(self) -> pl.DataFrame | None:
        """Return the links between users that the build held out: src, dst (original ids), weight; None where it held out none."""
        return _read_parquet(self._current / HELD_LINKS) if HELD_LINKS in self.manifest.files else None

    def titles(self, ntype: str = "item") -> list[str] | None:
        """Return a title per item from the column `title`, else `name`, of the item table; None where it has neither.

        Args:
            ntype: "item", or `graphrec.graph.sides.NEW_ITEMS` for the items without a training event.
        """
        table = self.table(ntype)
        if table is None:
            return None
        column = next((name for wanted in ("title", "name") for name in table.columns if name.lower() == wanted), None)
        return None if column is None else table[column].cast(pl.String).fill_null("").to_list()

    def catalogue(self) -> Catalogue:
        """Return what a model saves to answer by original id: ids, seen items of the target behaviour, popularity."""
        matrix = self.train_matrix()
        return Catalogue(
            users=self.ids("user"),
            items=self.ids("item"),
            seen_indptr=matrix.indptr.astype(np.int64),
            seen_indices=matrix.indices.astype(np.int32),
            item_counts=np.bincount(matrix.indices, minlength=self.num_items).astype(np.int64),
            titles=self.titles(),
        )

    def features(self, ntype: str) -> list[str]:
        """Return the names of the features of a node type, sorted."""
        return list_features(self._current, ntype)

    def feature(self, ntype: str, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a feature array (n, …) and its provenance.

        Raises:
            ConfigError: the store has no such feature; the message lists those it has.
            StoreError: the file is damaged or was edited.
        """
        self._check_feature(ntype, name)
        return read_feature(self._current, ntype, name)

    def provenance(self, ntype: str, name: str) -> dict[str, Any]:
        """Return the provenance of a feature without reading its values; raises as `feature`."""
        self._check_feature(ntype, name)
        return read_provenance(self._current, ntype, name)

    def _check_feature(self, ntype: str, name: str) -> None:
        if not feature_path(self._current, ntype, name).exists():
            raise unknown_name(f"{ntype} feature", name, self.features(ntype))

    def add_feature(self, ntype: str, name: str, array: np.ndarray, provenance: Mapping[str, Any] | None = None) -> None:
        """Write a feature of all nodes of a type, replacing one of the same name.

            store.add_feature("item", "cover", vectors, {"kind": "covers"})  # row i is of store.ids("item").series[i]

        Args:
            ntype: node type, or `graphrec.graph.sides.NEW_ITEMS` for the items without a training event.
            name: letters, digits, `-` and `_`.
            array: (n, F) numbers, row i for node i; a row of zeros for a node that has none.
            provenance: where it comes from, as JSON-able values; None for nothing.

        Raises:
            ConfigError: unknown node type, or the array has another shape, no numbers, or some that are not finite.
            TypeError: the provenance is no mapping.
            StoreError: the disk is full.
        """
        new = self.new_items() if ntype == NEW_ITEMS else None
        rows = len(self.ids(ntype) if new is None else new[0])
        array = np.asarray(array)
        if (wrong := unfit(array, rows)) is not None:
            ids = f"store.ids({ntype!r})" if new is None else "store.new_items()[0]"
            raise ConfigError(f"the feature {ntype}.{name} {wrong}; give a row of numbers for each of {ids}, in their order, zeros for none")
        if provenance is not None and not isinstance(provenance, Mapping):
            raise TypeError(
                f'the feature {ntype}.{name}: its provenance must be a mapping, such as {{"kind": "covers"}}, got {provenance!r}'
            )
        write_feature(self._current, ntype, name, array, dict(provenance or {}))

    @cached_property
    def has_timestamps(self) -> bool:
        """Whether training events have times."""
        statistics = pl.scan_parquet(self._current / "splits" / "train.parquet").select(pl.col("timestamp").count())
        return statistics.collect().item() > 0

    def _events(self, split: str, columns: list[str], behavior: str | None) -> pl.DataFrame:
        behavior = self.target_behavior if behavior is None else behavior
        if behavior not in self.behaviors:
            raise unknown_name("behaviour", behavior, self.behaviors)
        frame = _read_parquet(self._current / "splits" / f"{split}.parquet", [*columns, "behavior"])
        keep = pl.col("user").is_not_null() & pl.col("item").is_not_null()
        return frame.filter(keep & (pl.col("behavior") == behavior)).drop("behavior").rechunk()


def _read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=columns)
    except (OSError, pl.exceptions.PolarsError) as problem:
        raise StoreError(f"{path} is missing or damaged: {problem}; build the store again") from problem
