"""`graphrec train --stage rank`: a second stage from the command line, and what the other verbs do with its run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from tests.training.test_rank import make_board

FAST = ("rank.candidates=12", "rank.epochs=3", "rank.network.hidden=[8]", "rank.learning_rate=0.01")


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict:
    result = invoke(*arguments, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A store and a finished retrieval run."""
    folder = tmp_path_factory.mktemp("shop")
    make_board(folder / "store")
    answer("train", folder / "store", "--model", "popularity", "--out", folder / "popularity")
    return folder


def train_rank(shop: Path, out: Path, *more: object):
    settings = [word for one in FAST for word in ("--set", one)]
    return ["train", "--stage", "rank", "--retrieval", shop / "popularity", "--out", out, *settings, *more]


def test_both_stages_answer_from_the_new_run_folder(shop, tmp_path):
    done = answer(*train_rank(shop, tmp_path / "ranked", "--seed", 4))
    assert (done["model"], done["epochs"], done["run"]) == ("two-stage", 3, str(tmp_path / "ranked"))
    assert 0 < done["check"]["ndcg@10"] <= 1 and "valid" not in done
    assert json.loads((tmp_path / "ranked" / "config.json").read_text())["train"]["seed"] == 4
    measured = answer("evaluate", tmp_path / "ranked", "--k", "5", "--metrics", "ndcg,recall")
    assert measured["model"] == "two-stage" and measured["counts"]["users"] == 60
    listed = answer("recommend", tmp_path / "ranked", 3, "--k", 4)
    assert len(listed["users"][0]["items"]) == 4
    compared = answer("compare", shop / "popularity", tmp_path / "ranked")
    assert "two-stage" in json.dumps(compared)
    refused = invoke("train", "--resume", "--out", tmp_path / "ranked")
    assert refused.exit_code == 1 and "second stage" in refused.stderr and "Traceback" not in refused.stderr
    refused = invoke("train", "--resume", "--model", "lightgcn", "--out", tmp_path / "ranked")
    assert "a second stage, which is not resumed; make it again with graphrec train --stage rank --retrieval RUN" in refused.stderr


def test_a_sum_of_runs_retrieves_as_one_run_does(shop, tmp_path):
    answer("train", shop / "store", "--model", "graph-filter", "--out", tmp_path / "filter", "--set", "model.rank=6")
    answer("train", shop / "store", "--model", "graph-filter", "--out", tmp_path / "other", "--set", "model.rank=4")
    answer("fuse", tmp_path / "filter", tmp_path / "other", "--out", tmp_path / "sum")
    done = answer(*train_rank(shop, tmp_path / "ranked", "--retrieval", tmp_path / "sum"))
    assert done["model"] == "two-stage"
    assert answer("evaluate", tmp_path / "ranked", "--k", "5")["model"] == "two-stage"
    assert len(answer("recommend", tmp_path / "ranked", 3, "--k", 4)["users"][0]["items"]) == 4
    exported = invoke("export", tmp_path / "ranked", "--out", tmp_path / "vectors", "--format", "npy")
    assert "side by side" in exported.output.replace("\n", " "), exported.output
    refused = invoke("train", "--resume", "--out", tmp_path / "ranked")
    assert "a second stage, which is not resumed" in refused.stderr
    refused = invoke("fuse", tmp_path / "filter", tmp_path / "ranked", "--out", tmp_path / "none")
    assert refused.exit_code == 1 and "put a second stage onto the sum" in refused.stderr.replace("\n", " ")


def test_what_learned_from_the_validation_split_is_no_held_out_figure_of_it(shop, tmp_path):
    trained = invoke(*train_rank(shop, tmp_path / "ranked"))
    assert "check ndcg@10" in trained.stdout and "valid ndcg@10" not in trained.stdout
    said = "learned from the valid split"
    report = tmp_path / "report.html"
    measured = invoke("evaluate", tmp_path / "ranked", "--split", "valid", "--k", 5, "--quiet", "--report", report)
    assert f"two-stage has {said}" in measured.stdout and said in report.read_text()
    for split, learned in (("valid", ["B"]), ("test", [])):
        compared = invoke("compare", shop / "popularity", tmp_path / "ranked", "--split", split, "--quiet")
        assert (f"B has {said}" in compared.stdout) == (split == "valid")
        found = answer("compare", shop / "popularity", tmp_path / "ranked", "--split", split)
        assert found["learned"] == learned


def test_the_section_of_the_run_file_is_used(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("graphrec.toml").write_text(
        f'[paths]\nstore = "{shop / "store"}"\nrun = "runs/here"\n'
        '[rank]\ncandidates = 10\nepochs = 2\nloss = "softmax"\nlabels = "hold-out"\n[rank.network]\nhidden = [4]\n'
    )
    assert answer("train", "--stage", "rank", "--retrieval", shop / "popularity")["run"] == "runs/here"
    config = json.loads(Path("runs/here/config.json").read_text())
    assert config["train"]["loss"] == "softmax" and config["model"]["settings"]["labels"] == "hold-out"
    assert config["model"]["settings"]["network"] == {"hidden": [4], "dropout": config["train"]["network"]["dropout"]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--set", "rank.loss=lambdrank"), "did you mean 'lambdarank'"),
        (("--set", "rank.candidates=31"), "31 are more than the 30 items"),
        (("--set", "rank.candidates=1"), "[rank] candidates: input should be greater than or equal to 2, got 1"),
        (("--set", "rank.metric=recall@5"), "give ndcg@k"),
        (("--set", "rank.network.widths=[3]"), "network.widths: unknown key"),
        (("--set", "rank.network.hidden=[]"), "network.hidden"),
        (("--set", "train.learning_rate=5"), "--set train.learning_rate=5: train --stage rank reads [paths], [rank] and not [train]"),
        (("--retrieval", "nowhere"), "holds no run"),
    ],
)
def test_mistakes_end_in_one_message(shop, tmp_path, more, message):
    result = invoke(*train_rank(shop, tmp_path / "ranked", *more))
    assert result.exit_code == 1
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "ranked").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--stage", "rank"),
        ("--retrieval", "runs/a"),
        ("--stage", "ranking", "--retrieval", "runs/a"),
        ("--stage", "rank", "--retrieval", "runs/a", "--model", "lightgcn"),
        ("--stage", "rank", "--retrieval", "runs/a", "--resume"),
    ],
)
def test_wrong_usage(words):
    assert invoke("train", *words).exit_code == 2
