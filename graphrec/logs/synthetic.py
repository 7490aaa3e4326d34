"""Made-up worlds: interaction logs of any size, with everything a recommender can learn from, from one seed.

A world has users with drifting tastes, communities and social links, a catalogue with titles, texts and media vectors
that carry the taste, several behaviours in a funnel, a knowledge graph, late arrivals, power laws and a daily and weekly
rhythm. The events are streamed, so that a hundred million of them need no more memory than the users and items do.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrec.atomic import atomic_folder
from graphrec.errors import DatasetError
from graphrec.logs.synthetic_catalogue import Catalogue, social_links, user_columns
from graphrec.logs.synthetic_events import EventSource
from graphrec.logs.synthetic_settings import WorldSettings
from graphrec.logs.synthetic_tastes import draw_items, draw_niches, draw_users
from graphrec.progress import SILENT, Reporter
from graphrec.settings import parse

if TYPE_CHECKING:
    import pyarrow as pa

WORLD_VERSION = 1  # of the generator: the same version, settings and seed give the same world

# Times in order shrink to a third as differences; statistics of ids would cost more time than all the rest.
_EVENT_ENCODING: dict[str, Any] = {
    "compression_level": 1,
    "use_dictionary": ["user_id", "item_id", "behavior", "weight"],
    "column_encoding": {"timestamp": "DELTA_BINARY_PACKED"},
    "write_statistics": ["timestamp", "weight"],
}


def make_world(
    folder: str | os.PathLike[str],
    settings: WorldSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Reporter = SILENT,
    **overrides: Any,
) -> dict[str, Any]:
    """Write a made-up world into `folder`.

    The folder holds `events.parquet` (user_id, item_id, behavior, timestamp, weight), `users.parquet`, `items.parquet`,
    `social.parquet` (src, dst), `triples.parquet` (head, relation, tail), one `media.<name>.parquet` (item_id, vector)
    per kind of media, `world.json` (settings and counts) and a dataset card `README.md`. It appears whole or not at all.

    Args:
        folder: the folder to create.
        settings: the settings; the defaults when left out.
        overwrite: replace a world that is already there.
        progress: receives the progress.
        **overrides: single settings, such as `num_events=1_000_000`.

    Returns:
        What `world.json` holds.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DatasetError: the folder exists, cannot be written, or the disk is full.
    """
    base = settings.model_dump(exclude_unset=True) if settings is not None else {}
    settings = parse(WorldSettings, {**base, **overrides}, "world")
    with atomic_folder(folder, DatasetError, overwrite=overwrite, marker="world.json") as temporary:
        world = _write(temporary, settings, progress)
        (temporary / "world.json").write_text(json.dumps(world, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(_card(world), encoding="utf-8")
    return world


def _write(folder: Path, settings: WorldSettings, progress: Reporter) -> dict[str, Any]:
    import pyarrow as pa

    niches = draw_niches(settings)
    items, users = draw_items(settings, niches), draw_users(settings, niches)
    catalogue = Catalogue(settings, niches, items)
    start = _epoch_seconds(settings.start)
    counts: dict[str, int] = {"users": users.count, "items": items.count}

    user_table = user_columns(settings, users)
    user_ids = pa.array(user_table["user_id"])
    user_table["joined"] = _timestamps(start + user_table["joined"])
    _write_table(folder / "users.parquet", [pa.table(user_table)])
    links = (
        pa.table({"src": user_ids.take(pa.array(src)), "dst": user_ids.take(pa.array(dst))})
        for src, dst in social_links(settings, users)
    )
    empty = pa.table({"src": user_ids.slice(0, 0), "dst": user_ids.slice(0, 0)})
    counts["social_links"] = _write_table(folder / "social.parquet", links, empty)
    with progress.task("catalogue", total=items.count, unit="items") as task:
        counts["triples"] = _write_catalogue(folder, settings, catalogue, start, task.advance)
    source = EventSource(settings, niches, items, users)
    with progress.task("events", total=settings.num_events, unit="events") as task:
        behaviors = _write_events(folder, settings, source, user_ids, pa.array(catalogue.item_ids), task.advance)
    counts["events"] = settings.num_events
    return {
        "version": WORLD_VERSION,
        "settings": settings.model_dump(mode="json"),
        "counts": counts,
        "behaviors": behaviors,
    }


def _write_catalogue(
    folder: Path, settings: WorldSettings, catalogue: Catalogue, start: int, advance: Callable[[int], None]
) -> int:
    import pyarrow as pa

    def item_blocks() -> Iterable[pa.Table]:
        for first, last in catalogue.blocks():
            columns = catalogue.items(first, last)
            columns["released"] = _timestamps(start + columns["released"]).cast(pa.timestamp("s", "UTC")).cast(pa.date32())
            advance(last - first)
            yield pa.table(columns)

    def triple_blocks() -> Iterable[pa.Table]:
        for first, last in catalogue.blocks():
            yield pa.table(catalogue.triples(first, last))
        yield pa.table(catalogue.entity_triples())

    def media_blocks(number: int, width: int) -> Iterable[pa.Table]:
        for first, last in catalogue.blocks():
            flat = pa.array(catalogue.media(number, width, first, last).ravel())
            yield pa.table(
                {"item_id": catalogue.item_ids[first:last], "vector": pa.FixedSizeListArray.from_arrays(flat, width)}
            )

    _write_table(folder / "items.parquet", item_blocks())
    for number, (name, width) in enumerate(settings.media.items()):
        _write_table(folder / f"media.{name}.parquet", media_blocks(number, width))
    return _write_table(folder / "triples.parquet", triple_blocks())


def _write_events(
    folder: Path,
    settings: WorldSettings,
    source: EventSource,
    user_ids: pa.Array,
    item_ids: pa.Array,
    advance: Callable[[int], None],
) -> dict[str, int]:
    import pyarrow as pa

    start = _epoch_seconds(settings.start)
    names = pa.array(list(settings.funnel))
    strength = np.arange(1, len(names) + 1, dtype=np.float32)  # a later step of the funnel says more
    counts = np.zeros(len(names), dtype=np.int64)

    def blocks() -> Iterable[pa.Table]:
        for events in source.chunks():
            counts[:] += np.bincount(events.behavior, minlength=len(names))
            yield pa.table(
                {
                    "user_id": _named(events.user, user_ids),
                    "item_id": _named(events.item, item_ids),
                    "behavior": pa.DictionaryArray.from_arrays(pa.array(events.behavior), names),
                    "timestamp": _timestamps(start + events.time),
                    "weight": pa.array(strength[events.behavior]),
                }
            )
            advance(len(events))

    _write_table(folder / "events.parquet", blocks(), **_EVENT_ENCODING)
    return dict(zip(settings.funnel, counts.tolist(), strict=True))


def _named(index: np.ndarray, ids: pa.Array) -> pa.Array:
    """Return the ids at `index` as a dictionary array of those that occur: writing all of them costs most of the time."""
    import pyarrow as pa

    used = np.zeros(len(ids), dtype=bool)
    used[index] = True
    place = np.cumsum(used, dtype=np.int32) - 1
    return pa.DictionaryArray.from_arrays(pa.array(place[index]), ids.take(pa.array(np.flatnonzero(used))))


def _write_table(path: Path, tables: Iterable[pa.Table], empty: pa.Table | None = None, **encoding: Any) -> int:
    """Write `tables` as the row groups of one Parquet file and return the number of rows."""
    import pyarrow.parquet as pq

    writer, rows = None, 0
    try:
        for table in tables:
            # Without the Arrow schema in the file, dictionary columns read back as plain strings.
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False, **encoding)
            writer.write_table(table)
            rows += len(table)
        if writer is None and empty is not None:
            writer = pq.ParquetWriter(path, empty.schema, compression="zstd", store_schema=False)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _timestamps(seconds: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array(seconds * 1_000_000, type=pa.int64()).cast(pa.timestamp("us", "UTC"))


def _epoch_seconds(day: datetime.date) -> int:
    return (day - datetime.date(1970, 1, 1)).days * 86_400


def _card(world: dict[str, Any]) -> str:
    counts, settings = world["counts"], world["settings"]
    behaviors = ", ".join(f"{number:,} {name}" for name, number in world["behaviors"].items())
    media = "\n".join(
        f"| `media.{name}.parquet` | item_id, vector: {width} float32 numbers, a noisy linear map of the item's taste |"
        for name, width in settings["media"].items()
    )
    return f"""# A made-up shop

{counts["users"]:,} users, {counts["items"]:,} items, {counts["events"]:,} events ({behaviors}) over {settings["days"]} days
from {settings["start"]}; {counts["social_links"]:,} social links, {counts["triples"]:,} knowledge triples.

- **Origin**: drawn by graphrec's world generator (`graphrec datasets make`), version {world["version"]}, seed {settings["seed"]}.
  Nobody real is in it; all names are invented. `world.json` holds every setting and count.
- **Licence**: CC0 1.0, do with it what you like.

| file | columns |
|---|---|
| `events.parquet` | user_id, item_id, behavior, timestamp (UTC), weight (step in the funnel, from 1), in time order |
| `users.parquet` | user_id, joined (UTC), region, age_group |
| `items.parquet` | item_id, title, text, category, creator, brand, price, released |
| `social.parquet` | src, dst: src follows dst |
| `triples.parquet` | head, relation, tail: an item id or `kind:name` of an entity |
{media}

Users hold a mixture of niches that comes from their community and drifts over the period; the words of titles and texts,
the creators, themes and media vectors follow the niche. Some items and users arrive late and meet few events.
"""
