"""`graphrec recommend` for users and of items that training never saw, from one run file that also makes the features."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app

RUN_FILE = """
[paths]
store = "{0}/store"
run = "{0}/run"
[log]
path = "{0}/events.csv"
items = "{0}/items.csv"
[build]
split = "random"
[features]
cache = "{0}/cache"
[features.item.text]
encoder = {{name = "tfidf", min_texts = 1, dim = 8}}
[model]
embedding_dim = 8
num_layers = 1
inputs = {{name = "features", item = ["text"]}}
[train]
epochs = 30
batch_size = 64
metric = "ndcg@5"
learning_rate = 0.02
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Even users take apples, odd ones pears; the store and the run are made by the verbs."""
    path = tmp_path_factory.mktemp("shop")
    pairs = [(f"u{user}", f"i{item}") for user in range(12) for item in range(user % 2, 16, 2)]
    pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row").write_csv(path / "events.csv")
    titles = [("red apple", "green pear")[item % 2] + " fruit"[: 6 * (item % 3 > 0)] for item in range(16)]
    ids = [f"i{item}" for item in range(16)]
    pl.DataFrame({"item_id": [*ids, "cold"], "title": [*titles, "an apple"]}).write_csv(path / "items.csv")
    (path / "graphrec.toml").write_text(RUN_FILE.format(path))
    built = invoke("build", "--config", path / "graphrec.toml")
    assert [row["feature"] for row in built["features"]] == ["item.text", "item-new.text"]
    invoke("train", "--config", path / "graphrec.toml")
    pl.DataFrame({"sku": ["n1", "n2"], "title": ["a green pear", None]}).write_csv(path / "new.csv")
    return path


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def invoke(*words: object) -> dict:
    done = run(*words, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(("words", "by"), [
    (("--history", "i0,i2"), "history"),
    (("--like", "u0, u2"), "friends"),
    (("--text", "red apple"), "text"),
])  # fmt: skip
def test_a_new_user_gets_apples(folder, words, by):
    answer = invoke("recommend", folder / "run", *words, "--k", 4)
    assert answer["by"] == by
    assert all(int(item["item_id"][1:]) % 2 == 0 for item in answer["items"])


def test_nothing_known_needs_the_fallback_by_name(folder):
    assert invoke("recommend", folder / "run", "--fallback", "popular", "--k", 2)["by"] == "popular"
    assert run("recommend", folder / "run").exit_code == 2
    assert run("recommend", folder / "run", "u0", "--history", "i0").exit_code == 2
    refused = run("recommend", folder / "run", "--fallback", "random")
    assert refused.exit_code == 1 and "choose one of popular" in refused.output


@pytest.mark.parametrize("option", ["--friends", "--include-seen"])
def test_options_for_known_users_are_refused_for_a_new_one(folder, option):
    refused = run("recommend", folder / "run", "--history", "i0", option)
    assert refused.exit_code == 2 and "is for users of the" in refused.output


def test_new_items_come_into_the_lists(folder):
    listed = invoke("recommend", folder / "run", "u0", "u1", "--k", 9, "--new-items", "store")
    scores = {each["user_id"]: {item["item_id"]: item["score"] for item in each["items"]} for each in listed["users"]}
    assert "cold" in scores["u0"] and scores["u0"]["cold"] > scores["u1"].get("cold", -9.0)


def test_a_table_of_new_items_names_its_ids(folder):
    refused = run("recommend", folder / "run", "u1", "--new-items", folder / "missing.csv")
    assert refused.exit_code == 1 and "missing.csv" in refused.output
    table = folder / "named.csv"
    pl.read_csv(folder / "new.csv").rename({"sku": "item_id"}).write_csv(table)
    listed = invoke("recommend", folder / "run", "u1", "--k", 9, "--new-items", table)
    assert "n1" in [item["item_id"] for item in listed["users"][0]["items"]]
    assert "n2" not in [item["item_id"] for item in listed["users"][0]["items"]]


def test_held_out_events_are_named_and_the_list_is_as_long_as_the_catalogue_allows(folder):
    done = run("recommend", folder / "run", "u0", "--all", "--out", folder / "x.parquet")
    assert done.exit_code == 2  # users and --all
    done = run("recommend", folder / "run", "u0")
    assert done.exit_code == 0 and "held out for validation and test" in done.stderr and "--valid 0 --test 0" in done.stderr
    assert "held out" not in run("recommend", folder / "run", "u0", "--include-seen").stderr
    assert run("recommend", folder / "run", "u0", "--k", "0").exit_code == 1
