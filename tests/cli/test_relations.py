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
