"""The data of a benchmark: stores as they are, and folders with a given split, which become stores once."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphrec.atomic import atomic_file
from graphrec.benchmarking.plan import folder_name
from graphrec.checksum import sha256_of
from graphrec.errors import ConfigError, RunError, StoreError
from graphrec.graph import manifest
from graphrec.graph.build import build
from graphrec.graph.heterograph import reverse_name
from graphrec.graph.hold_out import HeldOutStore, choose_pairs
from graphrec.graph.split import VALID, at_random
from graphrec.graph.store import GraphStore
from graphrec.logs.read import read_split_folder
from graphrec.progress import Reporter

VALID_SHARE = 0.1  # of each user's training items, where a validation part has to be made


@dataclass(frozen=True)
class Data:
    """One data set, ready to be trained on.

    Attributes:
        label: its name in the table: that of its folder.
        store: what every model trains on and is measured with.
        fingerprint: equal where training, validation and test part are.
        build_seconds: from the text files to the store; None for a store that was there already.
        own_split: the store brings its own validation part, which training may stop early by.
    """

    label: str
    store: GraphStore
    fingerprint: str
    build_seconds: float | None
    own_split: bool


def labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each folder: its own, with as many of its parents' as tell it from the others.

    Names that would share a folder of cells count as equal. Where whole paths do so, a number tells them apart.

    Raises:
        ConfigError: a folder is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ConfigError("--data names a folder twice")
    lengths, names = [0] * len(resolved), [""] * len(resolved)
    alike = set(range(len(resolved)))
    while alike:
        for place in alike:
            lengths[place] += 1
            names[place] = "-".join(resolved[place].parts[1:][-lengths[place] :])
        counts = Counter(map(folder_name, names))
        alike = {n for n, path in enumerate(resolved) if counts[folder_name(names[n])] > 1 and lengths[n] < len(path.parts)}
    for place, name in enumerate(names):
        number, taken = 2, {folder_name(other) for other in names[:place]}
        while folder_name(names[place]) in taken:
            names[place], number = f"{name}-{number}", number + 1
    return dict(zip(folders, names, strict=True))


def prepare(folder: Path, label: str, stores: Path, validate: bool, progress: Reporter) -> Data:
    """Open or build the store of a data folder.

    Args:
        folder: a graph store, or a folder with a given split as `read_split_folder` takes it.
        label: its name.
        stores: where built stores are kept; one whose text files have not changed is taken again.
        validate: the cells will be measured on a validation part of the training side.
        progress: told when something is built.

    Raises:
        ConfigError: `validate`, and a graph store without a validation split.
        LogError: there is no such folder, or it cannot be read.
        StoreError: the store is damaged or cannot be built.
    """
    if (folder / manifest.FILE_NAME).is_file():
        store = GraphStore.open(folder)
        if validate and "valid" not in store.splits:
            raise ConfigError(
                f"{folder} has no validation split to measure on; build it with one (split.valid), or leave --validate out"
            )
        return Data(label, store, _fingerprint(store), None, "valid" in store.splits)
    target = stores / (f"{label}-validate" if validate else label)
    record = stores / f"{target.name}.json"
    sources = {path.name: sha256_of(path) for path in sorted(folder.glob("*.txt*"))} if folder.is_dir() else {}
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() and target.is_dir() else {}
    if known.get("sources") != sources or not sources:
        started = time.perf_counter()
        progress.note(f"{label}: reading {folder} and building its graph")
        log = read_split_folder(folder, rejected=stores / f"{target.name}-rejected.parquet")
        split = {"method": "given", "valid": VALID_SHARE if validate else 0.0}
        record.unlink(missing_ok=True)
        build(log, target, split=split, overwrite=True)
        known = {"sources": sources, "build_seconds": time.perf_counter() - started}
        with atomic_file(record, RunError) as temporary:
            temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    store = GraphStore.open(target)
    return Data(label, store, _fingerprint(store), known["build_seconds"], not validate and "valid" in store.splits)


def selection(store: GraphStore) -> HeldOutStore:
    """Return `store` as the weight of a sum is chosen on it: some of the training items of each user are the validation side.

    They are a tenth, rounded, drawn at random; where that is none of any user, one item of each user who has two. All else of
    the store stays: other behaviours, links, features, tables, times and weights.

    Raises:
        StoreError: no user has two training items.
    """
    rows = store.interactions()
    side = at_random(rows.user, rows.item, np.ones(len(rows), dtype=bool), VALID_SHARE, 0.0, np.random.default_rng(0))
    keys = (rows.user * store.num_items + rows.item)[side == VALID]
    if not len(keys):
        keys = choose_pairs(rows, store.num_items, VALID_SHARE, latest=False, seed=0)
    if not len(keys):
        raise StoreError(
            f"{store.folder}: no user has two training items of the target behaviour {store.target_behavior!r}, so none can be held "
            "out to choose the weight of a sum by; measure the models alone"
        )
    return HeldOutStore(store, keys, as_valid=True)


def _fingerprint(store: GraphStore) -> str:
    """Of the events, and of links and features where the store has any: whatever a model can learn from."""
    names = [*(f"splits/{side}.parquet" for side in ("train", "valid", "test")), "ids/user.parquet", "ids/item.parquet"]
    known = store.manifest.files
    digest = hashlib.sha256("".join(known[name].sha256 for name in names if name in known).encode())
    behaviors = {name for behavior in store.behaviors for name in (behavior, reverse_name(behavior))}
    links = [etype for etype in store.canonical_etypes if etype[1] not in behaviors]
    graph = store.graph() if links else None
    for etype in links:
        digest.update(repr(etype).encode())
        data = graph.edges[etype].data
        for part in (*graph.edges(etype=etype), *(data[name] for name in sorted(data))):
            digest.update(part.numpy().tobytes())
    for ntype in store.node_types:
        for name in store.features(ntype):
            digest.update(f"{ntype}.{name}".encode() + store.feature(ntype, name)[0].tobytes())
    return digest.hexdigest()
