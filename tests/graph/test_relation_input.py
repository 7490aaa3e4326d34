"""Links and behaviours that do not fit: counted with a reason at the build, named by the model that wants them."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from graphrec.errors import ConfigError, StoreError
from graphrec.graph.build import build
from graphrec.nn.relations import Relations
from tests.graph.small import make_log, ring


def social(*links) -> pl.DataFrame:
    frame = pl.DataFrame(links, schema=["src", "dst"], orient="row")
    return frame.with_columns(weight=pl.lit(1.0, pl.Float32))


def test_links_that_do_not_fit_are_counted_with_their_reasons(tmp_path):
    links = social(("u00", "u01"), ("u00", "ghost"), ("ghost", "phantom"), ("u02", "u02"), ("u00", "u01"), ("u01", "u00"))
    store = build(make_log(ring(), social=links), tmp_path / "store", split="leave_last_out")
    rejected = pl.read_parquet(store.folder / "rejected.parquet")
    assert rejected.select("table", "row", "reason").rows() == [
        ("social", 1, "user not in training"),
        ("social", 2, "user not in training"),
        ("social", 3, "user linked to itself"),
        ("social", 4, "link listed before"),
    ]
    assert "ghost" in rejected["raw"][0]
    relations = Relations.from_store(store)
    assert relations.edges["user", "follows", "user"].num_edges == 2
    assert set(relations.edges) == {("user", "interaction", "item"), ("user", "follows", "user")}


def test_links_none_of_which_fits_leave_a_relation_without_edges_that_is_named(tmp_path):
    links = social(("ghost", "u01"), ("u02", "u02"))
    store = build(make_log(ring(), social=links), tmp_path / "store", split="leave_last_out")
    relations = Relations.from_store(store)
    with pytest.raises(ConfigError, match=r"'follows' \(user to user\) has no edges in training.*rejected\.parquet, with reasons"):
        relations.social("follows", "model here")
    assert relations.select(None, "here") == [("user", "interaction", "item")]


def test_a_behaviour_that_only_the_held_out_sides_have_is_not_a_relation(tmp_path):
    rows = [(u, i, d, "buy", 1.0, "train") for u, i, d in ring()]
    rows += [("u00", "i09", 20, "buy", 1.0, "test"), ("u01", "i09", 20, "cart", 1.0, "valid")]
    store = build(make_log(rows), tmp_path / "store", split="given", target_behavior="buy")
    relations = Relations.from_store(store)
    assert store.behaviors == relations.behaviors == ["buy"]
    with pytest.raises(ConfigError, match=r"needs the relation 'cart', which the store lacks; it has buy \(user to item, 60"):
        relations.of_behavior("cart", "model here")


def test_a_target_behaviour_without_training_events_is_refused(tmp_path):
    rows = [(u, i, d, "view", 1.0, "train") for u, i, d in ring()] + [("u00", "i09", 20, "buy", 1.0, "test")]
    with pytest.raises(StoreError, match="leaves nothing to train on.* of the target behaviour"):
        build(make_log(rows), tmp_path / "store", split="given", target_behavior="buy")


def test_a_behaviour_missing_in_validation_still_trains_and_views_of_held_out_pairs_leave_training(tmp_path):
    rows = [(u, i, d, "view", 1.0, "train") for u, i, d in ring()]
    rows += [(u, i, d, "buy", 1.0, "train") for u, i, d in ring() if d < 3]
    rows += [(u, i, d, "buy", 1.0, "test") for u, i, d in ring() if d == 4]
    clean = build(make_log(rows), tmp_path / "clean", split="given", target_behavior="buy")
    leaky = build(make_log(rows), tmp_path / "leaky", split={"method": "given", "hide_pairs": False}, target_behavior="buy")
    edges = [Relations.from_store(store).edges["user", "view", "item"].num_edges for store in (clean, leaky)]
    assert edges == [48, 60]
    relations = Relations.from_store(clean)
    assert relations.behaviors == ["view", "buy"] and relations.target == ("user", "buy", "item")
    assert torch.equal(relations.edges["user", "buy", "item"].degree_dst, torch.full((12,), 3))
