"""The whole way through the house, as a newcomer goes it on the command line: made-up log to recommendations.

One module-scoped world is made, built and trained once; the tests look at what each verb left and printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.graph.store import GraphStore

MODELS = ("popularity", "item-knn", "graph-filter", "bpr-mf", "lightgcn")
WITH_VECTORS = ("bpr-mf", "lightgcn")
RUN_FILE = """
[build]
k_core = 2
[train]
epochs = 3
eval_every = 2
batch_size = 256
learning_rate = 0.02
"""


def graphrec(*arguments: object) -> dict:
    """Run a verb with --json in this process and return what it printed."""
    result = CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a world, a store, and one run per model under runs/."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "graphrec.toml").write_text(RUN_FILE)
    graphrec("datasets", "make", folder / "world", "--events", 4000, "--seed", 5)
    config = ("--config", folder / "graphrec.toml")
    world = folder / "world"
    built = graphrec(
        "build", world / "events.parquet", "--items", world / "items.parquet", "--out", folder / "store", *config
    )
    assert built["nodes"]["user"] > 20 and built["nodes"]["item"] > 20
    for model in MODELS:
        graphrec("train", folder / "store", *config, "--model", model, "--out", folder / "runs" / model, "--seed", 3)
    return folder


def first_users(home: Path, count: int) -> list[str]:
    return pl.read_parquet(home / "store" / "ids" / "user.parquet")["id"].head(count).to_list()


def seen_items(home: Path) -> dict[str, set[str]]:
    """User id to the item ids of its training events of the target behaviour."""
    store = GraphStore.open(home / "store")
    train = store.interactions("train")
    seen: dict[str, set[str]] = {}
    for user, item in zip(store.ids("user").ids_of(train.user), store.ids("item").ids_of(train.item), strict=True):
        seen.setdefault(user, set()).add(item)
    return seen


@pytest.mark.parametrize("model", MODELS)
def test_evaluate(home, model):
    printed = json.dumps(graphrec("evaluate", home / "runs" / model))
    for metric in ("recall@20", "ndcg@20", "coverage"):
        assert metric in printed


def test_compare(home):
    printed = json.dumps(graphrec("compare", home / "runs" / "popularity", home / "runs" / "item-knn"))
    assert "recall@20" in printed


@pytest.mark.parametrize("model", MODELS)
def test_recommend_by_original_id_without_seen_items(home, model):
    seen = seen_items(home)
    users = sorted(seen, key=lambda user: -len(seen[user]))[:3]
    answer = graphrec("recommend", home / "runs" / model, *users, "--k", 5)
    assert [entry["user_id"] for entry in answer["users"]] == users
    for entry in answer["users"]:
        listed = [item["item_id"] for item in entry["items"]]
        assert len(set(listed)) == 5
        assert not seen[entry["user_id"]] & set(listed)
        assert all(item["title"] for item in entry["items"])
        assert [item["rank"] for item in entry["items"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("model", MODELS[1:])
def test_similar(home, model):
    item = pl.read_parquet(home / "store" / "ids" / "item.parquet")["id"][0]
    answer = graphrec("similar", home / "runs" / model, item, "--k", 3)
    listed = [entry["similar_item_id"] for entry in answer["items"][0]["similar"]]
    assert 1 <= len(set(listed)) <= 3 and item not in listed


@pytest.mark.parametrize("model", WITH_VECTORS)
def test_exported_vectors_reproduce_the_models_ranking(home, tmp_path, model):
    printed = graphrec("export", home / "runs" / model, "--out", tmp_path / "out")
    assert printed["top10_agreement_with_model"] == 1.0
    users, items = (pl.read_parquet(tmp_path / "out" / "parquet" / f"{ntype}.parquet") for ntype in ("user", "item"))
    answer = graphrec("recommend", home / "runs" / model, users["user_id"][0], "--k", 8, "--include-seen")["users"][0]
    scores = np.array(items["vector"].to_list(), dtype=np.float32) @ np.array(users["vector"][0], dtype=np.float32)
    by_id = dict(zip(items["item_id"].to_list(), scores.tolist(), strict=True))
    for rank, item in enumerate(answer["items"]):
        assert by_id[item["item_id"]] == pytest.approx(item["score"], abs=1e-4)
        assert sorted(by_id.values(), reverse=True)[rank] == pytest.approx(item["score"], abs=1e-4)


def test_the_graph_filter_exports_its_low_rank_factors_and_says_so(home, tmp_path):
    printed = graphrec("export", home / "runs" / "graph-filter", "--out", tmp_path / "out", "--format", "npy")
    user, item = np.load(tmp_path / "out" / "npy" / "user.npy"), np.load(tmp_path / "out" / "npy" / "item.npy")
    assert user.shape[1] == item.shape[1] == printed["dim"]
    assert printed["top10_agreement_with_model"] == 1.0 or "hold only a part" in printed["notes"][0]


def test_recommend_to_all_users_into_a_file(home, tmp_path):
    printed = graphrec("recommend", home / "runs" / "item-knn", "--all", "--k", 4, "--out", tmp_path / "all.parquet")
    frame = pl.read_parquet(tmp_path / "all.parquet")
    assert frame.height == printed["rows"]
    assert frame["user_id"].n_unique() == len(pl.read_parquet(home / "store" / "ids" / "user.parquet"))


def test_graph_info(home):
    assert str(json.loads((home / "store" / "manifest.json").read_text())["nodes"]["user"]) in json.dumps(
        graphrec("graph", "info", home / "store")
    )


def test_a_fresh_process_answers_from_the_run_folder_alone(home, tmp_path):
    """The run folder is moved away from its store; a new interpreter still answers."""
    os.rename(home / "runs" / "bpr-mf", tmp_path / "moved")
    try:
        (user,) = first_users(home, 1)
        command = [sys.executable, "-c", "from graphrec.cli import main; main()"]
        command += ["recommend", str(tmp_path / "moved"), str(user), "--k", "2", "--json"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["users"][0]["items"]) == 2
    finally:
        os.rename(tmp_path / "moved", home / "runs" / "bpr-mf")


def test_tables_without_json(home):
    (user,) = first_users(home, 1)
    result = CliRunner().invoke(app, ["recommend", str(home / "runs" / "popularity"), str(user), "--k", "2"])
    assert result.exit_code == 0
    assert f"user {user}" in result.stdout and "title" in result.stdout
