"""Public data sets by card: where they come from, under which licence, how to get them and how to read them.

A card is one TOML file in `graphrec/logs/cards/`; adding a set means adding a card. `get_dataset` downloads the files,
checks them, unpacks them and writes beside them the card (`CARD.md`), a run file `graphrec.toml` and the lock `dataset.json`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from graphrec.atomic import atomic_folder
from graphrec.errors import DatasetError, nearest
from graphrec.logs.download import digest, download
from graphrec.logs.unpack import unpack
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK = "dataset.json"
DEFAULT_HOME = "data"
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
    members: dict[str, Sha256] = {}

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


@dataclass(frozen=True)
class Dataset:
    """A data set on disk.

    Attributes:
        card: its card.
        folder: where it lies.
        files: path in the folder → sha256.
        trusted: names of downloaded files that no checksum vouches for; their sha256 is in the lock from now on.
        fresh: whether this call obtained it; False when it was there already.
    """

    card: DatasetCard
    folder: Path
    files: dict[str, str]
    trusted: list[str]
    fresh: bool

    @property
    def config(self) -> Path:
        """The run file that builds and trains on the set."""
        return self.folder / "graphrec.toml"


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


def get_dataset(
    card: DatasetCard | str,
    folder: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    pause: float = 1.0,
    timeout: float = 30.0,
    progress: Reporter = SILENT,
) -> Dataset:
    """Obtain a data set: download what is missing, check it, unpack it, and put it in place as a whole.

    Downloads wait in `<folder>.download` until all are there; an interrupted one goes on where it stopped. A file that
    was put there by hand is checked and used.

    Args:
        card: a card or its name.
        folder: where the set goes; `data/<name>` when left out.
        overwrite: obtain it again although it is there.
        pause: seconds before a broken connection is tried again.
        timeout: seconds to wait for the next bytes.
        progress: receives the progress.

    Returns:
        The set on disk.

    Raises:
        DatasetError: no network, a refusing server, a wrong checksum or size, an unsafe or damaged archive, a folder that
            holds something else, or a full disk. Where a download by hand helps, the message says from where and to where.
    """
    card = find_card(card) if isinstance(card, str) else card
    target = Path(folder) if folder is not None else Path(DEFAULT_HOME) / card.name
    known = _read_lock(target)
    if known is not None and not overwrite:
        return _present(card, target, known)
    if known is None and target.exists() and any(target.iterdir()):
        raise DatasetError(f"{target} exists and holds no {LOCK}, so it is not overwritten; choose another folder")
    waiting = target.parent / f"{target.name}.download"
    with _exclusive(waiting):
        earlier = known["downloads"] if known is not None else {}
        downloads = {
            file.path: _obtain(card, file, waiting / file.path, earlier.get(file.path), pause, timeout, progress)
            for file in card.files
        }
        with atomic_folder(target, DatasetError, overwrite=overwrite, marker=LOCK) as temporary:
            files = _assemble(card, waiting, temporary, progress)
            _write_papers(card, target, temporary, downloads, files)
    shutil.rmtree(waiting, ignore_errors=True)
    return Dataset(card, target, files, _trusted(downloads), fresh=True)


def _obtain(
    card: DatasetCard,
    file: CardFile,
    place: Path,
    earlier: dict[str, Any] | None,
    pause: float,
    timeout: float,
    progress: Reporter,
) -> dict[str, Any]:
    """Have the file of the card at `place`, checked, and return its entry of the lock."""
    place.parent.mkdir(parents=True, exist_ok=True)
    by_hand = place.exists()
    if not by_hand:
        try:
            download(file.url, place, size=file.size, pause=pause, timeout=timeout, progress=progress)
        except DatasetError as error:
            raise DatasetError(
                f"{card.name}: {error}. To do it by hand, download {file.url}, save it as {place.absolute()} and run "
                f"graphrec datasets get {card.name} again with the same folder"
            ) from error
    sha256 = digest(place)
    kind, expected = file.known_checksum or ("first use", None)
    if expected is None and earlier is not None:
        kind, expected = "lock", earlier["sha256"]
    found = digest(place, kind) if kind in CHECKSUMS else sha256
    if expected is not None and found != expected:
        if not by_hand:
            place.unlink()
        whose = "recorded when it was first downloaded" if kind == "lock" else f"on the card ({kind})"
        mend = "delete it" if by_hand else "it was deleted; the address may serve another version, or something in between"
        raise DatasetError(f"{card.name}: {place} has the checksum {found}, but the one {whose} is {expected}; {mend}")
    return {"url": file.url, "size": place.stat().st_size, "sha256": sha256, "checked_by": kind}


def _assemble(card: DatasetCard, waiting: Path, folder: Path, progress: Reporter) -> dict[str, str]:
    """Put the checked downloads of `waiting` into `folder`, unpacked, and return the sha256 of each file."""
    with progress.task("unpack and check", total=len(card.files), unit="files") as task:
        for file in card.files:
            source = waiting / file.path
            if file.unpack is not None:
                unpack(source, folder, file.unpack, strip=file.strip)
            else:
                place = folder / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
            for name, expected in file.members.items():
                if not (folder / name).is_file() or digest(folder / name) != expected:
                    raise DatasetError(f"{card.name}: {source} does not hold the file {name} that the card describes")
            task.advance()
    places = sorted(place for place in folder.rglob("*") if place.is_file())
    return {place.relative_to(folder).as_posix(): digest(place) for place in places}


def _write_papers(
    card: DatasetCard, target: Path, folder: Path, downloads: dict[str, dict[str, Any]], files: dict[str, str]
) -> None:
    lock = {"name": card.name, "downloads": downloads, "files": files}
    (folder / LOCK).write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")
    (folder / "CARD.md").write_text(describe(card), encoding="utf-8")
    (folder / "graphrec.toml").write_text(_run_file(card, target), encoding="utf-8")


def _present(card: DatasetCard, folder: Path, lock: dict[str, Any]) -> Dataset:
    if lock.get("name") != card.name:
        raise DatasetError(f"{folder} holds the data set {lock.get('name')!r}, not {card.name!r}; choose another folder")
    for name, expected in lock["files"].items():
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise DatasetError(f"{folder / name} is missing or was changed since it was downloaded; get it anew with --overwrite")
    return Dataset(card, folder, lock["files"], _trusted(lock["downloads"]), fresh=False)


def _trusted(downloads: dict[str, dict[str, Any]]) -> list[str]:
    return [path for path, entry in downloads.items() if entry["checked_by"] in ("first use", "lock")]


def _read_lock(folder: Path) -> dict[str, Any] | None:
    path = folder / LOCK
    if not path.is_file():
        return None
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        return {"name": lock["name"], "downloads": dict(lock["downloads"]), "files": dict(lock["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is damaged ({error}); delete the folder {folder} and get the set again") from error


@contextmanager
def _exclusive(waiting: Path) -> Iterator[None]:
    try:
        waiting.mkdir(parents=True, exist_ok=True)
        handle = open(waiting / ".lock", "w")
    except OSError as error:
        raise DatasetError(f"cannot write {waiting}: {error.strerror}; choose a folder you can write") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"another process is downloading into {waiting}; wait for it") from None
        yield


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


def _run_file(card: DatasetCard, folder: Path) -> str:
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
