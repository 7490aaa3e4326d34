"""`graphrec datasets`: what it prints, and how it fails."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.logs import card as cards
from graphrec.settings import parse


def run(*arguments: object):
    return CliRunner().invoke(app, ["datasets", *map(str, arguments)])


@pytest.fixture
def toy(monkeypatch):
    """The only known set is one whose file must be put in place by hand: its address answers nothing."""
    values = {
        "name": "toy",
        "title": "A toy log",
        "origin": "Here.",
        "homepage": "http://127.0.0.1:1/",
        "licence": "CC0",
        "events": 2,
        "columns": "log.csv: user_id, item_id.",
        "files": [{"path": "log.csv", "url": "http://127.0.0.1:1/log.csv"}],
        "log": {"path": "log.csv"},
    }
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cards, "list_cards", lambda: [parse(cards.DatasetCard, values, "card toy")])


def test_list_names_every_card():
    listed = run("list")
    known = json.loads(run("list", "--json").stdout)["datasets"]
    assert listed.exit_code == 0 and len(known) > 10
    assert all(card["name"] in listed.stdout for card in known)


def test_get_says_where_to_put_the_file_and_then_finds_it(toy, tmp_path):
    place = tmp_path / "toy.download" / "log.csv"
    failed = run("get", "toy", "--folder", tmp_path / "toy", "--quiet")
    assert failed.exit_code == 1 and "no network" in failed.stderr and str(place) in failed.stderr
    assert failed.stdout == "" and not (tmp_path / "toy").exists()
    place.write_text("user_id,item_id\n1,2\n3,4\n")
    result = json.loads(run("get", "toy", "--folder", tmp_path / "toy", "--quiet", "--json").stdout)
    assert result["fresh"] and result["trusted"] == ["log.csv"] and list(result["files"]) == ["log.csv"]
    again = run("get", "toy", "--folder", tmp_path / "toy", "--quiet")
    assert again.exit_code == 0 and "there already" in again.stdout and "graphrec build --config" in again.stdout


def test_get_explains_an_unknown_name():
    failed = run("get", "gowala")
    assert failed.exit_code == 1 and "did you mean 'gowalla'" in failed.stderr


def test_make_writes_a_world_and_does_not_overwrite_it(tmp_path):
    made = run("make", tmp_path / "w", "--events", 1000, "--users", 50, "--seed", 3, "--quiet", "--json")
    world = json.loads(made.stdout)
    assert world["counts"]["users"] == 50 and world["settings"]["seed"] == 3
    assert (tmp_path / "w" / "events.parquet").is_file()
    again = run("make", tmp_path / "w", "--quiet")
    assert again.exit_code == 1 and "already exists" in again.stderr
    wrong = run("make", tmp_path / "x", "--events", 7, "--quiet")
    assert wrong.exit_code == 1 and "num_events" in wrong.stderr and not (tmp_path / "x").exists()
