"""`graphrec build` from flags and from a run file."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.graph.store import GraphStore
from tests.graph.small import ring


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    days = [f"{user};{item};{1_600_000_000 + 86_400 * day};{day + 1}" for user, item, day in ring()]
    (tmp_path / "events.csv").write_text("visitor;product;when;stars\n" + "\n".join(days) + "\n;i00;1600000000;1\n")
    pl.DataFrame({"item_id": ["i00", "i01"], "title": ["Zero", "One"]}).write_parquet(tmp_path / "items.parquet")
    return tmp_path


MAPPING = [part for pair in ("user_id=visitor", "item_id=product", "timestamp=when", "weight=stars")
           for part in ("--column", pair)]  # fmt: skip


def graphrec(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_flags_decide_everything(work):
    result = graphrec(
        "build", "events.csv", "--out", "stores/shop", *MAPPING, "--items", "items.parquet", "--split", "random",
        "--test", "0.25", "--valid", "0", "--seed", "3", "--k-core", "1", "--min-weight", "1.5", "--json", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["nodes"]["user"] == 12 and printed["left_out"]["below min_weight"] == 12
    assert printed["settings"]["k_core"] == 1 and printed["log_rejected"] == {"missing user_id": 1}
    split = {"method": "random", "valid": 0.0, "test": 0.25, "hide_pairs": True, "seed": 3}
    assert printed["settings"]["split"] == split
    store = GraphStore.open("stores/shop")
    assert store.titles()[:2] == ["Zero", "One"] and len(store.events("test")) == 12
    assert pl.read_parquet("stores/shop.rejected.parquet").height == 1


def test_the_tables_show_counts_splits_and_what_was_not_used(work):
    result = graphrec("build", "events.csv", "--out", "stores/shop", *MAPPING)
    assert result.exit_code == 0, result.output
    for text in (
        "user nodes",
        "user ──interaction──> item",
        "leave_last_out",
        "missing user_id",
        "graph info stores/shop",
    ):
        assert text in result.stdout


def test_flags_win_over_the_run_file(work):
    Path("graphrec.toml").write_text(
        '[paths]\nstore = "stores/file"\n[log]\npath = "events.csv"\n'
        '[log.columns]\nuser_id = "visitor"\nitem_id = "product"\n[build]\nk_core = 2\n[build.split]\nmethod = "random"\n'
    )
    result = graphrec("build", "--column", "timestamp=when", "--split", "time", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    settings = json.loads(result.stdout)["settings"]
    assert settings["split"]["method"] == "time" and settings["k_core"] == 2
    assert GraphStore.open("stores/file").has_timestamps
    result = graphrec("build", "--quiet")
    assert result.exit_code == 1 and "stores/file already exists" in result.stderr
    assert graphrec("build", "--overwrite", "--quiet").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["events.csv", "--column", "visitor"], 2, "NAME=SOURCE"),
        (["events.csv", "--column", "usr_id=visitor"], 1, "did you mean 'user_id'"),
        (["events.csv", *MAPPING, "--split", "later"], 1, "split.method"),
        (["events.csv", *MAPPING, "--k-core", "40"], 1, "largest k_core that leaves a graph is 3"),
        (["nowhere.csv"], 1, "nowhere.csv"),
        ([], 1, "path: required"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(work, arguments, code, message):
    result = graphrec("build", *arguments, "--out", "stores/shop", "--quiet")
    assert result.exit_code == code and message in result.stderr.replace("\n", " "), result.stderr
    assert not Path("stores/shop").exists()
