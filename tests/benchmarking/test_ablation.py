"""Ablations on a store whose links say everything and whose other relation says nothing; mistakes; changed links."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import graphrec
from graphrec.benchmarking.data import _fingerprint
from graphrec.benchmarking.plan import Contender
from graphrec.cli import app
from graphrec.errors import ConfigError
from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog

FRIENDS, CIRCLES, ITEMS = 6, 8, 48


def circles_log(weight: float = 1.0) -> InteractionLog:
    """Circles of friends take the same six items; each user's history is two of them, so that the rest is with the friends."""
    rng = np.random.default_rng(1)
    rows, links = [], []
    for user in range(FRIENDS * CIRCLES):
        circle = user // FRIENDS
        taken = rng.permutation(np.arange(6) + 6 * circle)
        rows += [(f"u{user:02d}", f"i{item:02d}", "train" if place < 2 else "test") for place, item in enumerate(taken[:4])]
        links += [(f"u{user:02d}", f"u{circle * FRIENDS + other:02d}", weight) for other in range(FRIENDS)]
    rows += [(f"u{user:02d}", f"i{item:02d}", "train") for item in range(ITEMS) for user in [int(rng.integers(48))]]
    rows = list({(user, item): (user, item, side) for user, item, side in rows[::-1]}.values())
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row").with_columns(
        behavior=pl.lit("play"), timestamp=pl.lit(None, pl.Datetime("us", "UTC")), weight=pl.lit(1.0, pl.Float32)
    )
    tags = [(f"i{item:02d}", "tagged", f"t{rng.integers(3)}") for item in range(ITEMS)]
    return InteractionLog(
        events.lazy(),
        social=pl.DataFrame(links, schema=["src", "dst", "weight"], orient="row").with_columns(pl.col("weight").cast(pl.Float32)),
        triples=pl.DataFrame(tags, schema=["head", "relation", "tail"], orient="row"),
    )


@pytest.fixture(scope="module")
def circles(tmp_path_factory) -> GraphStore:
    return build(circles_log(), tmp_path_factory.mktemp("stores") / "circles", split="given")


@pytest.fixture
def joint(tmp_path) -> str:
    """A run file of a quick model that reads all relations."""
    path = tmp_path / "joint.toml"
    path.write_text(
        '[model]\nname = "composed"\nembedding_dim = 16\nencoder = {name = "joint-lightgcn", num_layers = 2}\n'
        "[train]\nepochs = 25\nbatch_size = 64\nlearning_rate = 0.05\nweight_decay = 0.1\n"
    )
    return str(path)


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["benchmark", *(str(argument) for argument in arguments)])


def test_the_relation_that_says_everything_is_the_one_that_is_missed(circles, joint, tmp_path, measured):
    common = ("--data", circles.folder, "--models", joint, "--k", 5, "--metrics", "recall", "--out", tmp_path / "out")
    done = invoke(*common, "--ablate", "relations", "--json", "-q")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    labels = ["joint", "joint without play", "joint without follows", "joint without tagged"]
    assert [row["row"] for row in answer["rows"]] == labels
    assert [(one["a"], one["b"]) for one in answer["comparisons"]] == [("joint", label) for label in labels[1:]]
    head, lines = answer["tested"]
    assert head[2:4] == ["without", "metric"]
    by_part = {line[2]: dict(zip(head, line, strict=True)) for line in lines}
    assert [line[2] for line in lines] == ["play", "follows", "tagged"]  # the largest loss first
    assert by_part["follows"]["needed"] == "yes"
    assert by_part["follows"]["loss"] > 0.1 and by_part["follows"]["p (Holm)"] < 0.01
    assert by_part["follows"]["95% from"] <= by_part["follows"]["loss"] <= by_part["follows"]["to"]
    assert by_part["follows"]["loss"] == pytest.approx(by_part["follows"]["full"] - by_part["follows"]["left"])
    assert abs(by_part["tagged"]["loss"]) < by_part["follows"]["loss"]
    for file in ("table.md", "report.html"):
        assert "joint without follows" in (tmp_path / "out" / file).read_text()
        assert "needed" in (tmp_path / "out" / file).read_text()
    shown = invoke(*common, "--ablate", "relations")
    assert "What leaving it out loses, per user, paired" in shown.stdout and len(measured) == 4  # cells are kept


def test_features_are_left_out_too_and_other_models_stand_beside(circles, tmp_path, measured):
    circles.add_feature("item", "noise", np.random.default_rng(2).normal(size=(ITEMS, 4)).astype(np.float32), {"encoder": "test"})
    run_file = tmp_path / "both.toml"
    run_file.write_text(
        '[model]\nname = "social-lightgcn"\nembedding_dim = 8\ninputs = {name = "id+features", item = ["noise"]}\n'
        "[train]\nepochs = 2\nbatch_size = 64\n"
    )
    result = graphrec.benchmark(
        circles.folder, ["popularity", str(run_file)], tmp_path / "out", k=5, metrics="recall", ablate="relations"
    )
    assert [row.row for row in result.rows] == ["popularity", "both", "both without play", "both without follows",
                                                "both without item.noise"]  # fmt: skip
    assert {one.a for one in result.comparisons} == {"both"} and not result.failures


@pytest.mark.parametrize(
    ("models", "extra", "message"),
    [
        ("popularity,bpr-mf", (), "popularity, bpr-mf read the target behaviour alone and no features"),
        ("social-lightgcn", ("--ablate", "relation"), "unknown ablation 'relation'; choose one of relations; did you mean"),
        ("mb-cgcn", (), "so there is nothing to leave out"),
    ],
)
def test_nothing_to_leave_out_is_an_error(circles, tmp_path, measured, models, extra, message):
    done = invoke("--data", circles.folder, "--models", models, "--out", tmp_path / "out", *(extra or ("--ablate", "relations")))
    assert done.exit_code == 1 and message in done.stderr and not measured


def test_text_folders_and_several_stores_are_refused(circles, board, tmp_path, measured):
    for data in ((board,), (circles.folder, board)):
        with pytest.raises(ConfigError, match="--ablate leaves out what one graph store has, got"):
            graphrec.benchmark(list(data), "social-lightgcn", tmp_path / "out", ablate="relations")


def test_changed_links_or_features_make_other_data(circles, tmp_path):
    same, other = (build(circles_log(weight), tmp_path / str(weight), split="given") for weight in (1.0, 2.0))
    assert _fingerprint(same) != _fingerprint(other)
    before = _fingerprint(same)
    assert before == _fingerprint(build(circles_log(), tmp_path / "again", split="given"))
    same.add_feature("item", "more", np.ones((ITEMS, 2), dtype=np.float32), {"encoder": "test"})
    assert _fingerprint(same) != before


def test_a_row_without_something_is_another_cell():
    whole, left = (Contender("x", "social-lightgcn", settings).spec(0) for settings in ({}, {"without": ["follows"]}))
    assert whole != left
