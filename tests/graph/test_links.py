"""Homogeneous graphs for link prediction: edge lists, stores, splits, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from graphrec.errors import ConfigError, LogError, UnsupportedError
from graphrec.graph.build import build
from graphrec.graph.links import open_link_graph, read_edges, sample_non_edges, split_links, store_edges
from graphrec.link.known import KnownGraph
from graphrec.logs.link_graph import HeldOut, LinkGraph
from graphrec.logs.table import InteractionLog
from tests.logs.test_ogb import collab
from tests.notes import Notes

RING = np.array([(node, (node + 1) % 40) for node in range(40)])


def keys(*tables: np.ndarray) -> set[tuple[int, int]]:
    return {tuple(sorted(pair)) for table in tables for pair in table.tolist()}


def test_a_split_parts_the_edges_and_its_negatives_are_no_edges():
    graph = split_links(RING, 40, valid_share=0.1, test_share=0.2, seed=1)
    parts = graph.train, graph.valid.positives, graph.test.positives
    assert [len(part) for part in parts] == [28, 4, 8]
    assert keys(*parts) == keys(RING) and sum(map(len, parts)) == 40
    negatives = keys(graph.valid.negatives, graph.test.negatives)
    assert len(negatives) == 12 and not negatives & keys(RING) and all(u != v for u, v in negatives)


def test_the_seed_fixes_the_split():
    same = [split_links(RING, 40, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(same[0].train, same[1].train)
    assert np.array_equal(same[0].test.negatives, same[1].test.negatives)
    assert not np.array_equal(same[0].train, same[2].train)


def test_loops_and_repetitions_are_dropped_and_counted():
    messy = np.concatenate([RING, RING[:3], RING[:5, ::-1], [[7, 7]]])
    undirected, directed = (split_links(messy, 40, directed=flag) for flag in (False, True))
    assert undirected.dropped == {"self-loops": 1, "duplicates": 8}
    assert directed.dropped == {"self-loops": 1, "duplicates": 3}
    for graph, distinct in ((undirected, 40), (directed, 45)):
        assert sum(map(len, (graph.train, graph.valid.positives, graph.test.positives))) == distinct
    assert (undirected.train[:, 0] < undirected.train[:, 1]).all() and directed.directed


@pytest.mark.parametrize("option", [{"directed": True}, {"valid_share": 0.05}, {"test_share": 0.1}])
def test_an_ogbl_folder_has_its_own_split_and_direction_and_says_what_is_not_read(tmp_path, option):
    folder, notes = collab(tmp_path), Notes()
    assert len(open_link_graph(folder, progress=notes).train) == 4
    assert notes.lines[0].endswith("dropped 1 self-loops, 2 duplicates; the years of its edges are not read")
    with pytest.raises(ConfigError, match=rf"own split and its own direction of links, got {next(iter(option))} = .*leave .* out"):
        open_link_graph(folder, **option)


def test_an_empty_side_and_shares_out_of_range_are_refused():
    with pytest.raises(LogError, match="the split has no valid edges; give more edges or hold out another share"):
        split_links(RING[:9], 40)
    with pytest.raises(ConfigError, match="leave something to train on, got 0.5 and 0.5"):
        split_links(RING, 40, valid_share=0.5, test_share=0.5)
    with pytest.raises(LogError, match=r"edges must name nodes 0\.\.38, got 0\.\.39"):
        split_links(RING, 39)


def test_too_dense_a_graph_has_no_non_edges_to_draw():
    complete = np.stack(np.triu_indices(8, 1), axis=1)
    with pytest.raises(LogError, match="there are too few; hold out a smaller share"):
        split_links(complete, 8, valid_share=0.2, test_share=0.2)
    every = sample_non_edges(complete[1:], 8, 1, False, np.random.default_rng(0))
    assert every.tolist() == [[0, 1]]


def test_edge_lists_keep_their_ids(tmp_path):
    names = [f"p{node:02d}" for node in range(40)]
    path = tmp_path / "trust.csv"
    path.write_text("truster,trusted\n" + "".join(f"{names[u]},{names[v]}\n" for u, v in RING))
    graph = open_link_graph(path, valid_share=0.1)
    assert graph.num_nodes == 40 and graph.ids.to_list() == names
    assert KnownGraph.of(graph).nodes_of(["p07"]).tolist() == [7]
    numbers = tmp_path / "trust.txt"
    numbers.write_text("".join(f"{10 * u}\t{10 * v}\n" for u, v in RING))
    edges, num_nodes, ids = read_edges(numbers)
    assert ids.dtype == pl.Int64 and ids.to_list() == list(range(0, 400, 10)) and num_nodes == 40
    assert edges.tolist() == RING.tolist()


def test_a_log_of_users_and_items_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("src,dst\n" + "".join(f"u{u},i{u % 7}\n" for u in range(30)))
    with pytest.raises(UnsupportedError, match="needs edges between nodes of one type, got sources of which none is a target"):
        open_link_graph(path)


@pytest.fixture
def store(tmp_path):
    def make(social: pl.DataFrame | None):
        rows = [(user, item) for user in range(40) for item in range(user % 3, 9, 3)]
        events = pl.DataFrame({
            "user_id": [user for user, _ in rows], "item_id": [item for _, item in rows], "behavior": "view",
            "timestamp": pl.Series([None] * len(rows), dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series([1.0] * len(rows), dtype=pl.Float32), "split": "train",
        })  # fmt: skip
        return build(InteractionLog(events.lazy(), social=social), tmp_path / "store", split="given")

    return make


def test_the_social_links_of_a_store_are_a_graph(store):
    social = pl.DataFrame({"src": RING[:, 0], "dst": RING[:, 1], "weight": pl.Series([1.0] * 40, dtype=pl.Float32)})
    made = store(social)
    edges, num_nodes, ids = store_edges(made)
    assert keys(edges) == keys(RING) and num_nodes == 40 and ids.to_list() == list(range(40))
    assert len(open_link_graph(made.folder, valid_share=0.1).train) == 32
    with pytest.raises(UnsupportedError, match=r"got the edge type \('user', 'view', 'item'\)"):
        store_edges(made, ("user", "view", "item"))
    with pytest.raises(ConfigError, match="unknown edge type"):
        store_edges(made, ("user", "trusts", "user"))


def test_a_store_of_users_and_items_alone_is_refused(store):
    made = store(None)
    with pytest.raises(UnsupportedError, match=r"needs edges between nodes of one type, got a store with the edge types"):
        open_link_graph(made.folder)


def test_a_link_graph_checks_what_it_is_given():
    held = HeldOut(np.array([[0, 1]]), np.array([[0, 2]]))
    train = np.array([[0, 2], [1, 2]])
    assert LinkGraph(3, train, held, held).features is None
    with pytest.raises(ValueError, match="use clean_edges"):
        LinkGraph(3, train[::-1], held, held)
    with pytest.raises(ValueError, match="use clean_edges"):
        LinkGraph(3, np.array([[2, 1]]), held, held)
    with pytest.raises(ValueError, match="either negatives or negative_targets"):
        LinkGraph(3, train, HeldOut(np.array([[0, 1]])), held)
    with pytest.raises(LogError, match="needs negative targets for each of its 1 links"):
        LinkGraph(3, train, HeldOut(np.array([[0, 1]]), negative_targets=np.empty((1, 0), np.int64)), held)
    with pytest.raises(LogError, match="weight must have one value for each of the 2 training edges"):
        LinkGraph(3, train, held, held, weight=np.ones(3, np.float32))
    with pytest.raises(LogError, match=r"one row for each of the 3 nodes, got shape \(2, 4\)"):
        LinkGraph(3, train, held, held, features=np.ones((2, 4), np.float32))
