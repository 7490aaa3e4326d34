"""Every side table from flags and from one run file, and rows that do not fit: counted, named, with a mend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.graph.sides import MENDS
from graphrec.graph.store import GraphStore
from tests.graph.small import ring

FLAGS = ["--items", "items.csv", "--users", "users.csv", "--social", "friends.csv", "--triples", "kg.csv",
         "--item-relations", "also.csv", "--media", "cover=cover.parquet", "--media", "sound=sound.parquet"]  # fmt: skip
RUN_FILE = """
[log]
path = "events.csv"
items = "items.csv"
users = "users.csv"
social = {path = "friends.csv", columns = {src = "who", dst = "whom"}}
triples = "kg.csv"
item_relations = "also.csv"
media = {cover = "cover.parquet", sound = "sound.parquet"}
[build]
split = "leave_last_out"
target_behavior = "buy"
[paths]
store = "store"
"""
BEHAVIORS = {("user", "view", "item"), ("user", "buy", "item")}
LINKS = {("user", "follows", "user"): 2, ("item", "also_bought", "item"): 1,
         ("item", "made_by", "entity"): 2, ("entity", "part_of", "entity"): 1}  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A log of views and purchases with every side table, each with rows that do not fit."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{user},{item},{1_600_000_000 + 86_400 * day},{'view' if day < 3 else 'buy'}" for user, item, day in ring(each=6)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp,behavior\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text("item_id,title\ni00,Zero\ni01,One\n")
    (tmp_path / "users.csv").write_text("user_id,name,age\nu00,Ann,20\n")
    (tmp_path / "friends.csv").write_text("who,whom\nu00,u01\nu01,u02\nu00,ghost\nu03,u03\nu00,u01\nu05,\n")
    (tmp_path / "kg.csv").write_text(
        "head,relation,tail\ni00,made_by,acme\ni01,made_by,acme\nacme,part_of,group\ni02,,acme\nacme,part_of,acme\n"
    )
    (tmp_path / "also.csv").write_text("src,relation,dst\ni02,also_bought,i03\ni04,also_bought,i04\ni05,also_bought,gone\n")
    for name in ("cover", "sound"):
        vectors = np.eye(3, dtype=np.float32).tolist()
        pl.DataFrame({"item_id": ["i00", "i01", "gone"], "vector": vectors}).write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def graphrec(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def forward_edges(store: GraphStore) -> dict[tuple[str, str, str], int]:
    edges = {(edge.source, edge.relation, edge.target): edge.edges for edge in store.manifest.edges}
    return {etype: count for etype, count in edges.items() if not etype[1].startswith("rev_")}


@pytest.mark.parametrize("way", ["flags", "run file"])
def test_one_command_builds_every_edge_type(work, way):
    Path("run.toml").write_text(RUN_FILE)
    by_flags = ["events.csv", "--split", "leave_last_out", "--target", "buy", "--out", "store", *FLAGS]
    done = graphrec("build", *(by_flags if way == "flags" else ["--config", "run.toml"]), "--json", "--quiet")
    assert done.exit_code == 0, done.output
    store = GraphStore.open("store")
    found = forward_edges(store)
    assert found.keys() == LINKS.keys() | BEHAVIORS
    assert {etype: count for etype, count in found.items() if etype not in BEHAVIORS} == LINKS
    assert store.features("item") == ["cover", "sound"] and store.titles()[:2] == ["Zero", "One"]
    assert store.titles("user")[0] == "Ann"
    rejected = json.loads(done.stdout)["side_rejected"]
    assert {reason.partition(": ")[2] for reason in rejected} <= MENDS.keys()
    assert rejected == {
        "item_relations: item linked to itself": 1,
        "item_relations: item not in training": 1,
        "media cover: item not in training": 1,
        "media sound: item not in training": 1,
        "social: link listed before": 1,
        "social: src or dst missing or no such kind of id": 1,
        "social: user linked to itself": 1,
        "social: user not in training": 1,
        "triples: no relation": 1,
        "triples: triple from a node to itself": 1,
    }


def test_what_did_not_fit_is_shown_with_its_mend(work):
    done = graphrec("build", "events.csv", "--out", "store", *FLAGS, "--target", "buy")
    shown = " ".join(done.stdout.split())
    assert "social: user not in training │ 1 │ give the user an event, lower k_core, or correct the id" in shown
    assert "triples: no relation │ 1 │ name the relation of the row" in shown


def test_a_relation_without_edges_is_said_aloud(work):
    Path("friends.csv").write_text("who,whom\nghost,phantom\n")
    done = graphrec("build", "events.csv", "--out", "store", "--social", "friends.csv", "--target", "buy")
    assert done.exit_code == 0, done.output
    assert "the relation follows (user to user) has no edges" in done.stdout


def test_media_without_a_name_is_wrong_usage(work):
    done = graphrec("build", "events.csv", "--out", "store", "--media", "cover.parquet")
    assert done.exit_code == 2 and "NAME=SOURCE" in done.stderr and "image=covers.npy" in done.stderr
    assert not Path("store").exists()


@pytest.mark.parametrize("items", [[], ["--items", "items.csv"]])
def test_vectors_by_row_of_a_log_with_other_ids_are_refused_with_the_way_to_give_ids(work, items):
    np.save("rows.npy", np.ones((5, 2), dtype=np.float32))
    done = graphrec("build", "events.csv", "--out", "store", "--target", "buy", "--media", "cover=rows.npy", *items)
    assert done.exit_code == 1 and not Path("store").exists()
    shown = " ".join(done.stderr.split())
    assert "rows.npy (media cover): none of the 5 rows is one of the items (12 of the log" in shown
    assert ("2 of its item table" in shown) == bool(items)
    assert "are 0, 1, 2, …, those of the items i00, i01, i02, …" in shown
    assert '[log.media] cover = {path = "rows.npy", ids = "ids.txt"}' in shown
    Path("ids.txt").write_text("i00\ngone\ni03\nlost\ni05\n")
    Path("run.toml").write_text('[log.media]\ncover = {path = "rows.npy", ids = "ids.txt"}\n')
    done = graphrec("build", "events.csv", "--config", "run.toml", "--out", "store", "--target", "buy", "--json", "--quiet")
    assert json.loads(done.stdout)["side_rejected"] == {"media cover: item not in training": 2}


def test_vectors_of_items_that_only_the_item_table_names_are_kept(work):
    Path("items.csv").write_text("item_id,title\nnew,Zero\n")
    Path("ids.txt").write_text("new\n")
    np.save("rows.npy", np.ones((1, 2), dtype=np.float32))
    Path("run.toml").write_text('[log]\nitems = "items.csv"\nmedia = {cover = {path = "rows.npy", ids = "ids.txt"}}\n')
    done = graphrec("build", "events.csv", "--config", "run.toml", "--out", "store", "--target", "buy")
    assert done.exit_code == 0 and GraphStore.open("store").feature("item-new", "cover")[0].tolist() == [[1, 1]]
    Path("ids.txt").write_text("newer\n")
    done = graphrec("build", "events.csv", "--config", "run.toml", "--out", "store", "--target", "buy", "--overwrite")
    assert done.exit_code == 1 and "write the ids as the log does" in " ".join(done.stderr.split())
