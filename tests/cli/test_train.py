"""`graphrec train`: options and run file reach the run, and messages are readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.config import assign
from graphrec.errors import ConfigError
from tests.training.conftest import checkerboard, make_store

FAST = (
    "--set",
    "train.epochs=2",
    "--set",
    "train.batch_size=64",
    "--set",
    "train.metric=recall@5",
    "--json",
    "--quiet",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "board", checkerboard()).folder


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["train", *(str(argument) for argument in arguments)])


def answer(*arguments: object) -> dict:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_options_and_assignments_reach_the_run(store, tmp_path):
    parts = ("--set", "model.loss=sampled-softmax", "--set", "model.loss.temperature=0.3", "--set", "model.head=cosine")
    result = answer(store, "--model", "lightgcn", "--out", tmp_path / "run", "--seed", 7, *parts, *FAST)
    assert result["model"] == "lightgcn" and result["epochs"] == 2
    assert 0 <= result["valid"]["recall@5"] <= 1
    config = config_of(tmp_path / "run")
    assert config["train"]["seed"] == 7
    assert config["model"]["settings"]["loss"]["name"] == "sampled-softmax"
    assert config["model"]["settings"]["loss"]["temperature"] == 0.3


def test_it_goes_on_with_a_run_and_refuses_to_write_over_it(store, tmp_path):
    answer(store, "--model", "bpr-mf", "--out", tmp_path / "run", *FAST)
    refused = invoke(store, "--model", "bpr-mf", "--out", tmp_path / "run", *FAST)
    assert refused.exit_code == 1 and "already holds a run" in refused.stderr
    longer = answer("--out", tmp_path / "run", "--resume", "--set", "train.epochs=3", "--json", "--quiet")
    assert (longer["model"], longer["epochs"]) == ("bpr-mf", 3)
    replaced = answer(store, "--model", "popularity", "--out", tmp_path / "run", "--overwrite", "--json")
    assert replaced["model"] == "popularity"


def test_a_run_file_is_used_and_another_model_leaves_its_settings_aside(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("graphrec.toml").write_text(
        f'[paths]\nstore = "{store}"\nrun = "runs/here"\n[model]\nname = "lightgcn"\nnum_layers = 2\n[train]\nepochs = 1\n'
        'metric = "recall@5"\n'
    )
    assert answer("--json", "--quiet")["run"] == "runs/here"
    assert config_of(tmp_path / "runs" / "here")["model"]["settings"]["num_layers"] == 2
    assert answer("--model", "bpr-mf", "--out", "runs/other", "--json", "--quiet")["model"] == "bpr-mf"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "train.epochs=-1"), "command line [train] epochs: input should be greater than or equal to 1, got -1"),
        (("--model", "lighgcn"), "command line [model] name: unknown model 'lighgcn'"),
        (("--model", "two-stage"), "made from finished runs: graphrec train --stage rank --retrieval RUN"),
        (("--model", "sum"), "made from finished runs: graphrec fuse RUN RUN"),
        (("--set", "train.epoch=1"), "did you mean 'epochs'"),
        (("--set", "epochs=1"), "--set takes section.key=value"),
        (("--model", "lightgnc"), "did you mean 'lightgcn'"),
        (("--set", "model.loss=brp"), "did you mean 'bpr'"),
        (("--resume",), "holds no run"),
        (("--set", "rank.epochs=3"), "train --stage retrieval reads [paths], [features], [model], [train] and not [rank]"),
    ],
)
def test_mistakes_end_in_one_message(store, tmp_path, arguments, message):
    result = invoke(store, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_messages_name_the_run_file_or_the_command_line_by_where_a_value_stands(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("graphrec.toml").write_text('[train]\nepochs = -2\n[model]\nname = "bpr-mf"\n')
    result = invoke(store, "--set", "train.batch_size=-3", "--set", "rank.candidates=0", "--seed", 1)
    assert result.stderr.splitlines() == [
        "error: graphrec.toml [train] epochs: input should be greater than or equal to 1, got -2",
        "command line [train] batch_size: input should be greater than or equal to 1, got -3",
        "command line [rank] candidates: input should be greater than or equal to 2, got 0",
    ]


def test_assignments_are_toml_or_text():
    tables = {"train": {"epochs": 1}, "model": {"loss": "bpr"}}
    texts = [
        "train.epochs=20",
        "model.name=bpr-mf",
        "model.loss.num_negatives=4",
        'log.path=["a", "b"]',
        "train.seed = 3",
    ]
    assert assign(tables, texts) == {
        "train": {"epochs": 20, "seed": 3},
        "model": {"name": "bpr-mf", "loss": {"name": "bpr", "num_negatives": 4}},
        "log": {"path": ["a", "b"]},
    }
    assert tables == {"train": {"epochs": 1}, "model": {"loss": "bpr"}}
    with pytest.raises(ConfigError, match="which has no keys"):
        assign({"train": {"epochs": 1}}, ["train.epochs.x=1"])


def test_a_configured_feature_that_is_not_used_is_refused(store, tmp_path):
    result = invoke(store, "--model", "lightgcn", "--out", tmp_path / "run", *FAST, "--set", "features.item.text.encoder=wordllama")
    assert result.exit_code == 1 and "[features.item.text] is configured, and the model lightgcn does not use it" in result.output
    assert not (tmp_path / "run").exists()


def test_an_interrupted_training_says_once_how_to_go_on(store, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("graphrec.training.loop.Loop.step", interrupted)
    result = invoke(store, "--model", "bpr-mf", "--out", tmp_path / "run", *FAST)
    assert result.exit_code == 130
    assert result.stderr == f"interrupted; go on with: graphrec train --resume --out {tmp_path / 'run'}\n"
