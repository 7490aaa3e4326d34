"""What a store says about itself: schema version, settings, counts, and a checksum of every file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from graphrec.checksum import sha256_of
from graphrec.errors import StoreError, seen_from, shell_word

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
MARKER = (FILE_NAME, "splits")  # what no folder has but a store's: exports have a manifest, too


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


class EdgeCount(BaseModel):
    """Edges of one type, (source, relation, target)."""

    source: str
    relation: str
    target: str
    edges: int


class SplitCounts(BaseModel):
    """Events of one side, over all behaviours.

    `unknown_user` and `unknown_item` count events whose user or item the training side does not have (an event may count
    in both); `known` counts those with both known, `known_target` those of them that are of the target behaviour.
    `seen_pairs` counts known target events whose pair also occurs in training, which the usual evaluation cannot rank
    because it masks training items.
    """

    events: int
    target_events: int
    known: int
    known_target: int = 0
    unknown_user: int = 0
    unknown_item: int = 0
    seen_pairs: int = 0

    def describe(self, side: str, behavior: str) -> str:
        """What the side has of the target behaviour, and what to do where none of it can be used, for messages."""
        mend = f"put events of {behavior!r} there, or choose another split method or [build] target_behavior"
        if side == "valid":
            mend = f"hold some of {behavior!r} out with [build.split] valid, or choose another [build] target_behavior"
        if self.target_events:
            mend = "hold out less, lower k_core, or choose another split method, so that training knows their users and items"
        return (
            f"of {self.events:,} {side} events {self.target_events:,} are of the target behaviour {behavior!r}, and of these "
            f"{self.known_target:,} name a user and an item that training has; {mend}, and build the store again"
        )


class Manifest(BaseModel):
    """The contents of `manifest.json`.

    Attributes:
        settings: the build settings, with the split method and k-core bounds that were really used.
        log_settings: how the log was read, or None for a log made in memory.
        nodes: node type to number of nodes.
        left_out: events that are in no split, per reason (below `min_weight`, outside the k-core).
        log_rejected, side_rejected: rows that reading, and that joining side tables to the graph, did not use.
        users_kept_whole: training users from whom the split held nothing out.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    graphrec_version: str
    created: str
    source: str
    settings: dict[str, Any]
    log_settings: dict[str, Any] | None
    behaviors: list[str]
    target_behavior: str
    nodes: dict[str, int]
    edges: list[EdgeCount]
    splits: dict[str, SplitCounts]
    left_out: dict[str, int]
    log_rejected: dict[str, int]
    side_rejected: dict[str, int]
    users_kept_whole: int
    files: dict[str, FileRecord]

    def write(self, folder: Path) -> None:
        """Write `manifest.json` with a digest of its own contents, so that an edit shows."""
        values = self.model_dump(mode="json")
        (folder / FILE_NAME).write_text(json.dumps({"digest": _digest(values), **values}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check `manifest.json`.

        Raises:
            StoreError: the folder is no store, or its manifest is damaged, edited or of a newer schema.
        """
        path = folder / FILE_NAME
        if not folder.is_dir():
            raise StoreError(f"there is no graph store at {folder}{seen_from(folder)}; make one with: graphrec build LOG --out {shell_word(folder)}")
        try:
            values = json.loads(path.read_text())
            digest, version = values.pop("digest"), int(values["schema_version"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            if missing := [name for name in MARKER if not (folder / name).exists()]:
                rule = f"{folder} holds no {missing[0]}, so it is not a graph store; graphrec build LOG --out FOLDER writes one"
                raise StoreError(rule) from None
            raise StoreError(f"{path} is damaged ({problem!r}); build the store again") from problem
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {version} and this graphrec reads up to {SCHEMA_VERSION}; "
                "upgrade graphrec or build the store again"
            )
        if digest != _digest(values):
            raise StoreError(f"{path} was edited or damaged after the build; build the store again")
        try:
            return cls.model_validate(values)
        except ValidationError as problem:
            raise StoreError(f"{path} lacks what a store needs ({problem}); build the store again") from problem

    def verify(self, folder: Path) -> None:
        """Compare every recorded file with its size and checksum.

        Raises:
            StoreError: a file is missing, truncated or changed; the message names it.
        """
        for name, record in self.files.items():
            path = folder / name
            if not path.is_file():
                raise StoreError(f"{path} is missing from the store; build the store again")
            if (size := path.stat().st_size) != record.bytes:
                state = "truncated" if size < record.bytes else "changed"
                raise StoreError(f"{path} was {state}: {size:,} of {record.bytes:,} bytes; build the store again")
            if sha256_of(path) != record.sha256:
                raise StoreError(f"{path} was changed after the build (its SHA-256 differs); build the store again")


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Describe every file below `folder`, by path relative to it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in files
    }


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
