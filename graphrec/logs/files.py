"""Finding the files of a log and recognising their format by name and first bytes."""

from __future__ import annotations

import glob
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from graphrec.errors import LogError, nearest, seen_from
from graphrec.logs import ENDINGS, FOLDERS

COMPRESSIONS = (".gz", ".zst")


def find_files(sources: Sequence[str | Path]) -> list[Path]:
    """Resolve files, folders and globs to existing paths, in the order given and each glob's matches by name.

    Raises:
        LogError: a path does not exist or a glob matches nothing.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.exists():
            found.append(path)
        elif any(sign in str(source) for sign in "*?["):
            matches = sorted(glob.glob(str(path), recursive=True))
            if not matches:
                raise LogError(f"the glob {str(source)!r} matches no file{seen_from(path)}; check the folder and the pattern")
            found.extend(Path(match) for match in matches if Path(match).is_file())
        else:
            raise LogError(f"no such file or folder: {path}{seen_from(path)}{_nearest_file(path)}")
    return list(dict.fromkeys(found))


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent} either)"
    return nearest(path.name, (other.name for other in path.parent.iterdir()))


def member(folder: Path, *names: str) -> Path | None:
    """Return the first file in `folder` that matches one of `names` (globs allowed), plain or compressed."""
    for name in names:
        for ending in ("", *COMPRESSIONS):
            matches = sorted(folder.glob(name + ending))
            if matches:
                return matches[0]
    return None


def bare_suffix(path: Path) -> str:
    """The extension without that of the compression: `.csv` for `log.csv.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSIONS else path.suffix.lower()


def open_plain(path: Path) -> BinaryIO:
    """Open `path` for reading its unpacked bytes; errors of damaged files surface as those of `READ_ERRORS`."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if suffix == ".zst":
        from pyarrow import input_stream

        return io.BufferedReader(input_stream(str(path), compression="zstd"))  # type: ignore[arg-type]
    return open(path, "rb")


READ_ERRORS = (OSError, EOFError, zlib.error)


def damaged(path: Path, error: BaseException) -> LogError:
    """The error for a file whose bytes cannot be read."""
    what = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower(), "")
    return LogError(
        f"{path}: cannot read it as a {what} file ({error}); it is damaged or cut short, so copy it again".replace(
            "  ", " "
        )
    )


def first_bytes(path: Path, count: int = 65536) -> bytes:
    """The first unpacked bytes of a file.

    Raises:
        LogError: the file is empty, unreadable or damaged.
    """
    try:
        with open_plain(path) as handle:
            head = handle.read(count)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    if not head:
        raise LogError(f"{path} is empty; check how it was written or downloaded")
    return head


def sniff_format(path: Path) -> str:
    """Name the format of a file or folder: a key of `graphrec.logs.FORMATS`.

    Raises:
        LogError: a folder holds none of the known sets of files, or a file is neither text nor Parquet.
    """
    if path.is_dir():
        return _sniff_folder(path)
    head = first_bytes(path)
    if head[:4] == b"PAR1":
        return "parquet"
    known = next((name for name, endings in ENDINGS.items() if bare_suffix(path) in endings), None)
    if known == "delimited" and b":token" in head.split(b"\n", 1)[0]:
        return "atomic"
    if known is not None:
        return known
    if head.lstrip()[:1] == b"{":
        return "jsonl"
    return "adjacency" if _is_adjacency(head) else "delimited"


def _sniff_folder(folder: Path) -> str:
    for name, members in FOLDERS.items():
        if member(folder, *members) is not None:
            return name
    known = "; ".join(f"{' or '.join(members)} ({name})" for name, members in FOLDERS.items())
    raise LogError(f"{folder}: no log in this folder; it should hold {known}; for other files give a glob such as {folder}/*.csv")


def _is_adjacency(head: bytes) -> bool:
    """Whether lines of blank-separated integers, at least one, vary in length or are pairs."""
    lines = [line.split() for line in head.splitlines()[:200] if line.strip()]
    if len(lines) > 1 and not head.endswith(b"\n"):
        lines.pop()  # the last line may be cut
    if not lines or not all(token.isdigit() for line in lines for token in line):
        return False
    widths = {len(line) for line in lines}
    return len(widths) > 1 or widths == {2}
