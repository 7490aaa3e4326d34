"""The data of a benchmark: each folder has a name of its own, and the weights of sums are chosen on all that a store holds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import graphrec
from graphrec.benchmarking.data import labels, selection
from graphrec.benchmarking.plan import folder_name
from graphrec.errors import StoreError
from graphrec.graph.build import build
from graphrec.logs.table import InteractionLog
from tests.benchmarking.conftest import write_board
from tests.training.conftest import make_store


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("/a/given", "/b/other"), ("given", "other")),
        (("/a/given", "/b/given", "/b/other"), ("a-given", "b-given", "other")),
        (("/a/x/given", "/b/x/given"), ("a-x-given", "b-x-given")),
        (("/x/given", "/y/given", "/x-given"), ("x-given", "y-given", "x-given-2")),
        (("/given", "/a/given"), ("given", "a-given")),
        (("/a/my set", "/b/my-set"), ("a-my set", "b-my-set")),
        (("/a-b/c", "/a/b/c", "/z/b/c"), ("a-b-c", "a-b-c-2", "z-b-c")),
    ],
)
def test_every_folder_has_a_name_of_its_own(paths, names):
    found = labels([Path(path) for path in paths])
    assert len({folder_name(name) for name in found.values()}) == len(paths)
    assert tuple(found.values()) == names


def test_folders_that_are_called_alike_share_no_cell(tmp_path, measured):
    boards = [write_board(tmp_path / parent / "x" / "given") for parent in ("a", "b")]
    (boards[1] / "test.txt").write_text("".join((boards[1] / "test.txt").read_text().splitlines(keepends=True)[1:]))
    result = graphrec.benchmark(boards, "item-knn", tmp_path / "out", k=5)
    assert [row.data for row in result.rows] == ["a-x-given", "b-x-given"] and len(measured) == 2
    assert result.cells[0].result["users"] == result.cells[1].result["users"] + 1
    assert not result.comparisons


USERS, ITEMS = 12, 24


@pytest.fixture
def rich(tmp_path):
    """A store of two behaviours, links, triples, times, weights of a half-life, and a feature."""
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    rows = [
        (f"u{u:02}", f"i{(2 * u + place) % ITEMS:02}", behavior, start + timedelta(days=place), 1.0 + u % 3, "test" if place == 10 else "train")
        for u in range(USERS)
        for place in range(11)
        for behavior in ("buy", "view")
    ]
    schema = ["user_id", "item_id", "behavior", "timestamp", "weight", "split"]
    events = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("weight").cast(pl.Float32))
    links = pl.DataFrame({"src": [f"u{u:02}" for u in range(USERS)], "dst": [f"u{(u + 1) % USERS:02}" for u in range(USERS)]})
    log = InteractionLog(
        events.lazy(),
        social=links.with_columns(weight=pl.lit(1.0, pl.Float32)),
        triples=pl.DataFrame({"head": [f"i{i:02}" for i in range(ITEMS)], "relation": "tagged", "tail": [f"t{i % 3}" for i in range(ITEMS)]}),
    )
    store = build(log, tmp_path / "rich", split="given", target_behavior="buy", half_life_days=5)
    store.add_feature("item", "vector", np.ones((ITEMS, 2), dtype=np.float32))
    return store


def test_what_a_weight_is_chosen_on_lacks_the_held_out_pairs_alone(rich):
    view = selection(rich)
    held, train, whole = (side.events(split) for side, split in ((view, "valid"), (view, "train"), (rich, "train")))
    assert held.group_by("user").len()["len"].to_list() == USERS * [2]  # a tenth of ten, bought and seen
    assert train.height + held.height == whole.height and train.columns == whole.columns
    assert whole.join(held, on=["user", "item"], how="anti").sort(whole.columns).equals(train.sort(whole.columns))
    assert view.interactions().timestamp is not None and len(set(view.interactions().weight.tolist())) > 3
    graph, before = view.graph(), rich.graph()
    for etype in before.canonical_etypes:
        fewer = before.num_edges(etype) - graph.num_edges(etype)
        assert fewer == (USERS if {etype[0], etype[2]} == {"user", "item"} else 0), etype
    assert view.features("item") == ["vector"] and view.manifest == rich.manifest


def test_a_model_that_reads_more_than_the_target_is_part_of_a_sum(rich, tmp_path, measured):
    names = []
    for model in ("social-lightgcn", "mb-cgcn"):
        names.append(str(tmp_path / f"{model}.toml"))
        Path(names[-1]).write_text(f'[model]\nname = "{model}"\nembedding_dim = 8\n[train]\nepochs = 2\nbatch_size = 64\n')
    result = graphrec.benchmark(rich.folder, f"sum:{names[0]}+{names[1]}", tmp_path / "out", k=5)
    assert not result.failures, [cell.error for cell in result.failures]
    assert len(result.cells[-1].result["shares"]) == 11


def test_of_few_items_one_is_held_out_and_of_one_none(tmp_path):
    rows = [(user, (user + place) % 6, "test" if place == 3 else "train") for user in range(6) for place in range(4)]
    held = selection(make_store(tmp_path / "few", rows)).events("valid")
    assert sorted(held["user_id"]) == list(range(6))
    with pytest.raises(StoreError, match="no user has two training items of the target behaviour"):
        selection(make_store(tmp_path / "one", [row for row in rows if (row[1] - row[0]) % 6 in (0, 3)]))
