"""`graphrec recommend` for a nightly job: many users, some unknown, some without a choice."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Users u0 to u7 buy; u8 only looks, at i5."""
    path = tmp_path_factory.mktemp("shop")
    pairs = [(f"u{user}", f"i{item}", "buy") for user in range(8) for item in range(user % 2, 8, 2)]
    pairs += [("u8", "i5", "view"), *[(f"u{user}", "i8", "buy") for user in range(6)]]
    pl.DataFrame(pairs, schema=["user_id", "item_id", "behavior"], orient="row").write_csv(path / "events.csv")
    assert run("build", path / "events.csv", "--out", path / "store", "--target", "buy", "--valid", 0, "--test", 0).exit_code == 0
    assert run("train", path / "store", "--model", "item-knn", "--out", path / "run").exit_code == 0
    (path / "users.txt").write_text("u8\nu1\nghost\n")
    return path


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_unknown_users_are_skipped_when_that_is_asked_for(shop):
    refused = run("recommend", shop / "run", "u1", "ghost")
    assert refused.exit_code == 1 and "'ghost'" in refused.stderr
    done = run("recommend", shop / "run", "u1", "ghost", "g2", "--skip-unknown", "--k", 2, "--json")
    answer = json.loads(done.stdout)
    assert [user["user_id"] for user in answer["users"]] == ["u1"] and answer["skipped"] == ["ghost", "g2"]
    assert "2 of 3 users are unknown and were skipped: ghost, g2" in done.stderr
    assert run("recommend", shop / "run", "ghost", "--skip-unknown").exit_code == 1


def test_users_of_a_file_are_listed_or_written(shop, tmp_path):
    options = ("--users", shop / "users.txt", "--skip-unknown", "--k", 2)
    shown = json.loads(run("recommend", shop / "run", *options, "--json").stdout)
    assert [user["user_id"] for user in shown["users"]] == ["u8", "u1"]
    done = run("recommend", shop / "run", *options, "--out", tmp_path / "lists.parquet")
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(tmp_path / "lists.parquet")["user_id"].to_list() == ["u8", "u8", "u1", "u1"]


def test_users_without_a_choice_are_counted_and_get_what_is_popular_when_it_is_asked_for(shop, tmp_path):
    done = run("recommend", shop / "run", "--all", "--out", tmp_path / "all.parquet", "--k", 2)
    assert "1 of 9 users have no training event of the target behaviour" in done.stderr and "--fallback popular" in done.stderr
    assert "by" not in pl.read_parquet(tmp_path / "all.parquet").columns
    done = run("recommend", shop / "run", "--all", "--out", tmp_path / "popular.parquet", "--k", 2, "--fallback", "popular")
    assert "1 of 9 users have no training event of the target behaviour, nor anything else that item-knn reads, and get" in done.stderr
    frame = pl.read_parquet(tmp_path / "popular.parquet")
    assert frame.filter(user_id="u8", rank=1)["item_id"].to_list() == ["i8"]
    assert frame.group_by("user_id").agg(pl.col("by").first()).filter(by="popular")["user_id"].to_list() == ["u8"]
    assert "no training event" not in run("recommend", shop / "run", "u1").stderr
    assert "1 of 1 users have" in run("recommend", shop / "run", "u8").stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--all",),
        ("u1", "--out", "x.parquet"),
        ("u1", "--users", "users.txt"),
        ("--users", "users.txt", "--friends", "--out", "x.parquet"),
        ("u1", "--friends", "--fallback", "popular"),
        ("--all", "--out", "x.parquet", "--skip-unknown"),
        ("--history", "i1", "--skip-unknown"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(shop, words):
    assert run("recommend", shop / "run", *words).exit_code == 2


def test_a_store_that_was_built_anew_is_named_and_its_held_out_events_are_not_taken_for_the_runs(tmp_path):
    rows = [(f"u{user}", f"i{item}") for user in range(8) for item in range(user % 2, 20, 2)]
    pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(tmp_path / "log.csv")
    build = ("build", tmp_path / "log.csv", "--out", tmp_path / "store", "--overwrite")
    assert run(*build, "--valid", 0, "--test", 0).exit_code == 0
    assert run("train", tmp_path / "store", "--model", "item-knn", "--out", tmp_path / "run").exit_code == 0
    assert run("recommend", tmp_path / "run", "u1", "--k", 2).stderr == ""
    assert run(*build).exit_code == 0
    told = run("recommend", tmp_path / "run", "u1", "--k", 2).stderr
    assert "held out" not in told and "before that was built anew" in told.replace("\n", " ")
