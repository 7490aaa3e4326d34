from __future__ import annotations

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.models import create
from tests.features.llm_server import fails, says, server  # noqa: F401 - a fixture
from tests.models.conftest import checkerboard, make_store, named


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A store and a model folder, whose user u003 likes odd items."""
    root = tmp_path_factory.mktemp("llm")
    train, test = checkerboard()
    store = make_store(root / "store", named(train), named(test), titles=True)
    create("item-knn").fit(store).save(root / "model")
    return root / "store", root / "model"


def call(tmp_path, monkeypatch, *words: str):
    monkeypatch.chdir(tmp_path)
    return CliRunner().invoke(app, ["llm", *words], env={"COLUMNS": "200"})


def test_rerank_prints_lists_and_usage(server, folders, tmp_path, monkeypatch):  # noqa: F811
    server.script = [says("[3, 2, 1]")]
    options = ("--model", "m", "--endpoint", server.url, "--candidates", "3", "--k", "2")
    done = call(tmp_path, monkeypatch, "rerank", str(folders[1]), "u003", *options, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [row["rank"] for row in answer["lists"]] == [1, 2] and answer["kept"] == 0
    assert answer["usage"]["asked"] == 1 and (tmp_path / "llm-answers.sqlite").exists()
    server.script = [fails(500)]
    again = call(tmp_path, monkeypatch, "rerank", str(folders[1]), "u003", *options)
    assert "1 prompts, 1 from the cache" in again.stdout and "Title of" in again.stdout


def test_set_reaches_the_client(server, folders, tmp_path, monkeypatch):  # noqa: F811
    server.script = [says("[3, 2, 1]", prompt_tokens=1_000_000)]
    options = ("--model", "m", "--endpoint", server.url, "--candidates", "3", "--k", "2", "--set", "max_tokens=9")
    done = call(tmp_path, monkeypatch, "rerank", str(folders[1]), "u003", *options, "-s", "llm.prompt_price=2.5")
    assert done.exit_code == 0 and server.seen[0]["max_tokens"] == 9 and "cost 2.5000" in done.stdout
    refused = call(tmp_path, monkeypatch, "rerank", str(folders[1]), "u003", *options, "-s", "max_token=9")
    assert refused.exit_code == 1 and "max_token: unknown key" in refused.output


def test_why_names_what_the_user_chose(server, folders, tmp_path, monkeypatch):  # noqa: F811
    server.script = [says("Because it fits.")]
    done = call(tmp_path, monkeypatch, "why", str(folders[1]), "u003", "-k", "2", "-m", "m", "--endpoint", server.url)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("Because it fits.") == 2
    assert server.seen[0]["messages"][1]["content"].count("Title of") == 6


def test_profiles_are_written_and_never_overwritten_unasked(server, folders, tmp_path, monkeypatch):  # noqa: F811
    server.script = [says(lambda prompt: f"<{prompt}>")]
    options = ("--model", "m", "--endpoint", server.url, "--columns", "title", "--limit", "3")
    done = call(tmp_path, monkeypatch, "profiles", str(folders[0]), *options)
    assert done.exit_code == 0 and "3 profiles written to profiles.parquet" in done.stdout
    frame = pl.read_parquet(tmp_path / "profiles.parquet")
    assert frame.columns == ["item_id", "profile"] and frame["profile"][0].startswith("<title: Title of 1000")
    refused = call(tmp_path, monkeypatch, "profiles", str(folders[0]), *options)
    assert refused.exit_code == 1 and "profiles.parquet already exists" in refused.output


def test_a_service_that_is_down_is_one_message(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("graphrec.features.llm_http.time.sleep", lambda seconds: None)
    where = ("--model", "m", "--endpoint", "http://127.0.0.1:9/v1")
    done = call(tmp_path, monkeypatch, "why", str(folders[1]), "u003", *where)
    assert done.exit_code == 1
    assert done.output.count("no connection") == 2 and "trying again, up to 4 times, with pauses of 15 s in all" in done.output
    assert "\nerror: http://127.0.0.1:9/v1/chat/completions: no usable answer after 5 tries" in done.output
    bad = call(tmp_path, monkeypatch, "why", str(folders[1]), "u003", "--model", "m", "--endpoint", "nowhere")
    assert bad.exit_code == 1 and "endpoint must begin with http" in bad.output
