"""Public data sets by card: downloads against a server on this machine, whatever goes wrong with them."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphrec.errors import DatasetError
from graphrec.logs import download
from graphrec.logs.card import DatasetCard, tomllib
from graphrec.logs.datasets import get_dataset
from graphrec.logs.download import digest
from graphrec.logs.source import LogSettings
from graphrec.logs.unpack import unpack
from graphrec.settings import parse

LOG = b"user_id,item_id\n" + b"".join(b"%d,%d\n" % (n % 500, n % 37) for n in range(60_000))
SHA = hashlib.sha256(LOG).hexdigest()


class Server:
    """Serves `content` by path and misbehaves on request."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.etags = True
        self.break_after: list[int] = []  # bytes after which the next answers break off
        self.stall = 0.0  # seconds of silence in the middle of an answer
        self.status: list[int] = []  # codes of the next answers
        self.requests: list[str | None] = []  # the Range headers seen
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append(wanted)
        body = self.content.get(request.path)
        if self.status or body is None:
            request.send_error(self.status.pop(0) if self.status else 404)
            return
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        first = 0
        if wanted and request.headers.get("If-Range") == tag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(body):
            request.send_error(416)
            return
        request.send_response(206 if first else 200)
        request.send_header("Content-Length", str(len(body) - first))
        if first:
            request.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if self.etags:
            request.send_header("ETag", tag)
        request.end_headers()
        rest = body[first:]
        if self.break_after:
            rest = rest[: self.break_after.pop(0)]
        half = len(rest) // 2
        request.wfile.write(rest[:half])
        if self.stall:
            request.wfile.flush()
            time.sleep(self.stall)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has given up
            request.wfile.write(rest[half:])


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.content["/log.csv"] = LOG
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()


def card(server: Server | str, *files: dict, **fields) -> DatasetCard:
    url = server if isinstance(server, str) else server.url
    files = files or ({"path": "log.csv", "sha256": SHA},)
    values = {
        "name": "toy",
        "title": "A toy log",
        "origin": "Here.",
        "homepage": "http://localhost/",
        "licence": "CC0",
        "columns": "log.csv: user_id, item_id.",
        "files": [{"url": f"{url}/{file['path']}", **file} for file in files],
        "log": {"path": "log.csv"},
        **fields,
    }
    return parse(DatasetCard, values, "card toy")


def get(card: DatasetCard, folder: Path, **options):
    return get_dataset(card, folder, pause=0.01, **options)


def test_a_good_file_lands_with_card_lock_and_run_file(server, tmp_path):
    found = get(card(server), tmp_path / "toy")
    assert found.fresh and found.trusted == [] and found.files == {"log.csv": SHA}
    assert sorted(os.listdir(tmp_path)) == ["toy"]
    assert sorted(os.listdir(tmp_path / "toy")) == ["CARD.md", "dataset.json", "graphrec.toml", "log.csv"]
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG
    lock = json.loads((tmp_path / "toy" / "dataset.json").read_text())
    assert lock["downloads"]["log.csv"]["checked_by"] == "sha256"
    config = tomllib.loads(found.config.read_text())
    assert parse(LogSettings, config["log"], "toy").path == str(tmp_path / "toy" / "log.csv")


def test_a_second_get_downloads_nothing_and_notices_changes(server, tmp_path):
    get(card(server), tmp_path / "toy")
    again = get(card(server), tmp_path / "toy")
    assert not again.fresh and again.files == {"log.csv": SHA} and len(server.requests) == 1
    (tmp_path / "toy" / "log.csv").write_bytes(LOG[:-1])
    with pytest.raises(DatasetError, match="log.csv is missing or was changed"):
        get(card(server), tmp_path / "toy")
    get(card(server), tmp_path / "toy", overwrite=True)
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


@pytest.mark.parametrize("kind", ["sha256", "git_blob", "md5"])
def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, tmp_path, kind):
    good = digest_of(LOG, kind)
    server.content["/log.csv"] = LOG[:-2] + b"X\n"
    with pytest.raises(DatasetError, match=f"on the card \\({kind}\\) is {good}"):
        get(card(server, {"path": "log.csv", kind: good}), tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
    assert not (tmp_path / "toy.download" / "log.csv").exists()
    server.content["/log.csv"] = LOG
    get(card(server, {"path": "log.csv", kind: good}), tmp_path / "toy")


def digest_of(content: bytes, kind: str) -> str:
    if kind == "git_blob":
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return hashlib.new(kind, content).hexdigest()


def test_git_blob_is_the_name_git_gives(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello world\n")
    assert digest(tmp_path / "hello", "git_blob") == "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"


def test_a_file_without_checksum_is_trusted_once_and_then_held_to(server, tmp_path):
    unknown = card(server, {"path": "log.csv"})
    assert get(unknown, tmp_path / "toy").trusted == ["log.csv"]
    server.content["/log.csv"] = LOG + b"1,1\n"
    with pytest.raises(DatasetError, match="recorded when it was first downloaded"):
        get(unknown, tmp_path / "toy", overwrite=True)
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


def test_a_missing_page_names_address_and_place_and_a_file_put_there_by_hand_is_used(server, tmp_path):
    del server.content["/log.csv"]
    place = tmp_path / "toy.download" / "log.csv"
    with pytest.raises(DatasetError) as failure:
        get(card(server), tmp_path / "toy")
    assert (
        "404" in str(failure.value)
        and f"{server.url}/log.csv" in str(failure.value)
        and str(place) in str(failure.value)
    )
    assert len(server.requests) == 1
    place.write_bytes(LOG[:-1])
    with pytest.raises(DatasetError, match="delete it"):
        get(card(server), tmp_path / "toy")
    place.write_bytes(LOG)
    assert get(card(server), tmp_path / "toy").files == {"log.csv": SHA}
    assert len(server.requests) == 1


def test_no_network_says_so_at_once(tmp_path):
    closed = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    port = closed.server_port
    closed.server_close()
    start = time.monotonic()
    with pytest.raises(DatasetError, match="cannot be reached: there is no network.*To do it by hand, download"):
        get_dataset(card(f"http://127.0.0.1:{port}"), tmp_path / "toy", pause=5)
    assert time.monotonic() - start < 4


def test_a_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = [100_000, 50_000]
    get(card(server), tmp_path / "toy")
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


def test_a_connection_that_keeps_breaking_is_resumed_by_the_next_get(server, tmp_path):
    server.break_after = [1000] * 4
    with pytest.raises(DatasetError, match="the connection broke after 4,000 .*run the same command again"):
        get(card(server), tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
    get(card(server), tmp_path / "toy")
    assert server.requests[-1] == "bytes=4000-"
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


def test_a_part_of_another_version_is_never_continued(server, tmp_path):
    server.break_after = [1000] * 4
    unknown = card(server, {"path": "log.csv"})
    with pytest.raises(DatasetError):
        get(unknown, tmp_path / "toy")
    server.content["/log.csv"] = newer = LOG.replace(b",", b";")
    get(unknown, tmp_path / "toy")
    assert (tmp_path / "toy" / "log.csv").read_bytes() == newer


def test_without_a_version_from_the_server_a_part_starts_anew(server, tmp_path):
    server.etags = False
    server.break_after = [1000]
    get(card(server), tmp_path / "toy")
    assert server.requests == [None, None]
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


def test_a_part_that_is_already_whole(server, tmp_path):
    waiting = tmp_path / "toy.download"
    waiting.mkdir()
    (waiting / "log.csv.part").write_bytes(LOG)
    tag = f'"{hashlib.md5(LOG).hexdigest()}"'
    (waiting / "log.csv.part.json").write_text(json.dumps({"url": f"{server.url}/log.csv", "validator": tag}))
    get(card(server), tmp_path / "toy")
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


def test_a_silent_server_is_given_up_and_resumed(server, tmp_path):
    server.stall = 1.0
    start = time.monotonic()
    with pytest.raises(DatasetError, match="connection broke after .*timed out"):
        get(card(server), tmp_path / "toy", timeout=0.1)
    assert time.monotonic() - start < 4
    server.stall = 0
    get(card(server), tmp_path / "toy")
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG


def test_a_passing_server_error_is_tried_again_a_lasting_one_reported(server, tmp_path):
    server.status = [503]
    get(card(server), tmp_path / "toy")
    server.status = [503] * 4
    with pytest.raises(DatasetError, match="Service Unavailable"):
        get(card(server), tmp_path / "other")


@pytest.mark.parametrize("size", [len(LOG) - 1, len(LOG) + 1])
def test_a_wrong_size_is_refused(server, tmp_path, size):
    with pytest.raises(DatasetError, match=f"the card says {size:,}"):
        get(card(server, {"path": "log.csv", "size": size}), tmp_path / "toy")


def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", full, raising=False)
    with pytest.raises(DatasetError, match="log.csv.part cannot be written .the disk is full"):
        get(card(server), tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("toy/link")
    info.type, info.linkname = kind, target
    return info


def zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("toy/link")
    info.external_attr = 0o120777 << 16
    return info


ARCHIVES = {
    "zip": zipped(("toy/log.csv", LOG), ("toy/more/README", b"hello")),
    "tar": tarred((tarfile.TarInfo("toy/log.csv"), LOG), (tarfile.TarInfo("toy/more/README"), b"hello")),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_is_unpacked_and_its_members_checked(server, tmp_path, kind):
    server.content["/toy.packed"] = ARCHIVES[kind]
    packed = {"path": "toy.packed", "unpack": kind, "strip": 1, "members": {"log.csv": SHA}}
    found = get(card(server, packed), tmp_path / "toy")
    assert sorted(found.files) == ["log.csv", "more/README"]
    assert (tmp_path / "toy" / "log.csv").read_bytes() == LOG
    with pytest.raises(DatasetError, match="does not hold the file log.csv"):
        get(card(server, {**packed, "members": {"log.csv": "0" * 64}}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_gzip_file_loses_its_ending(server, tmp_path):
    server.content["/log.csv.gz"] = gzip.compress(LOG)
    found = get(card(server, {"path": "log.csv.gz", "unpack": "gz", "members": {"log.csv": SHA}}), tmp_path / "toy")
    assert found.files == {"log.csv": SHA}


EVIL = {
    "parent folder": ("zip", zipped(("toy/../../evil", b"x")), "outside"),
    "absolute path": ("zip", zipped(("/tmp/evil", b"x")), "outside"),
    "drive letter": ("zip", zipped(("C:/evil", b"x")), "outside"),
    "backslashes": ("tar", tarred((tarfile.TarInfo("..\\evil"), b"x")), "outside"),
    "parent folder in tar": ("tar", tarred((tarfile.TarInfo("../evil"), b"x")), "outside"),
    "zip link": ("zip", zipped((zip_link(), b"/etc/passwd")), "link"),
    "symbolic link": ("tar", tarred((tar_link(tarfile.SYMTYPE, "/etc"), b"")), "link"),
    "hard link": ("tar", tarred((tar_link(tarfile.LNKTYPE, "/etc/passwd"), b"")), "link"),
    "pipe": ("tar", tarred((tar_link(tarfile.FIFOTYPE, ""), b"")), "special file"),
    "same name twice": ("zip", zipped(("a", b"1"), ("./a", b"2")), "twice"),
    "cut zip": ("zip", ARCHIVES["zip"][:-30], "damaged"),
    "cut tar": ("tar", ARCHIVES["tar"][:-3000], "damaged"),
    "cut gzip": ("gz", gzip.compress(LOG)[:-1000], "damaged"),
    "no archive": ("zip", LOG, "damaged"),
    "no archive for tar": ("tar", LOG, "damaged"),
    "nothing inside": ("zip", zipped(), "no files"),
}


@pytest.mark.parametrize("name", EVIL)
def test_an_unsafe_or_damaged_archive_is_refused(server, tmp_path, name):
    kind, content, message = EVIL[name]
    server.content["/toy.packed"] = content
    with pytest.raises(DatasetError, match=message):
        get(card(server, {"path": "toy.packed", "unpack": kind}), tmp_path / "deep" / "toy")
    assert not list(tmp_path.rglob("*evil*")) and not (tmp_path / "deep" / "toy").exists()


def test_a_bomb_is_stopped(tmp_path):
    (tmp_path / "bomb.zip").write_bytes(zipped(("zeros", bytes(1 << 24))))
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="more than the 1,048,576 bytes allowed"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out", "zip", limit=1 << 20)


def test_somebody_elses_folder_is_kept(server, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match="holds no dataset.json"):
            get(card(server), tmp_path / "toy", overwrite=overwrite)
    assert server.requests == [] and os.listdir(tmp_path / "toy") == ["mine.txt"]


def test_another_set_in_the_folder_and_a_damaged_lock_are_named(server, tmp_path):
    get(card(server), tmp_path / "toy")
    with pytest.raises(DatasetError, match="holds the data set 'toy', not 'other'"):
        get(card(server, name="other"), tmp_path / "toy")
    (tmp_path / "toy" / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="dataset.json is damaged"):
        get(card(server), tmp_path / "toy")
