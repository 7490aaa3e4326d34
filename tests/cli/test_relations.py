"""The command line over several relations: weights shown after training, friends, and errors that list what there is."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from tests.models.conftest import NUM_USERS, checkerboard, make_store, named


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    links = [(f"u{u:03d}", f"u{(u + 2) % NUM_USERS:03d}") for u in range(NUM_USERS)]
    train, test = checkerboard()
    folder = tmp_path_factory.mktemp("stores") / "social"
    return make_store(folder, named(train), named(test), views=named(train), links=links)


def graphrec(*words: object, fails: bool = False) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert (result.exit_code != 0) == fails, result.output
    return result.output if fails else result.stdout


def test_training_shows_the_weights_of_relations_and_friends_are_recommended(store, tmp_path):
    run = tmp_path / "run"
    common = ("--model", "social-lightgcn", "--set", "train.epochs=2", "--set", "train.batch_size=64")
    shown = graphrec("train", store.folder, *common, "--out", run)
    assert "weight of follows to user" in shown
    trained = json.loads(graphrec("train", store.folder, *common, "--out", run, "--overwrite", "--json"))
    assert 0 < trained["relations"]["follows to user"] < 1
    answer = json.loads(graphrec("recommend", run, "u004", "--friends", "--k", 3, "--json"))
    friends = [friend["friend_id"] for friend in answer["users"][0]["friends"]]
    assert len(friends) == 3 and not {"u004", "u006", "u002"} & set(friends)
    assert friends[0] in graphrec("recommend", run, "u004", "--friends", "--k", 3)
    refused = graphrec("recommend", run, "--all", "--out", tmp_path / "x.parquet", "--friends", fails=True)
    assert "--friends answers for the users given" in refused


def test_friends_are_measured_on_the_links_that_the_build_held_out(tmp_path, monkeypatch):
    train, test = checkerboard()
    rows = [f"{user},{item},{side}" for part, side in ((train, "train"), (test, "test")) for user, item in named(part)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,split", *rows]))
    links = [f"u{u:03d},u{(u + step) % NUM_USERS:03d}" for u in range(NUM_USERS) for step in (-2, 2)]
    (tmp_path / "links.csv").write_text("\n".join(["src,dst", *links, "u000,ghost"]))
    log = (tmp_path / "events.csv", "--social", tmp_path / "links.csv", "--out", tmp_path / "store")
    shown = graphrec("build", *log, "--hold-out-links", 0.25)
    assert "20 links between users are held out of the graph, for: graphrec evaluate RUN --friends" in shown
    run = tmp_path / "run"
    common = ("--set", "train.epochs=20", "--set", "train.batch_size=64", "--set", "train.learning_rate=0.05", "--out", run)
    graphrec("train", tmp_path / "store", "--model", "social-lightgcn", *common)
    found = json.loads(graphrec("evaluate", run, "--friends", "--k", "5,10", "--json"))
    assert found["recall@10"] > 0.4 and found["recall@5"] < found["recall@10"] and found["links"] == 20  # 0.25 by chance
    kept = json.loads((run / "friends.json").read_text())
    assert kept["recall@10"] == found["recall@10"] and kept["store"] == str(tmp_path / "store")
    (run / "friends.json").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("graphrec.atomic.os.access", lambda *_: False)  # as on read-only storage
        for words in (["--friends"], []):
            shown = CliRunner().invoke(app, ["evaluate", str(run), *words]).output
            assert shown.count(f"{run} cannot be written") == shown.count("not kept") == 1 and "written to" not in shown
            quiet = graphrec("evaluate", run, "--quiet", *words)
            assert quiet.count(f"{run} cannot be written, so the result is shown and not kept there") == 1
    assert not (run / "friends.json").exists()
    table = graphrec("evaluate", run, "--friends")
    assert "20 held-out links" in table and "ndcg@20" in table
    refused = graphrec("evaluate", run, "--friends", "--metrics", "recall", fails=True)
    assert "leave --metrics out" in " ".join(refused.replace("│", " ").split())
    graphrec("build", *log, "--hold-out-links", 0.25, "--seed", 1, "--overwrite")  # the run has seen these
    assert "other links held out" in graphrec("evaluate", run, "--friends", fails=True)
    graphrec("build", *log, "--overwrite")
    graphrec("train", tmp_path / "store", "--model", "social-lightgcn", *common, "--overwrite")
    assert "has no held-out links to find again; build it with" in graphrec("evaluate", run, "--friends", fails=True)


def test_a_composition_reads_the_relations_it_names_and_an_unknown_one_is_refused(store, tmp_path):
    common = ("--model", "composed", "--set", "train.epochs=1", "--set", "model.embedding_dim=8", "--json")
    for encoder, name in (('{name="rgcn", relations=["view", "target"]}', "view to user"),
                          ('{name="fused", fusion="gate"}', "follows to user")):  # fmt: skip
        out = tmp_path / encoder[7:11]
        trained = json.loads(graphrec("train", store.folder, *common, "--set", f"model.encoder={encoder}", "--out", out))
        assert 0 < trained["relations"][name] < 1
        assert graphrec("recommend", out, "u004", "--k", 3)
    wrong = '{name="rgcn", relations=["folows"]}'
    text = graphrec("train", store.folder, *common, "--set", f"model.encoder={wrong}", "--out", tmp_path / "no", fails=True)
    for part in ("needs the relation 'folows'", "follows (user to user, 40 edges)", "did you mean 'follows'?"):
        assert part in " ".join(text.split()), text
