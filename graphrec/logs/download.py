"""Downloading one file: with progress, resuming what an earlier try left, never mixing two versions of it."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from graphrec.errors import DatasetError
from graphrec.progress import SILENT, Reporter, Task

TIMEOUT = 30.0  # seconds without a byte
TRIES = 4
MAX_BYTES = 8 << 30  # for files whose size the card does not know
_BLOCK = 1 << 18
_BROKEN = (http.client.HTTPException, ConnectionError, socket.timeout, TimeoutError)


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    timeout: float = TIMEOUT,
    pause: float = 1.0,
    progress: Reporter = SILENT,
) -> None:
    """Download `url` to `target`.

    The bytes go to `<target>.part` first. A part that an earlier try left is continued with a range request, but only
    when the server confirms that the file has not changed since; otherwise the download starts anew. A broken
    connection is tried again `TRIES` times.

    Args:
        url: an http or https address.
        target: the file to write; its folder exists.
        size: the size in bytes that is expected, when known.
        timeout: seconds to wait for the next bytes.
        pause: seconds to wait before the second try; doubled before each further one.
        progress: receives the progress.

    Raises:
        DatasetError: there is no network, the server refuses, the size is wrong, the connection keeps breaking, or the
            disk is full. What has arrived is kept for the next call.
    """
    if not url.startswith(("https://", "http://")):
        raise DatasetError(f"{url}: only http and https addresses are downloaded")
    part = target.with_name(target.name + ".part")
    with progress.task(target.name, total=size, unit="bytes") as task:
        counted = 0
        for attempt in range(TRIES):
            before = part.stat().st_size if part.exists() else 0
            task.advance(before - counted)
            try:
                counted = _receive(url, part, size, timeout, task)
                break
            except (urllib.error.URLError, *_BROKEN) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise DatasetError(f"{url}: the server answers {error.code} {error.reason}") from error
                counted = part.stat().st_size if part.exists() else 0
                reason = getattr(error, "reason", None) or error
                if attempt + 1 == TRIES or (counted == before and _unreachable(error)):
                    raise DatasetError(_broken_message(url, reason, counted, size)) from error
                time.sleep(pause * 2**attempt)
            except OSError as error:
                what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
                raise DatasetError(
                    f"{part} cannot be written ({what}); mend that and run the same command again"
                ) from error
    os.replace(part, target)
    _state_file(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, size: int | None, timeout: float, task: Task) -> int:
    """Fetch what is missing of `part` and return its final size."""
    have, validator = _resumable(url, part)
    request = urllib.request.Request(url, headers={"User-Agent": "graphrec", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range lies behind the end: the part is complete, or not of this file
            raise
        error.close()
        _forget(part, task)
        return _receive(url, part, size, timeout, task)
    with response:
        if have and (response.status != 206 or not _continues(response, have)):
            _forget(part, task)
            have = 0
        length = response.headers.get("Content-Length")
        expected = have + int(length) if length and length.isdigit() else None
        _check_size(url, size, expected)
        _remember(url, part, response)
        limit = size if size is not None else MAX_BYTES
        with open(part, "ab") as sink:
            while block := response.read1(_BLOCK):  # what has arrived, so that a timeout loses nothing
                have += len(block)
                if have > limit:
                    break
                sink.write(block)
                task.advance(len(block))
    if have > limit:
        part.unlink()
        raise DatasetError(f"{url}: the server sends more than the {limit:,} bytes expected; nothing was kept")
    if expected is not None and have < expected:
        raise http.client.IncompleteRead(b"", expected - have)
    _check_size(url, size, have)
    return have


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of a file as hexadecimal digits.

    Args:
        path: the file.
        algorithm: "sha256", "md5", or "git_blob": the SHA-1 by which Git names a file of these bytes in its commits.
    """
    if algorithm == "git_blob":
        hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        hasher = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as source:
        while block := source.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _resumable(url: str, part: Path) -> tuple[int, str]:
    # A part is continued only with what the server said to recognise that version of the file by.
    try:
        state = json.loads(_state_file(part).read_text(encoding="utf-8"))
        if state["url"] == url and state["validator"] and part.stat().st_size:
            return part.stat().st_size, state["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    part.unlink(missing_ok=True)
    return 0, ""


def _remember(url: str, part: Path, response: Any) -> None:
    tag = response.headers.get("ETag") or ""
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""
    _state_file(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _continues(response: Any, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _forget(part: Path, task: Task) -> None:
    if part.exists():
        task.advance(-part.stat().st_size)
        part.unlink()
    _state_file(part).unlink(missing_ok=True)


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _check_size(url: str, size: int | None, found: int | None) -> None:
    if size is not None and found is not None and found != size:
        raise DatasetError(f"{url}: the file has {found:,} bytes, the card says {size:,}; it is not the file described")


def _unreachable(error: BaseException) -> bool:
    reason = getattr(error, "reason", error)
    return isinstance(reason, socket.gaierror | ConnectionRefusedError)


def _broken_message(url: str, reason: object, have: int, size: int | None) -> str:
    if have:
        of = f" of {size:,}" if size else ""
        return f"{url}: the connection broke after {have:,}{of} bytes ({reason}); run the same command again to go on from there"
    return f"{url} cannot be reached: there is no network, or the server is down ({reason})"
