"""From an interaction log to a graph store: split first, then fit everything on the training side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import BeforeValidator, Field

from graphrec.atomic import atomic_folder
from graphrec.errors import StoreError
from graphrec.graph.attribute_triples import with_attribute_triples
from graphrec.graph.events import Events, choose_target, encode
from graphrec.graph.ids import IdMap, distinct
from graphrec.graph.kcore import k_core
from graphrec.graph.manifest import MARKER, Manifest
from graphrec.graph.recency import half_lives
from graphrec.graph.sides import check_names, join_sides
from graphrec.graph.split import NO_TIME, SIDES, TEST, TRAIN, SplitSettings, split
from graphrec.graph.store import GraphStore
from graphrec.graph.write import Contents, write_store
from graphrec.logs.table import InteractionLog
from graphrec.progress import SILENT, Reporter, Task, takes_progress
from graphrec.settings import Settings, parse

STEPS = ("reading events", "splitting", "fitting ids", "writing")


def _as_split(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


class BuildSettings(Settings):
    """The `[build]` section of a run file."""

    split: Annotated[SplitSettings, BeforeValidator(_as_split)] = SplitSettings()
    """How events are held out; a method's name alone will do."""
    target_behavior: str | None = None
    """The behaviour to recommend for; None: the rarest, which is the end of a funnel such as view, cart, purchase."""
    k_core: int = Field(0, ge=0)
    """Training users and items with fewer distinct partners are removed until none is left; 0 keeps all."""
    k_core_user: int | None = Field(None, ge=0)
    """The bound for users where it differs from `k_core`."""
    k_core_item: int | None = Field(None, ge=0)
    """The bound for items where it differs from `k_core`."""
    min_weight: float | None = None
    """Events of a smaller weight are left out before the split, for example ratings below 4."""
    attribute_triples: list[str] = Field(default=[])
    """Columns of the item table that become triples (item, column, "column=value"), for models of knowledge graphs."""
    attribute_separators: str = Field(default="|,;", max_length=8)
    """Characters that part several values in a text column of these."""
    half_life_days: float | None = Field(None, gt=0)
    """Training weights are multiplied by 0.5^(age / half-life); age counts back from the last training event. Closed-form models
    read the weights; models that are trained read none, and draw pairs by age in their place ([train] half_life_days)."""
    hold_out_links: float | None = Field(None, gt=0, lt=1)
    """Share of the linked pairs of users to keep out of the graph, drawn with the split's seed, for `graphrec evaluate --friends`;
    None keeps all links in."""


_FEW = 0.01  # of all training edges: a target of so few, taken because it is the rarest, may be a mistake in the log


@takes_progress
def build(
    log: InteractionLog,
    folder: str | os.PathLike[str],
    settings: BuildSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Reporter | bool = SILENT,
    **overrides: Any,
) -> GraphStore:
    """Build a graph store from a log.

    The log is split first. Ids, the k-core, degrees and weights are then fitted on the training side alone. Held-out events
    whose user or item training does not have keep their original ids with a null index and are counted in the
    manifest; so are side-table rows that do not fit, which go to `rejected.parquet`.

    Args:
        log: what `read_log` returned.
        folder: where the store goes. It appears whole or not at all.
        settings: how to build.
        overwrite: replace a store that is already there; it stays until the new one is complete.
        overrides: single settings, for example `k_core=5` or `split="time"`.

    Raises:
        ConfigError: a setting is wrong or does not fit the log.
        LogError: vectors of the log belong to none of its items, or it was made in memory and has bad rows.
        StoreError: the folder exists or cannot be written, the split leaves no test or no training events, the k-core is
            empty, or a relation of a side table has the name of a behaviour or of the social links.
    """
    chosen = {} if settings is None else settings.model_dump(exclude_unset=True)
    settings = parse(BuildSettings, {**chosen, **overrides}, "build")
    if not isinstance(log, InteractionLog):
        raise TypeError(f"build: takes an InteractionLog, got {type(log).__name__}; read_log makes one of files, InteractionLog of frames")
    if log.settings is None:
        log.check_rows()
    if settings.attribute_triples:
        log = with_attribute_triples(log, settings.attribute_triples, settings.attribute_separators)
    with (
        atomic_folder(folder, StoreError, overwrite=overwrite, marker=MARKER) as temporary,
        progress.task("Building the graph", total=len(STEPS), unit="steps") as task,
    ):
        weightless = _build_into(temporary, log, settings, task)
    store = GraphStore.open(folder, verify=False)
    valid = store.manifest.splits["valid"]
    for doubt in _doubts(store.manifest, settings.target_behavior):
        progress.note(f"warning: {doubt}")
    if weightless:
        progress.note(f"warning: {weightless:,} training events have weight 0 and count nothing where weights count; min_weight drops them")
    if valid.events and not valid.known_target:
        progress.note(f"warning: no model can be validated on this store: {valid.describe('valid', store.target_behavior)}")
    return store


def _build_into(folder: Path, log: InteractionLog, settings: BuildSettings, task: Task) -> int:
    """Write the store; return how many of its training events have weight 0."""
    task.show(step=STEPS[0])
    events, light = encode(log, settings.min_weight)
    target = choose_target(events, settings.target_behavior)
    check_names(log, events.behaviors)
    task.advance()
    task.show(step=STEPS[1])
    resolved = settings.split.resolved(events.given is not None, events.timestamp is not None)
    timeless = 0
    if resolved.method == "time":
        events, timeless = _with_times(events, 0.05 if log.settings is None else log.settings.max_bad_share)
    rarest = settings.target_behavior is None and len(events.behaviors) > 1
    settings = settings.model_copy(update={"split": resolved, "target_behavior": events.behaviors[target]})
    side = split(resolved, events.user, events.item, events.timestamp, events.behavior == target, events.given)
    _check_sides(side[events.behavior == target], resolved, events.behaviors[target] if rarest else None)
    train, held_out = _divide(events, side)
    kept_whole = _users_kept_whole(events, side, target)
    del events, side  # most of the memory; only the sorted copies are needed from here on
    task.advance()
    task.show(step=STEPS[2])
    train, users, items, outside = _fit(train, settings)
    task.advance()
    task.show(step=STEPS[3])
    sides = join_sides(log, users, items, train.items, settings.hold_out_links, resolved.seed)
    left_out = {"below min_weight": light, "without a time": timeless, "outside the k-core": outside}
    contents = Contents(train, held_out, target, users, items, sides, left_out, kept_whole)
    write_store(folder, contents, log, settings)
    task.advance()
    return int((train.weight == 0).sum())


def _with_times(events: Events, most: float) -> tuple[Events, int]:
    """The events that have a time, and how many have none, which a split by time cannot place."""
    timed = events.timestamp != NO_TIME
    missing = len(events) - int(timed.sum())
    if missing > most * len(events):
        raise StoreError(
            f"split method 'time' needs timestamps, and {missing:,} of {len(events):,} events have none; choose leave_last_out or "
            f"random, or raise max_bad_share = {most:g} of [log] to leave these events out"
        )
    return (events.select(timed) if missing else events), missing


def _doubts(manifest: Manifest, wanted: str | None) -> list[str]:
    """What a person should look at: a target that nobody chose, behaviours that may be one."""
    doubts = []
    edges = {edge.relation: edge.edges for edge in manifest.edges if edge.source == "user" and edge.relation in manifest.behaviors}
    total, target = sum(edges.values()), manifest.target_behavior
    if wanted is None and edges[target] < _FEW * total:
        doubts.append(
            f"no target_behavior is given, and the rarest was taken, {target!r}, with {edges[target]:,} of {total:,} training edges; "
            f"set it if another is meant: {', '.join(name for name in manifest.behaviors if name != target)}"
        )
    alike: dict[str, list[str]] = {}
    for name in manifest.behaviors:
        alike.setdefault(name.strip().casefold(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            doubts.append(f"the behaviours {' and '.join(map(repr, names))} are kept apart; write them alike if they are one")
    return doubts


def _check_sides(side: np.ndarray, settings: SplitSettings, rarest: str | None) -> None:
    counts = np.bincount(side, minlength=3)
    found = f"{counts[0]:,} training, {counts[1]:,} validation and {counts[2]:,} test events of the target behaviour"
    if rarest is not None:
        found += f" {rarest!r}, taken as the rarest since target_behavior is not set"
    if counts[TRAIN] == 0:
        raise StoreError(f"the {settings.method} split leaves nothing to train on ({found}); hold out less")
    if counts[TEST] == 0 and settings.test:
        raise StoreError(
            f"the {settings.method} split leaves no test events ({found}); users may have too few events, "
            "so hold out more, choose another method, or set test to 0 to build without a test"
        )


def _divide(events: Events, side: np.ndarray) -> tuple[Events, dict[str, Events]]:
    """Training events sorted by (behaviour, user, item), and the held-out sides sorted by (user, time)."""
    rows = np.flatnonzero(side == TRAIN)
    key = events.behavior[rows].astype(np.int64)
    key *= len(events.users)
    key += events.user[rows]
    key *= len(events.items)
    key += events.item[rows]
    train = events.select(rows[np.argsort(key, kind="stable")])
    held_out = {}
    for number in range(1, len(SIDES)):
        rows = np.flatnonzero(side == number)
        clock = np.zeros(len(rows)) if events.timestamp is None else events.timestamp[rows]
        held_out[SIDES[number]] = events.select(rows[np.lexsort((clock, events.user[rows]))])
    return train, held_out


def _users_kept_whole(events: Events, side: np.ndarray, target: int) -> int:
    has_target, held = (np.zeros(len(events.users), dtype=bool) for _ in range(2))
    has_target[events.user[events.behavior == target]] = True
    held[events.user[side != TRAIN]] = True
    return int((has_target & ~held).sum())


def _fit(train: Events, settings: BuildSettings) -> tuple[Events, IdMap, IdMap, int]:
    """Fit ids and k-core on the training events, and recode these to the nodes that stay."""
    bounds = [settings.k_core if bound is None else bound for bound in (settings.k_core_user, settings.k_core_item)]
    sizes = len(train.users), len(train.items)
    if max(bounds) > 1:
        pairs = distinct(train.user.astype(np.int64) * sizes[1] + train.item)
        pairs = (pairs // sizes[1]).astype(np.int32), (pairs % sizes[1]).astype(np.int32)
        keep = k_core(*pairs, *sizes, *bounds)
        if not keep[0].any():
            raise StoreError(_empty_core(pairs, sizes, bounds))
    else:
        keep = np.zeros(sizes[0], dtype=bool), np.zeros(sizes[1], dtype=bool)
        keep[0][train.user], keep[1][train.item] = True, True
    before = len(train)
    rows = keep[0][train.user] & keep[1][train.item]
    train = train if rows.all() else train.select(rows)
    train.user = (np.cumsum(keep[0], dtype=np.int32) - 1)[train.user]
    train.item = (np.cumsum(keep[1], dtype=np.int32) - 1)[train.item]
    users = IdMap(train.users.series.filter(pl.Series(keep[0])), "user")
    items = IdMap(train.items.series.filter(pl.Series(keep[1])), "item")
    name = settings.target_behavior
    if not (train.behavior == train.behaviors.index(name)).any():
        raise StoreError(f"the k-core leaves no training event of the target behaviour {name!r}; lower k_core")
    if settings.half_life_days is not None:
        _decay(train, settings.half_life_days)
    return train, users, items, before - len(train)


def _empty_core(pairs: tuple[np.ndarray, np.ndarray], sizes: tuple[int, int], bounds: list[int]) -> str:
    possible, impossible = 1, max(bounds)
    while impossible - possible > 1:
        middle = (possible + impossible) // 2
        if k_core(*pairs, *sizes, middle, middle)[0].any():
            possible = middle
        else:
            impossible = middle
    return (
        f"the k-core with at least {bounds[0]} items per user and {bounds[1]} users per item is empty: no training "
        f"event of {len(pairs[0]):,} distinct pairs is left; the largest k_core that leaves a graph is {possible}"
    )


def _decay(train: Events, half_life_days: float) -> None:
    if train.timestamp is None:
        raise StoreError("half_life_days needs timestamps, and the training events have none; leave it out")
    train.weight *= np.exp2(-half_lives(train.timestamp, half_life_days)).astype(np.float32)
