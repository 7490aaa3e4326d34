"""Getting a public data set by its card: download what is missing, check it, unpack it, put it in place as a whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphrec.atomic import atomic_folder, locked
from graphrec.errors import DatasetError
from graphrec.logs.card import CHECKSUMS, LOCK, CardFile, DatasetCard, describe, find_card, run_file
from graphrec.logs.download import digest, download
from graphrec.logs.unpack import unpack
from graphrec.progress import SILENT, Reporter

DEFAULT_HOME = "data"


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
        mend = (
            "delete it" if by_hand else "it was deleted; the address may serve another version, or something in between"
        )
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
    (folder / "graphrec.toml").write_text(run_file(card, target), encoding="utf-8")


def _present(card: DatasetCard, folder: Path, lock: dict[str, Any]) -> Dataset:
    if lock.get("name") != card.name:
        raise DatasetError(
            f"{folder} holds the data set {lock.get('name')!r}, not {card.name!r}; choose another folder"
        )
    for name, expected in lock["files"].items():
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise DatasetError(
                f"{folder / name} is missing or was changed since it was downloaded; get it anew with --overwrite"
            )
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
    with locked(waiting / ".lock", DatasetError, wait=False) as held:
        if not held:
            raise DatasetError(f"another process is downloading into {waiting}; wait for it")
        yield
