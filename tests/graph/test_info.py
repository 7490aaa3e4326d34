"""Statistics of a store, against numbers that are obvious and against networkx."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.errors import StoreError
from graphrec.graph.build import build
from graphrec.graph.convert import to_networkx
from graphrec.graph.info import degrees, graph_info, plot_degrees
from tests.graph.small import make_log, ring

TWO_CLIQUES = [(f"{side}{user}", f"{side}-item{item}", item) for side in "ab" for user in range(4) for item in range(6)]


def test_two_cliques(tmp_path):
    store = build(make_log(TWO_CLIQUES), tmp_path / "store", split={"method": "random", "valid": 0, "test": 0})
    info = graph_info(store)
    (relation,) = info.relations
    assert (relation.edges, relation.distinct, relation.density, relation.sources) == (48, 48, 0.5, 8)
    assert set(relation.source_degrees.values()) == {6.0} and set(relation.target_degrees.values()) == {4.0}
    assert (info.components, info.largest_component, info.isolated) == (2, 0.5, 0)
    assert info.metagraph == ["user ──interaction──> item"]
    assert (info.last - info.first).days == 5


def test_components_of_everything_equal_networkx(shop):
    info = graph_info(shop)
    graph = to_networkx(shop)
    components = list(nx.weakly_connected_components(graph))
    assert info.components == len(components)
    assert info.largest_component == max(map(len, components)) / graph.number_of_nodes()
    assert info.isolated == nx.number_of_isolates(graph)
    assert info.nodes == {"user": 12, "item": 12, "entity": 2}
    assert [part.relation for part in info.relations].count("buy") == 1
    assert json.loads(json.dumps(info.to_dict()))["first"].startswith("2024-01-01")


def test_statistics_of_links_within_one_type(tmp_path):
    links = pl.DataFrame({"src": ["u00", "u01", "u01", "u02"], "dst": ["u01", "u00", "u02", "u03"], "weight": [1.0] * 4})
    log = make_log(ring(), social=links.with_columns(pl.col("weight").cast(pl.Float32)))
    store = build(log, tmp_path / "store", split={"method": "random", "valid": 0, "test": 0})
    taken, follows = graph_info(store).relations
    assert (follows.reciprocity, follows.loops, taken.reciprocity) == (0.5, 0, None)
    assert (follows.isolated_sources, follows.isolated_targets) == (9, 8)
    assert follows.mean_source_degree == follows.mean_target_degree == 4 / 12
    assert (taken.mean_source_degree, taken.isolated_sources, taken.isolated_targets) == (5, 0, 0)


def test_repeated_events_count_once_in_degrees(tmp_path):
    rows = [*ring(), *[(user, item, day + 9) for user, item, day in ring()]]
    store = build(make_log(rows), tmp_path / "store", split={"method": "random", "valid": 0, "test": 0})
    (relation,) = graph_info(store).relations
    assert (relation.edges, relation.distinct, relation.density) == (120, 60, 60 / 144)
    assert [set(side.tolist()) for side in degrees(store)] == [{5}, {5}]


def test_the_plot_is_a_png_with_something_on_it(shop, tmp_path):
    plot_degrees(shop, tmp_path / "degrees.png")
    pixels = imread(tmp_path / "degrees.png")
    assert pixels.shape[1] == 1500 and len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 50
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        plot_degrees(shop, tmp_path / "file" / "degrees.png")


def test_the_plot_says_that_its_medians_leave_out_nodes_without_any(tmp_path, monkeypatch):
    rows = [(*row, "view") for row in ring()]
    rows += [(f"u{user:02d}", f"i{item:02d}", item, "buy") for user, count in enumerate([2, 2, 4, 3]) for item in range(count)]
    store = build(make_log(rows), tmp_path / "store", target_behavior="buy", split={"method": "random", "valid": 0, "test": 0})
    assert degrees(store)[0].tolist() == [2, 2, 4, 3] + 8 * [0]
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, *_, **__: drawn.append(self))
    plot_degrees(store, tmp_path / "degrees.png")
    users, items = drawn[0].axes
    assert users.get_ylabel() == "share with degree ≥ d, of those with any"
    assert users.get_legend().get_title().get_text() == "behaviour (nodes with any)"
    assert [line.get_text() for line in users.get_legend().get_texts()] == ["buy, median 2.5", "view, median 5"]
    assert items.get_legend().get_texts()[0].get_text() == "buy, median 3"
    (relation,) = (part for part in graph_info(store).relations if part.relation == "buy")
    assert relation.source_degrees["0.5"] == 0  # over all nodes


def test_a_behaviour_without_training_edges_is_drawn_as_none(shop, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("graphrec.graph.info.degrees", lambda store, behavior: (np.zeros(12, np.int64), np.zeros(12, np.int64)))
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, *_, **__: drawn.append(self))
    plot_degrees(shop, tmp_path / "degrees.png")
    assert drawn[0].axes[0].get_legend().get_texts()[0].get_text() == "buy, no edges"


def test_graph_info_on_the_command_line(shop, tmp_path):
    plot = tmp_path / "degrees.png"
    result = CliRunner().invoke(app, ["graph", "info", str(shop.folder), "--plot", str(plot), "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["nodes"]["entity"] == 2 and printed["plot"] == str(plot) and plot.exists()
    result = CliRunner().invoke(app, ["graph", "info", str(shop.folder)])
    assert "user ──follows──> user" in result.stdout and "1 connected component, " in result.stdout
    result = CliRunner().invoke(app, ["graph", "info", str(tmp_path / "nothing")])
    assert result.exit_code == 1 and "there is no graph store" in result.stderr
