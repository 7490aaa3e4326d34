"""Write the parts of a built graph as the files of a store."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl

from graphrec.errors import StoreError
from graphrec.graph.arrays import write_feature
from graphrec.graph.events import Events
from graphrec.graph.heterograph import Edges, EdgeType, make_graph, reverse_name, save_graph
from graphrec.graph.ids import IdMap
from graphrec.graph.manifest import EdgeCount, Manifest, SplitCounts, record_files
from graphrec.graph.sides import HELD_LINKS, SideTables
from graphrec.graph.split import NO_TIME
from graphrec.logs.table import InteractionLog
from graphrec.settings import Settings


@dataclass(frozen=True)
class Contents:
    """Everything that goes into a store.

    Attributes:
        train: training events in terms of node indices, sorted by (behaviour, user, item).
        held_out: side to its events, still in terms of the codes of the whole log.
        target: code of the target behaviour.
        users, items: the nodes of the graph.
        sides: the side tables, joined.
        left_out: events that are in no split, per reason.
        users_kept_whole: users from whom the split held nothing out.
    """

    train: Events
    held_out: dict[str, Events]
    target: int
    users: IdMap
    items: IdMap
    sides: SideTables
    left_out: dict[str, int]
    users_kept_whole: int

    @property
    def nodes(self) -> dict[str, IdMap]:
        """Node type to its ids."""
        entities = self.sides.entities
        return {"user": self.users, "item": self.items, **({} if entities is None else {"entity": entities})}

    def edges(self) -> dict[EdgeType, Edges]:
        """Edges per type: each behaviour and its reverse, then those of the side tables."""
        train, edges = self.train, {}
        starts = np.searchsorted(train.behavior, np.arange(len(train.behaviors) + 1))
        for number, name in enumerate(train.behaviors):
            rows = slice(starts[number], starts[number + 1])
            if rows.start < rows.stop:
                timestamp = None if train.timestamp is None else train.timestamp[rows]
                forward = Edges(train.user[rows], train.item[rows], train.weight[rows], timestamp)
                edges["user", name, "item"] = forward
                edges["item", reverse_name(name), "user"] = forward.reversed()
        return {**edges, **self.sides.edges}


def write_store(folder: Path, contents: Contents, log: InteractionLog, settings: Settings) -> None:
    """Write all files of a store into `folder`, the manifest last.

    Args:
        folder: an empty folder.
        contents: what to write.
        log: where it comes from.
        settings: the build settings as they were used, for the manifest.

    Raises:
        StoreError: no test event names a user and an item that training knows.
    """
    for name in ("splits", "ids"):
        (folder / name).mkdir()
    counts = _write_splits(folder / "splits", contents)
    for ntype, ids in contents.nodes.items():
        ids.save(folder / "ids" / f"{ntype}.parquet")
    sides = contents.sides
    if sides.held_links is not None:
        sides.held_links.write_parquet(folder / HELD_LINKS)
    for ntype, table in sides.tables.items():
        (folder / "tables").mkdir(exist_ok=True)
        table.write_parquet(folder / "tables" / f"{ntype}.parquet")
    if sides.rejected:
        sides.rejections().write_parquet(folder / "rejected.parquet")
    edges, num_nodes = contents.edges(), {ntype: len(ids) for ntype, ids in contents.nodes.items()}
    save_graph(make_graph(edges, num_nodes), folder / "graph.dgl")
    files = record_files(folder)  # before the features, which carry their own checksums and may be replaced
    for (ntype, name), (array, given) in sides.features.items():
        provenance = {"kind": "media", "source": log.source, "rows_given": given, "rows_zero": len(array) - given}
        write_feature(folder, ntype, name, array, provenance)
    by_reason = sides.rejections().group_by("table", "reason").len().sort("table", "reason")
    Manifest(
        graphrec_version=_version(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source=log.source,
        settings=settings.model_dump(mode="json"),
        log_settings=None if log.settings is None else log.settings.model_dump(mode="json", exclude_defaults=True),
        behaviors=[relation for source, relation, target in edges if (source, target) == ("user", "item")],
        target_behavior=contents.train.behaviors[contents.target],
        nodes=num_nodes,
        edges=[EdgeCount(source=s, relation=r, target=t, edges=len(part.source)) for (s, r, t), part in edges.items()],
        splits=counts,
        left_out={reason: number for reason, number in contents.left_out.items() if number},
        log_rejected=dict(log.rejected.counts),
        side_rejected={f"{table}: {reason}": number for table, reason, number in by_reason.iter_rows()},
        users_kept_whole=contents.users_kept_whole,
        files=files,
    ).write(folder)


def _version() -> str:
    try:
        return importlib.metadata.version("graphrec")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _write_splits(folder: Path, contents: Contents) -> dict[str, SplitCounts]:
    train, target = contents.train, contents.target
    _frame(train, train.user, train.item).write_parquet(folder / "train.parquet", compression_level=1)
    rows = train.behavior == target
    number = int(rows.sum())
    counts = {"train": SplitCounts(events=len(train), target_events=number, known=len(train), known_target=number)}
    trained = train.user[rows].astype(np.int64) * len(contents.items) + train.item[rows]  # ascending
    for name, events in contents.held_out.items():
        frame, counts[name] = _held_out_side(events, contents, trained)
        if name == "test" and len(events) and counts[name].known_target == 0:
            behavior, number = train.behaviors[target], counts[name].target_events
            if not number:
                raise StoreError(f"the split leaves no usable test event: {counts[name].describe(name, behavior)}")
            raise StoreError(
                f"the split leaves no usable test event: all {number:,} of the target behaviour {behavior!r} name "
                "users or items that the training side does not have; hold out less, lower k_core, or choose another "
                "split method"
            )
        frame.write_parquet(folder / f"{name}.parquet")
    return counts


def _held_out_side(events: Events, contents: Contents, trained: np.ndarray) -> tuple[pl.DataFrame, SplitCounts]:
    user_ids, item_ids = events.users.gather(events.user), events.items.gather(events.item)
    user, item = contents.users.find(user_ids), contents.items.find(item_ids)
    known, is_target = (user >= 0) & (item >= 0), events.behavior == contents.target
    pair = (user * len(contents.items) + item)[known & is_target]
    position = np.minimum(np.searchsorted(trained, pair), len(trained) - 1)
    counts = SplitCounts(
        events=len(events),
        target_events=int(is_target.sum()),
        known=int(known.sum()),
        known_target=len(pair),
        unknown_user=int((user < 0).sum()),
        unknown_item=int((item < 0).sum()),
        seen_pairs=int((trained[position] == pair).sum()),
    )
    frame = _frame(events, user.astype(np.int32), item.astype(np.int32)).with_columns(
        *(pl.when(pl.col(name) >= 0).then(pl.col(name)) for name in ("user", "item")),
        user_ids.alias("user_id"),
        item_ids.alias("item_id"),
    )
    return frame, counts


def _frame(events: Events, user: np.ndarray, item: np.ndarray) -> pl.DataFrame:
    if events.timestamp is None:
        timestamp = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(events))
    else:
        timestamp = pl.Series(events.timestamp)
        if (events.timestamp == NO_TIME).any():
            timestamp = timestamp.set(timestamp == NO_TIME, None)
    names = pl.Series(events.behaviors, dtype=pl.Enum(events.behaviors))
    columns = {
        "user": user,
        "item": item,
        "behavior": names.gather(events.behavior),
        "timestamp": timestamp.cast(pl.Datetime("us", "UTC")),
        "weight": events.weight,
    }
    return pl.DataFrame(columns)
