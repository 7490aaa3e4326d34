"""Unpacking archives that come from the network, without trusting them.

An archive may name files outside the target folder, hold links or devices, or blow up to fill the disk. None of that
gets through: such an archive is refused before anything of it can be used.
"""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from graphrec.errors import DatasetError

MAX_UNPACKED = 16 << 30  # bytes; no public log that a card names comes near
MAX_MEMBERS = 10_000
_BLOCK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    OSError,
    RuntimeError,
)


class Budget:
    """Counts unpacked bytes and stops the unpacking when there are too many of them."""

    def __init__(self, archive: Path, limit: int) -> None:
        self._archive, self._limit, self._used = archive, limit, 0

    def spend(self, count: int) -> None:
        """Count `count` more bytes.

        Raises:
            DatasetError: the limit is passed.
        """
        self._used += count
        if self._used > self._limit:
            raise DatasetError(
                f"{self._archive} unpacks to more than the {self._limit:,} bytes allowed; it is not the file that the card "
                "describes, so nothing of it was kept"
            )


def unpack(archive: Path, folder: Path, kind: str, *, strip: int = 0, limit: int = MAX_UNPACKED) -> list[Path]:
    """Unpack `archive` into `folder`.

    Args:
        archive: the packed file.
        folder: an existing folder.
        kind: "zip", "tar" (plain, gz, bz2 or xz) or "gz" (one file, named like the archive without `.gz`).
        strip: leading folders to drop from the members' names.
        limit: how many bytes all members together may have.

    Returns:
        The files written, in the order of the archive.

    Raises:
        DatasetError: the archive is damaged, too large, or holds a link, a device, an encrypted member, a name outside
            the folder, or one name twice.
    """
    budget = Budget(archive, limit)
    members = {"zip": _zip_members, "tar": _tar_members, "gz": _gz_members}[kind]
    written: list[Path] = []
    try:
        with members(archive) as found:
            for name, source in found:
                target = folder / _safe_name(archive, name, strip)
                if target.exists() or len(written) >= MAX_MEMBERS:
                    raise DatasetError(f"{archive} holds {name!r} twice or too many files; it was not unpacked")
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, open(target, "wb") as sink:
                    while block := source.read(_BLOCK):
                        budget.spend(len(block))
                        sink.write(block)
                written.append(target)
    except DatasetError:
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the archive
        raise DatasetError(f"{archive} is damaged ({error}); delete it and download it again") from error
    if not written:
        raise DatasetError(f"{archive} holds no files; delete it and download it again")
    return written


def _safe_name(archive: Path, name: str, strip: int) -> PurePosixPath:
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    parts = path.parts[strip:]
    if outside or not parts:
        raise DatasetError(f"{archive} holds a file {name!r} that would land outside its folder; it was not unpacked")
    return PurePosixPath(*parts)


@contextmanager
def _zip_members(archive: Path) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    with zipfile.ZipFile(archive) as packed:
        yield _walk_zip(archive, packed)


def _walk_zip(archive: Path, packed: zipfile.ZipFile) -> Iterator[tuple[str, BinaryIO]]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DatasetError(f"{archive} holds {info.filename!r}, a link or special file; it was not unpacked")
        if info.flag_bits & 1:
            raise DatasetError(f"{archive} holds {info.filename!r}, which is encrypted; it was not unpacked")
        if not info.is_dir():
            yield info.filename, packed.open(info)  # type: ignore[misc]


@contextmanager
def _tar_members(archive: Path) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    with tarfile.open(archive, "r:*") as packed:
        yield _walk_tar(archive, packed)


def _walk_tar(archive: Path, packed: tarfile.TarFile) -> Iterator[tuple[str, BinaryIO]]:
    for info in packed:
        if not (info.isfile() or info.isdir()):
            raise DatasetError(f"{archive} holds {info.name!r}, a link or special file; it was not unpacked")
        source = packed.extractfile(info)
        if source is not None:
            yield info.name, source  # type: ignore[misc]


@contextmanager
def _gz_members(archive: Path) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    with gzip.open(archive, "rb") as source:
        yield iter([(archive.name.removesuffix(".gz"), source)])  # type: ignore[list-item]
