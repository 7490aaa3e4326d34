"""From split files through store and runs to `graphrec evaluate` and `graphrec compare`."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import graphrec
from graphrec.cli import app
from graphrec.evaluation.result import Evaluation
from graphrec.logs.read import read_split_folder
from tests.training.conftest import make_store

TASTES, USERS, ITEMS = 3, 45, 30


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three tastes with their own users and items; item-kNN must beat popularity on them."""
    folder = tmp_path_factory.mktemp("end-to-end")
    rng = np.random.default_rng(0)
    lines = {"train": [], "test": []}
    for user in range(USERS):
        own = rng.permutation(np.arange(user % TASTES, ITEMS, TASTES))
        lines["train"].append(" ".join(map(str, [user, *own[:6]])))
        lines["test"].append(" ".join(map(str, [user, *own[6:8]])))
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(text) + "\n")
    store = graphrec.build(read_split_folder(folder), folder / "store")
    for name in ("popularity", "item-knn"):
        graphrec.train(store, name, folder / name)
    return folder


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_evaluate_and_compare(runs, tmp_path):
    report = tmp_path / "report.html"
    code, out, err = call("evaluate", runs / "item-knn", "--k", "2,5", "--json", "--report", report)
    assert code == 0, err
    answer = json.loads(out)
    assert answer["counts"]["users"] == USERS
    assert answer["metrics"]["recall@5"] > 0.9  # four of ten items of the own taste are not seen
    assert "<h1>Evaluation of item-knn" in report.read_text()
    assert Evaluation.load(runs / "item-knn").metrics["recall@5"] == answer["metrics"]["recall@5"]
    code, out, err = call("compare", runs / "popularity", runs / "item-knn", "--json", "--metrics", "recall@5")
    assert code == 0, err
    assert [row["better"] for row in json.loads(out)["differences"]] == ["B"]
    code, out, _ = call("compare", runs / "popularity", runs / "item-knn", "--quiet", "--resamples", "200")
    assert code == 0 and "recall@5" in out and "better" in out
    assert "p (Holm)" in out and re.search(r"adjusted for the \d+ metrics shown", out)
    code, out, _ = call("evaluate", runs / "popularity", "--quiet")
    assert code == 0 and "ndcg@20" in out


def test_evaluate_says_what_training_does_not_know(tmp_path):
    store = make_store(tmp_path / "store", [(0, 0, "train"), (0, 1, "train"), (1, 2, "train"), (0, 2, "test"), (5, 1, "test")])
    graphrec.train(store, "popularity", tmp_path / "run")
    code, out, err = call("evaluate", tmp_path / "run", "--k", "1", "--quiet")
    assert code == 0, err
    assert "1 of 2 held-out interactions, whose user or item training does not know; users who have no others: 1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--k", "100"), 1, "k must lie in 1..30"),
        (("--k", "ten"), 2, "whole numbers"),
        (("--metrics", "recal"), 1, "did you mean 'recall'"),
        (("--split", "valid"), 1, "has no valid interactions"),
        (("--store", "nowhere"), 1, "nowhere"),
    ],
)
def test_bad_input_is_one_message(runs, arguments, code, words):
    got, out, err = call("evaluate", runs / "popularity", *arguments, "--json", "--quiet")
    assert got == code
    assert words in err and "Traceback" not in err
    assert not out


def test_missing_run(tmp_path):
    code, _, err = call("evaluate", tmp_path / "none")
    assert code == 1 and "holds no run" in err
    code, _, err = call("compare", tmp_path / "none", tmp_path / "none")
    assert code == 1 and "holds no run" in err
