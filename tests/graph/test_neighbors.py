"""The neighbourhood of a node: the right links, fairly chosen, found by id, printed and drawn."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.errors import ConfigError, UnknownIdError
from graphrec.graph.build import build
from graphrec.graph.neighbors import Neighbourhood, neighbourhood
from graphrec.graph.neighbors_plot import plot_neighbourhood
from tests.graph.small import make_log, ring, shop_log
from tests.graph.test_metagraph import words

NO_SPLIT = {"method": "random", "valid": 0, "test": 0}


def hop(found: Neighbourhood, number: int) -> set:
    return {node.id for node in found.nodes if node.hop == number}


def told(found: Neighbourhood) -> set[tuple]:
    """Links in words: inner id, relation, outward, outer id."""
    return {(found.nodes[one.inner].id, one.relation, one.outward, found.nodes[one.outer].id) for one in found.links}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The shop log without held-out events."""
    return build(shop_log(), tmp_path_factory.mktemp("stores") / "whole", target_behavior="buy", split=NO_SPLIT)


def test_one_hop_has_every_edge_type_with_direction_weight_and_time(whole):
    found = neighbourhood(whole, "i00", hops=1)
    assert (found.centre.ntype, found.centre.title, found.centre.hop) == ("item", "Zero", 0)
    taken = {("i00", "view", False, user) for user in ("u00", "u08", "u09", "u10", "u11")}
    bought = {("i00", "buy", False, user) for user in ("u00", "u08", "u10")}
    assert told(found) == taken | bought | {("i00", "related", True, "i01"), ("i00", "made_by", True, "acme")}
    [link] = [one for one in found.links if one.relation == "buy" and found.nodes[one.outer].id == "u10"]
    assert (link.weight, link.edges, link.time) == (2.0, 1, datetime(2024, 1, 3, 12, tzinfo=timezone.utc))
    [link] = [one for one in found.links if one.relation == "made_by"]
    assert (link.weight, link.time) == (None, None)
    assert all(reach.found == reach.shown for reach in found.reaches)


def test_further_hops_reach_what_was_not_reached_before(whole):
    found = neighbourhood(whole, "acme", hops=3)
    assert [hop(found, number) for number in (0, 1)] == [{"acme"}, {"i00", "cold", "group"}]
    assert hop(found, 2) == {"u00", "u08", "u09", "u10", "u11", "i01", "i02"}
    assert ("acme", "made_by", False, "i00") in told(found) and ("u00", "follows", True, "u01") in told(found)
    assert len(found.nodes) == len({(node.ntype, node.id) for node in found.nodes})
    assert all(found.nodes[one.outer].hop == found.nodes[one.inner].hop + 1 for one in found.links)


def test_a_limit_is_shared_among_the_edge_types_and_keeps_the_strongest(tmp_path):
    rows = [("u", f"i{item}", item, "view", float(item)) for item in range(30)]
    rows += [("u", "i3", 1, "buy", 1.0), ("v", "i3", 1, "buy", 1.0)]
    social = pl.DataFrame({"src": ["u"], "dst": ["v"], "weight": pl.Series([1.0], dtype=pl.Float32)})
    store = build(make_log(rows, social=social), tmp_path / "store", split=NO_SPLIT, target_behavior="buy")
    found = neighbourhood(store, "u", hops=1, limit=4)
    assert hop(found, 1) == {"i3", "i29", "v", "i28"}
    shown = {(reach.relation, reach.outward): (reach.found, reach.shown) for reach in found.reaches}
    assert shown == {("buy", True): (1, 1), ("view", True): (30, 3), ("follows", True): (1, 1)}


def test_repeated_events_are_one_link(tmp_path):
    rows = [*ring(), *[(user, item, day + 9) for user, item, day in ring()]]
    found = neighbourhood(build(make_log(rows), tmp_path / "store", split=NO_SPLIT), "u00", hops=1)
    assert len(found.links) == 5 and {(link.edges, link.weight) for link in found.links} == {(2, 2.0)}
    assert max(link.time for link in found.links) == datetime(2024, 1, 14, tzinfo=timezone.utc)


def test_ids_that_several_types_have_or_none(tmp_path):
    store = build(make_log([(str(a), str(b), b) for a in range(6) for b in range(6)]), tmp_path / "store", split=NO_SPLIT)
    with pytest.raises(ConfigError, match="'3' is that of a node of type user and of a node of type item.*--ntype user"):
        neighbourhood(store, "3")
    assert neighbourhood(store, "3", "item").centre.ntype == "item"
    with pytest.raises(UnknownIdError, match=r"type item .* has the id 'x'; ids look like item '0'"):
        neighbourhood(store, "x", "item")


def test_unknown_ids_name_the_nearest_of_each_type(whole):
    with pytest.raises(UnknownIdError, match=r"no node of type user or item or entity .*'u1'; the nearest are user 'u11'"):
        neighbourhood(whole, "u1")
    with pytest.raises(ConfigError, match="unknown node type 'usr'; choose one of entity, item, user; did you mean 'user'"):
        neighbourhood(whole, "u01", "usr")


@pytest.mark.parametrize(("setting", "message"), [({"hops": 0}, "hops must be 1 to 4, got 0"), ({"hops": 5}, "got 5"),
                                                  ({"limit": 0}, "limit must be at least 1")])  # fmt: skip
def test_numbers_out_of_range(whole, setting, message):
    with pytest.raises(ConfigError, match=message):
        neighbourhood(whole, "u00", **setting)


def test_the_picture_has_every_label_and_the_legend(whole, tmp_path):
    found = neighbourhood(whole, "i00", hops=2)
    plot_neighbourhood(found, tmp_path / "around.svg")
    shown = words(tmp_path / "around.svg")
    assert "What item Zero (i00) is linked with in training" in shown and "1 step away: 7 nodes" in shown
    for node in found.nodes:
        assert node.label in shown
    for text in ("user", "item", "entity", "made_by (2 of 2)", "follows (1 of 1)"):
        assert text in shown
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        plot_neighbourhood(found, tmp_path / "around.pdf")


def test_long_titles_are_cut_and_ids_are_not(tmp_path):
    items = pl.DataFrame({"item_id": ["i00"], "title": ["A very $long$ title that has no end to it at all"]})
    store = build(make_log(ring(), items=items), tmp_path / "store", split=NO_SPLIT)
    plot_neighbourhood(neighbourhood(store, "i00", hops=1), tmp_path / "around.svg")
    assert "A very $long$ title that ha… (i00)" in words(tmp_path / "around.svg")


def test_the_command_prints_and_draws(whole, tmp_path):
    picture = tmp_path / "around.png"
    arguments = ["graph", "neighbors", str(whole.folder), "u00", "--hops", "1", "--out", str(picture)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for text in ("──follows──>", "u01", "Zero", "2024-01-01 12:00", "Reached", str(picture)):
        assert text in done.stdout
    assert len(np.unique(imread(picture)[..., :3].reshape(-1, 3), axis=0)) > 50
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert printed["nodes"][0]["id"] == "u00" and printed["picture"] == str(picture)
    assert {"relation": "follows", "outward": True} == {key: printed["links"][-1][key] for key in ("relation", "outward")}


def test_a_node_without_edges_says_so(tmp_path):
    rows = [*ring(), ("u00", "i00", 9, "buy"), ("u01", "i01", 9, "buy")]
    triples = pl.DataFrame([("i00", "by", "a")], schema=["head", "relation", "tail"], orient="row")
    store = build(make_log(rows, triples=triples), tmp_path / "store", split=NO_SPLIT, target_behavior="buy")
    found = neighbourhood(store, "a", hops=1)
    lonely = Neighbourhood(found.nodes[:1], [], [])
    plot_neighbourhood(lonely, tmp_path / "alone.png")
    assert (tmp_path / "alone.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["u00", "--hops", "0"], "hops must be 1 to 4, got 0"),
        (["u00", "--out", "around.jpeg"], "got the suffix '.jpeg' in 'around.jpeg'; rename it"),
        (["u0", "--ntype", "user"], "the nearest are user 'u10', 'u09', 'u08'"),
    ],
)
def test_mistakes_end_in_one_message(whole, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["graph", "neighbors", str(whole.folder), *arguments])
    assert done.exit_code == 1 and message in done.stderr and "Traceback" not in done.output
    assert not list(tmp_path.iterdir())
