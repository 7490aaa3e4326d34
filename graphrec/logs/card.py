"""Dataset cards: what is known about a public data set, as one TOML file in `graphrec/logs/cards/`.

A card says who made the set, under which licence, where its files are downloaded from, how they are checked, and how
graphrec reads them. Adding a set means adding a card.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from graphrec.errors import DatasetError, nearest
from graphrec.settings import Settings, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK = "dataset.json"  # beside the data: what was downloaded, and the sha256 of every file
CHECKSUMS = ("sha256", "git_blob", "md5")  # strongest first

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CardFile(Settings):
    """One file of a set.

    Attributes:
        path: its place in the set's folder; an archive is unpacked into the folder instead.
        url: where it is downloaded from.
        size: bytes, when known.
        sha256, git_blob, md5: checksums of the downloaded bytes, as far as they are known. `git_blob` is the SHA-1 by
            which the commit in the address names the file. With none of them the first download is trusted, recorded
            in the lock and held to from then on.
        unpack: "zip", "tar" or "gz".
        strip: leading folders to drop from the names in the archive.
        members: path in the set's folder → sha256 of the unpacked bytes.
    """

    path: str
    url: str = Field(pattern="^https?://")
    size: int | None = Field(None, ge=1)
    sha256: Sha256 | None = None
    git_blob: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    unpack: Literal["zip", "tar", "gz"] | None = None
    strip: int = Field(0, ge=0, le=8)
    members: dict[str, Sha256] = Field(default_factory=dict)

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or path == LOCK:
            raise ValueError("must be a path inside the set's folder")
        return path

    @property
    def known_checksum(self) -> tuple[str, str] | None:
        """The strongest checksum that the card gives, as (kind, digits), or None."""
        return next(((kind, value) for kind in CHECKSUMS if (value := getattr(self, kind)) is not None), None)


class DatasetCard(Settings):
    """What is known about a public data set.

    Attributes:
        name: what it is called here.
        title: one line.
        origin: who made it and whose copy is downloaded.
        homepage: where people read about it.
        licence: terms, as far as they are stated.
        users, items, events: counts.
        columns: what the files hold.
        notes: what one should know before using it.
        files: what is downloaded.
        log: the `[log]` section that reads it, with paths relative to the set's folder.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    title: str
    origin: str
    homepage: str
    licence: str
    users: int | None = None
    items: int | None = None
    events: int | None = None
    columns: str
    notes: str = ""
    files: list[CardFile] = Field(min_length=1)
    log: dict[str, Any]

    def log_section(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the `[log]` section with the paths of the set in `folder`, ready for `LogSettings`."""
        return _located(self.log, Path(folder))


def read_card(path: Path | Any) -> DatasetCard:
    """Read one card.

    Raises:
        ConfigError: the card is wrong; the message names the key and the rule.
    """
    return parse(DatasetCard, tomllib.loads(path.read_text(encoding="utf-8")), f"card {path.name}")


def list_cards() -> list[DatasetCard]:
    """Return all cards by name."""
    folder = resources.files("graphrec.logs").joinpath("cards")
    cards = [read_card(entry) for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return sorted(cards, key=lambda card: card.name)


def find_card(name: str) -> DatasetCard:
    """Return the card called `name`.

    Raises:
        DatasetError: there is none; the message lists the names and the nearest one.
    """
    cards = {card.name: card for card in list_cards()}
    if name not in cards:
        raise DatasetError(f"unknown data set {name!r}; choose one of {', '.join(cards)}{nearest(name, cards)}")
    return cards[name]


def describe(card: DatasetCard) -> str:
    """Return the card as Markdown."""
    counts = ", ".join(
        f"{number:,} {what}"
        for number, what in ((card.users, "users"), (card.items, "items"), (card.events, "events"))
        if number is not None
    )
    rows = [
        f"| `{file.path}` | {file.url} | {' '.join(file.known_checksum) if file.known_checksum else 'trusted on first use'} |"
        for file in card.files
    ]
    notes = f"\n{card.notes.strip()}\n" if card.notes else ""
    return f"""# {card.title}

{counts or "Counts are not known beforehand"}.

- **Origin**: {card.origin} {card.homepage}
- **Licence**: {card.licence}
- **Columns**: {card.columns.strip()}
{notes}
| file | address | checksum |
|---|---|---|
{chr(10).join(rows)}

Get it with `graphrec datasets get {card.name}`, then build with `graphrec build --config data/{card.name}/graphrec.toml`.
"""


def run_file(card: DatasetCard, folder: Path) -> str:
    """Return a `graphrec.toml` that builds and trains on the set in `folder`."""
    lines = [f"# Reads {card.title}. Licence: {card.licence}", "", "[paths]"]
    lines += [f"store = {_toml('stores/' + card.name)}", f"run = {_toml('runs/' + card.name)}", ""]
    lines += _toml_table("log", card.log_section(folder.absolute()))
    return "\n".join(lines) + "\n"


def _toml_table(name: str, values: dict[str, Any]) -> list[str]:
    lines = [f"[{name}]"]
    lines += [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["", *_toml_table(f"{name}.{key}", value)]
    return lines


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # strings, numbers, booleans and flat lists are written alike in TOML


def _located(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    located: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            located[key] = _located(value, folder)
        elif key in ("path", "ids"):
            paths = [str(folder / part) for part in ([value] if isinstance(value, str) else value)]
            located[key] = paths[0] if isinstance(value, str) else paths
        else:
            located[key] = value
    return located
