"""`graphrec link`: from an edge list to metrics, new links and vectors; messages are readable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.logs.ogb import import_ogb
from graphrec.training.train import train
from tests.link.conftest import SIZE, cliques
from tests.logs.test_ogb import citation2, collab, vessel
from tests.training.conftest import checkerboard, make_store

FAST = ("--set", "gae.epochs=40", "--set", "gae.out_dim=8", "--test", "0.2", "--valid", "0.1")


@pytest.fixture
def edges(tmp_path) -> Path:
    path = tmp_path / "edges.csv"
    path.write_text("source,target\n" + "".join(f"n{u:02d},n{v:02d}\n" for u, v in cliques()) + "n00,n00\n")
    return path


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["link", *(str(argument) for argument in arguments)])


def test_models_are_trained_and_measured_side_by_side(edges):
    result = invoke(edges, "-m", "gae", "-m", "adamic-adar", "--metrics", "auc,hits@5", "--seed", 2, *FAST, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["num_nodes"] == 2 * SIZE and answer["dropped"] == {"self-loops": 1, "duplicates": 0}
    for name in ("gae", "adamic-adar"):
        assert answer["models"][name]["test"]["auc"] > 0.95 and set(answer["models"][name]["valid"]) == {"auc", "hits@5"}
    assert answer["protocol"]["links"] == answer["protocol"]["non_links"] == 76 and not answer["protocol"]["own_non_links"]
    shown = invoke(edges, "-m", "adamic-adar", *FAST[4:], "--quiet")
    assert "each of 76 test links is ranked against the same 76 pairs that are no links" in shown.stdout
    assert "hits@K counts" in shown.stdout
    assert "hits@K" not in invoke(edges, "-m", "adamic-adar", "--metrics", "auc", "--quiet").stdout
    again = invoke(edges, "-m", "gae", "--metrics", "auc", "--seed", 2, *FAST, "--json", "--quiet")
    assert json.loads(again.stdout)["models"]["gae"]["test"]["auc"] == answer["models"]["gae"]["test"]["auc"]


@pytest.mark.parametrize(
    ("make", "name"), [(collab, "ogbl-collab hits@50"), (citation2, "ogbl-citation2 mrr"), (vessel, "ogbl-vessel rocauc")]
)
def test_ogbs_own_evaluator_measures_an_ogbl_folder_too(tmp_path, monkeypatch, make, name):
    asked = []
    own = import_ogb().Evaluator.eval
    monkeypatch.setattr(import_ogb().Evaluator, "eval", lambda self, scores: asked.append(self.name) or own(self, scores))
    folder = make(tmp_path)
    models = ("-m", "adamic-adar", "-m", "mf", "--set", "mf.epochs=2", "--set", "mf.metric=auc")
    result = invoke(folder, *models, "--metrics", "auc,mrr", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert asked == [name.split()[0]] * 4  # two models, two sides
    for one in answer["models"].values():
        for side in ("valid", "test"):
            assert list(one[side]) == ["auc", "mrr", name]
            if "hits" not in name:
                assert one[side][name] == pytest.approx(one[side]["mrr" if "mrr" in name else "auc"])
    assert f"{name.split()[0]}'s own metric is by ogb's Evaluator" in answer["protocol"]["how"]
    assert ("every link is a hit where there are fewer" in answer["protocol"]["how"]) == ("hits" in name)
    shown = invoke(folder, "-m", "adamic-adar", "--quiet")
    assert name in shown.stdout and "auc" in shown.stdout


@pytest.mark.parametrize("layer", ["lightgcn", "ngcf"])
def test_the_layers_of_recommenders_encode_too(edges, layer):
    result = invoke(edges, "-m", "gae", "--set", f"gae.layer={layer}", "--metrics", "auc", *FAST, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"]["gae"]["test"]["auc"] > 0.95


def test_new_links_and_vectors_carry_original_ids(edges, tmp_path):
    out = tmp_path / "vectors.parquet"
    arguments = (edges, "-m", "gae", *FAST, "--for", "n03", "--k", 2, "--vectors", out)
    result = invoke(*arguments, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    links = json.loads(result.stdout)["links"]
    assert [link["node_id"] for link in links] == ["n03"] * 2 and all(link["neighbour_id"] < "n20" for link in links)
    frame = pl.read_parquet(out)
    assert frame["node_id"].to_list() == [f"n{node:02d}" for node in range(2 * SIZE)]
    assert np.stack(frame["vector"].to_list()).shape == (2 * SIZE, 8)
    refused = invoke(*arguments, "--quiet")
    assert refused.exit_code == 1 and "already exists" in refused.output
    assert invoke(*arguments, "--overwrite", "--quiet").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "gea"), "unknown link model 'gea'"),
        (("--metrics", "auk"), "unknown metric 'auk'"),
        (("--metrics", "hits@1000000"), "hits@1000000: only"),
        (("--set", "gae.epoch=3"), "epoch: unknown key"),
        (("--test", "2"), "leave something to train on"),
        (("-m", "adamic-adar", "--vectors", "vectors.parquet"), "adamic-adar has no node vectors"),
        (("-m", "adamic-adar", "--out", "vectors.parquet"), "a predictor is saved as a folder"),
    ],
)
def test_wrong_options_end_in_one_message(edges, arguments, message):
    result = invoke(edges, *arguments, "--quiet")
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output


def test_a_saved_predictor_answers_without_being_trained_again(edges, tmp_path):
    out = tmp_path / "links" / "gae"
    first = invoke(edges, "-m", "gae", *FAST, "--for", "n03", "--k", 2, "--out", out, "--json", "--quiet")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["predictor"] == str(out)
    again = invoke(out, "--for", "n03", "--k", 2, "--vectors", tmp_path / "v.parquet", "--json", "--quiet")
    assert again.exit_code == 0, again.output
    answer = json.loads(again.stdout)
    assert answer["links"] == json.loads(first.stdout)["links"] and answer["model"] == "gae"
    assert len(pl.read_parquet(tmp_path / "v.parquet")) == answer["num_nodes"] == 2 * SIZE
    assert "gae of" in invoke(out).output and "40 nodes" in invoke(out).output
    refused = invoke(edges, "-m", "gae", *FAST, "--out", out, "--quiet")
    assert refused.exit_code == 1 and "already exists" in refused.output
    for option in (("-m", "gae"), ("--directed",), ("--valid", "0.05"), ("--test", "0.1")):
        assert invoke(out, *option).exit_code == 2
    (out / "model.safetensors").write_bytes(b"")
    broken = invoke(out, "--for", "n03")
    assert broken.exit_code == 1 and "0 bytes" in broken.output


def test_the_run_of_a_recommender_is_told_to_be_none(tmp_path):
    train(make_store(tmp_path / "store", checkerboard()), "popularity", tmp_path / "run")
    result = invoke(tmp_path / "run", "--for", "1")
    assert result.exit_code == 1 and "is the run of a recommender" in result.output and "--friends" in result.output


def test_a_missing_source_and_several_models_with_out_are_refused(edges, tmp_path):
    result = invoke(tmp_path / "nothing.csv")
    assert result.exit_code == 1 and "no such file" in result.output
    result = invoke(tmp_path / "nothing.csv", "--metrics", "auc, hits@x")  # shows before the source is looked for
    assert result.exit_code == 1 and "unknown metric 'hits@x'" in result.output
    assert invoke(edges, "-m", "gae", "-m", "mf", "--out", "x.parquet").exit_code == 2


def test_an_interruption_keeps_nothing_and_says_so(edges, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("graphrec.link.trained.TrainedLinkModel._loss", interrupted)
        result = invoke(edges, "-m", "gae", "--out", tmp_path / "links", *FAST, "--quiet")
    assert result.exit_code == 130 and not (tmp_path / "links").exists()
    assert result.stderr.startswith("interrupted; nothing is kept: a predictor is shown and saved when it is finished")
    monkeypatch.setattr("graphrec.link.suggest.write_vectors", interrupted)
    result = invoke(edges, "-m", "adamic-adar", "--out", tmp_path / "links", "--vectors", tmp_path / "v.parquet", *FAST[4:], "--quiet")
    assert result.stderr == "interrupted; what was finished is kept, and no file is half-written\n" and (tmp_path / "links").is_dir()
