"""The picture of node types and edge types says what the store holds; wrong suffixes are refused before any work."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.errors import ConfigError
from graphrec.graph.build import build
from graphrec.graph.info import graph_info
from graphrec.graph.metagraph import plot_metagraph
from tests.graph.small import make_log, ring


def words(path) -> list[str]:
    """The texts of an SVG in the order they are drawn."""
    return re.findall(r">([^<>\n]+)</(?:text|tspan)>", path.read_text(encoding="utf-8"))


def test_every_type_is_there_with_its_count(shop, tmp_path):
    plot_metagraph(graph_info(shop), tmp_path / "types.svg", "Shop")
    shown = words(tmp_path / "types.svg")
    for part in ("Shop", "user", "item", "entity", "12", "2", "view", "26 edges", "buy", "13 edges", "follows", "related",
                 "made_by", "1 edge", "part_of"):  # fmt: skip
        assert part in shown, part
    assert not any(text.startswith("rev_") for text in shown)


def test_an_edge_type_without_edges_says_so_and_many_share_an_arrow(tmp_path):
    triples = [(f"i{item:02d}", f"kind{kind}", "thing") for kind in range(8) for item in range(12 - kind)]
    social = pl.DataFrame({"src": ["ghost"], "dst": ["u01"], "weight": pl.Series([1.0], dtype=pl.Float32)})
    knowledge = pl.DataFrame(triples, schema=["head", "relation", "tail"], orient="row")
    log = make_log(ring(), social=social, triples=knowledge)
    store = build(log, tmp_path / "store", split={"method": "random", "valid": 0, "test": 0})
    plot_metagraph(graph_info(store), tmp_path / "types.svg")
    shown = words(tmp_path / "types.svg")
    assert "no edges" in shown and "kind0" in shown and "kind4" not in shown
    assert "4 other relations" in shown and f"{8 + 7 + 6 + 5} edges" in shown


def test_the_same_store_gives_the_same_file(shop, tmp_path):
    for name in ("a.svg", "b.svg"):
        plot_metagraph(graph_info(shop), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["types.jpg", "types"])
def test_another_suffix_is_refused(shop, tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.png or \.svg, got .*rename it"):
        plot_metagraph(graph_info(shop), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_graph_info_draws_it(shop, tmp_path):
    picture = tmp_path / "types.png"
    done = CliRunner().invoke(app, ["graph", "info", str(shop.folder), "--metagraph", str(picture), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metagraph"] == str(picture)
    assert len(np.unique(imread(picture)[..., :3].reshape(-1, 3), axis=0)) > 50
    done = CliRunner().invoke(app, ["graph", "info", "nowhere", "--metagraph", "types.pdf"])
    assert done.exit_code == 1 and "got the suffix '.pdf'" in done.stderr
