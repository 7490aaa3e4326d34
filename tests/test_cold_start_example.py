"""examples/benchmarks/cold_start.py: text finds cold items where ids cannot, and the same command goes on where it was."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

TOPICS = ("cat kitten whiskers purring paw", "dog puppy leash barking bone")


def shop(folder: Path) -> list[str]:
    """Forty users who like one of two topics, 120 items, and tags that tell a topic only where many gave them."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(40) for item in range(user % 2, 120, 2) if rng.random() < 0.8]
    (folder / "events.csv").write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows))
    names = [" ".join(rng.choice(TOPICS[item % 2].split(), 3)) for item in range(120)]
    (folder / "items.csv").write_text(
        "item_id,title\n" + "".join(f"{item},{name}\n" for item, name in enumerate(names))
    )
    tags = [(user, item, item % 2) for user, item in rows[::7]] + [(0, item, 9) for item in range(120)]
    (folder / "tags.csv").write_text("user,item,tag\n" + "".join(f"{user},{item},{tag}\n" for user, item, tag in tags))
    (folder / "names.csv").write_text("tag,name\n0,feline\n1,canine\n9,personal\n")
    return ["--log", "events.csv", "--items", "items.csv", "--text", "title,tags", "--tags", "tags.csv:user:item:tag",
            "--tag-names", "names.csv:tag:name"]  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the script with these words in a folder of the test, in this process, for speed; returns what it printed."""
    script = Path(__file__).parent.parent / "examples" / "benchmarks" / "cold_start.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(script.parent)

    def run(*words: str) -> dict:
        monkeypatch.setattr(sys, "argv", [str(script), *words, "--json"])
        runpy.run_path(str(script), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_text_finds_cold_items_and_what_is_finished_is_kept(run, tmp_path):
    words = [*shop(tmp_path), "--encoders", "tfidf", "--epochs", "3", "--batch-size", "64", "--cold-share", "0.4",
             "--cold-users", "0.2", "--work", "work", "--curves", "curves", "--name", "shop"]  # fmt: skip
    first = run(*words)
    cold = {row["model"]: row["cold"] for row in first["cold_items"]}
    # Of 48 cold items some 24 are of a topic, and some 19 of these held out of a user; 20 are listed.
    assert cold["features only"] > 0.75 and cold["id+features"] > 0.75 and cold["random ids"] < 0.6
    assert {row["inputs"] for row in first["epochs"]} == {"random ids", "init only", "features only", "id+features"}
    assert [row["events"] for row in first["cold_users"]] == [1] * 4 + [3] * 4 + [5] * 4
    texts = (tmp_path / "work" / "seed-0" / "store" / "tables" / "item.parquet").read_bytes()
    assert b"feline" in texts and b"personal" not in texts  # a tag that one user gives says who, not what
    assert {path.name for path in (tmp_path / "curves").iterdir()} == {
        "shop-cold.csv",
        "shop-cold-curves.csv",
        "shop-cold.png",
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "seed-0" / "runs").glob("*/config.json")}
    both = run(*words, "--seeds", "2")
    again, other = both["seeds"]
    assert again["cold_items"] == first["cold_items"] and again["epochs"] == first["epochs"]
    for mean, one, two in zip(both["cold_items"], again["cold_items"], other["cold_items"], strict=True):
        assert mean["model"] == one["model"] == two["model"]
        assert mean["cold"] == pytest.approx((one["cold"] + two["cold"]) / 2, abs=1e-4)
        assert mean["cold sd"] == pytest.approx(abs(one["cold"] - two["cold"]) / 2**0.5, abs=1e-4)
    assert [(row["model"], row["events"]) for row in both["cold_users"]] == [
        (row["model"], row["events"]) for row in first["cold_users"]
    ]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "seed-0" / "runs").glob("*/config.json")} == before
