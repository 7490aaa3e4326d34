"""The music example on a small set of the same files: every edge type, pictures, an ablation; clear errors without a file."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from graphrec.benchmarking import cell, grid
from graphrec.errors import LogError
from graphrec.graph.store import GraphStore

SCRIPT = Path(__file__).parent.parent / "examples" / "music.py"


@pytest.fixture(scope="module")
def music():
    spec = importlib.util.spec_from_file_location("music_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path) -> Path:
    """Thirty listeners of twenty artists in two camps, who tag and befriend within their camp; one file packed, one Latin-1."""
    folder = tmp_path / "data"
    folder.mkdir()
    plays = [(u, a, 10 * u + a) for u in range(1, 31) for a in range(1, 21) if (u + a) % 2 == 0]
    lines = ["userID\tartistID\tweight", *("\t".join(map(str, row)) for row in plays)]
    (folder / "user_artists.dat.gz").write_bytes(gzip.compress("\r\n".join(lines).encode()))
    names = [f"{a}\tArtist “{a}”\thttp://x/{a}\thttp://y/{a}" for a in range(1, 21)]
    (folder / "artists.dat").write_text("\n".join(names), encoding="utf-8")
    (folder / "tags.dat").write_text("tagID\ttagValue\n1\teven\n2\todd\n3\tcaf\xe9\n", encoding="latin-1")
    tagging = [(u, a, 1 + a % 2, 1 + u % 28, 1 + a % 12, 2009) for u, a, _ in plays if u % 3]
    tagging += [(1, 1, 3, 1, 1, 2010), (2, 2, 99, 1, 1, 2010)]
    lines = ["userID\tartistID\ttagID\tday\tmonth\tyear", *("\t".join(map(str, row)) for row in tagging)]
    (folder / "user_taggedartists.dat").write_text("\n".join(lines))
    friends = [(u, v) for u in range(1, 31) for v in (u + 2, u - 2) if 1 <= v <= 30]
    (folder / "user_friends.dat").write_text("userID\tfriendID\n" + "\n".join(f"{u}\t{v}" for u, v in friends))
    return folder


def test_the_whole_example(music, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grid, "_run", cell.main)  # in this process, for speed
    monkeypatch.chdir(tmp_path)
    music.main(data, Path("out"), epochs=1, seeds=1)
    store = GraphStore.open("out/store")
    edges = {(edge.source, edge.relation, edge.target) for edge in store.manifest.edges if edge.edges}
    assert edges >= {("user", "play", "item"), ("user", "tag", "item"), ("user", "follows", "user"),
                     ("item", "shares_tags", "item"), ("item", "tagged", "entity")}  # fmt: skip
    assert store.titles()[0] == "Artist “1”" and store.features("item") == ["words"]
    assert list(store.ids("entity").series) == ["tag:even", "tag:odd"]  # one user alone said café
    printed = capsys.readouterr().out
    assert "1 tag assignments without the word of their tag; 1 of 21 pairs" in printed
    for part in ("play", "tag", "follows", "shares_tags", "tagged", "item.words"):
        assert f"│ {part} " in printed.split("What leaving it out loses")[1]
    assert {path.suffix for path in Path("out/pictures").iterdir()} == {".png"} and len(list(Path("out/pictures").iterdir())) == 4
    assert "music without follows" in Path("out/ablation/table.md").read_text()


def test_missing_files_are_named_all_at_once(data, tmp_path):
    (data / "tags.dat").unlink()
    (data / "user_artists.dat.gz").unlink()
    command = [sys.executable, SCRIPT, "--data", str(data), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "out").exists()
    assert "lacks user_artists.dat (who listens to what), tags.dat (words of the tags), plain or .gz" in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("user_friends.dat", "userID\tfriendID\n1\t2\t3\n", "columns userID, friendID, got 3 fields in row 1"),
        ("user_friends.dat", "", "got no rows"),
        ("user_friends.dat", "userID\tfriendID\n1\ttwo\n", "a column of numbers holds something else"),
    ],
)
def test_damaged_files_are_named(music, data, file, content, message):
    (data / file).write_text(content)
    with pytest.raises(LogError, match=message):
        music.read_files(data)
