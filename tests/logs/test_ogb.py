"""ogbl folders: small ones in exactly the layout that ogb's loader reads, and what is said where one is not right."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphrec.errors import LogError, UnsupportedError
from graphrec.logs.ogb import read_link_graph

EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (1, 0), (2, 2), (0, 1)])  # one reversed, one loop, one repeated
WEIGHT = np.arange(1, 8)
YEAR = np.array([2010, 2011, 2012, 2013, 2017, 2000, 2015])
NODES = 6


def write_csv(folder: Path, **tables: np.ndarray) -> None:
    (folder / "raw").mkdir(parents=True)
    for name, table in tables.items():
        with gzip.open(folder / "raw" / f"{name.replace('_', '-')}.csv.gz", "wt") as file:
            np.savetxt(file, np.asarray(table).reshape(len(table), -1), "%g", ",")


def write_split(folder: Path, kind: str, **sides: dict) -> None:
    path = folder / "split" / kind
    path.mkdir(parents=True)
    for side, content in sides.items():
        torch.save(content, path / f"{side}.pt")


def held_out(start: int) -> dict:
    return {"edge": np.array([[start, 5]]), "edge_neg": np.array([[start, 4], [5, 3]])}


def make(root: Path, name: str, split: str, train: dict | None = None, **extra: np.ndarray) -> Path:
    """Write a data set of six nodes; the raw edges are those of the training split."""
    folder = root / name
    write_csv(folder, edge=EDGES, num_node_list=[NODES], num_edge_list=[len(EDGES)], **extra)
    (folder / "RELEASE_v1.txt").touch()
    (folder / "processed").mkdir()
    write_split(folder, split, train=train or {"edge": EDGES}, valid=held_out(0), test=held_out(1))
    return folder


def collab(root: Path, features: np.ndarray | None = None, train: dict | None = None) -> Path:
    features = np.arange(NODES * 3).reshape(NODES, 3) / 2 + 0.25 if features is None else features
    train = train or {"edge": EDGES, "weight": WEIGHT, "year": YEAR}
    folder = make(root, "ogbl_collab", "time", train, node_feat=features)
    for name, values in (("edge_weight", WEIGHT), ("edge_year", YEAR)):
        with gzip.open(folder / "raw" / f"{name}.csv.gz", "wt") as file:
            np.savetxt(file, values, "%d")
    return folder


def citation2(root: Path) -> Path:
    def cites(source, target, others=None):
        side = {"source_node": np.array(source), "target_node": np.array(target)}
        return side if others is None else {**side, "target_node_neg": np.array(others)}

    folder = make(root, "ogbl_citation2", "time", cites(*EDGES.T), node_feat=np.ones((NODES, 2)))
    with gzip.open(folder / "raw" / "node_year.csv.gz", "wt") as file:
        np.savetxt(file, np.full(NODES, 2001), "%d")
    torch.save(cites([0, 1], [5, 5], [[1, 2, 3], [2, 3, 4]]), folder / "split" / "time" / "valid.pt")
    torch.save(cites([2], [5], [[0, 1, 4]]), folder / "split" / "time" / "test.pt")
    return folder


def vessel(root: Path) -> Path:
    folder = root / "ogbl_vessel"
    (folder / "raw").mkdir(parents=True)
    arrays = {"edge_index": EDGES.T, "num_nodes_list": np.array([NODES]), "num_edges_list": np.array([len(EDGES)])}
    np.savez(folder / "raw" / "data.npz", **arrays, node_feat=np.ones((NODES, 3), np.float32))
    write_split(folder, "spatial", train={"edge": EDGES}, valid=held_out(0), test=held_out(1))
    return folder


def test_collab_merges_repeated_edges_and_keeps_features_weights_and_years(tmp_path):
    folder = collab(tmp_path)
    before = sorted(folder.rglob("*"))
    graph = read_link_graph(folder)
    assert not graph.directed and graph.num_nodes == NODES and graph.metric == "hits@50"
    assert graph.train.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert graph.dropped == {"self-loops": 1, "duplicates": 2}
    assert graph.weight.tolist() == [1 + 5 + 7, 2, 3, 4] and graph.weight.dtype == np.float32
    assert graph.year.tolist() == [2017, 2011, 2012, 2013]
    assert graph.features.dtype == np.float32 and graph.features[1].tolist() == [1.75, 2.25, 2.75]
    assert graph.valid.positives.tolist() == [[0, 5]] and graph.test.positives.tolist() == [[1, 5]]
    assert graph.test.negative_pairs.tolist() == [[1, 4], [5, 3]]
    assert sorted(folder.rglob("*")) == before, "the folder was written to"
    assert read_link_graph(tmp_path).train.tolist() == graph.train.tolist()  # the root holds one data set


def test_ddi_has_tensors_and_nothing_but_edges(tmp_path):
    train = {"edge": torch.from_numpy(EDGES)}
    graph = read_link_graph(make(tmp_path, "ogbl_ddi", "target", train))
    assert graph.features is None and graph.weight is None and graph.year is None and graph.metric == "hits@20"
    assert len(graph.train) == 4


def test_citation2_is_directed_and_has_negatives_for_each_link(tmp_path):
    graph = read_link_graph(citation2(tmp_path))
    assert graph.directed and graph.metric == "mrr"
    assert graph.train.tolist() == [[0, 1], [1, 0], [1, 2], [2, 3], [3, 4]]
    assert graph.dropped == {"self-loops": 1, "duplicates": 1}
    assert graph.valid.negative_targets.tolist() == [[1, 2, 3], [2, 3, 4]] and graph.valid.negatives is None
    assert graph.test.negative_pairs.tolist() == [[2, 0], [2, 1], [2, 4]]


def test_vessel_is_read_from_its_binary_file(tmp_path):
    graph = read_link_graph(vessel(tmp_path))
    assert graph.metric == "auc" and len(graph.train) == 4 and graph.features.shape == (NODES, 3)


def test_a_missing_folder_or_file_says_what_is_expected_and_where_to_get_it(tmp_path):
    with pytest.raises(LogError, match=r"no such folder.*raw/edge.csv.gz.*split/time/train.pt.*https://ogb.stanford.edu"):
        read_link_graph(tmp_path / "ogbl_collab")
    folder = collab(tmp_path)
    (folder / "split" / "time" / "valid.pt").unlink()
    with pytest.raises(LogError, match=r"split/time/valid.pt is missing"):
        read_link_graph(folder)
    with pytest.raises(LogError, match=r"unknown data set 'ogbl-colab'; choose one of ogbl-collab"):
        read_link_graph(folder, "ogbl-colab")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogError, match="must tell the data set, and it holds no data set's folder"):
        read_link_graph(tmp_path / "empty")


def test_a_data_set_with_several_edge_types_is_refused(tmp_path):
    (tmp_path / "ogbl_biokg").mkdir()
    with pytest.raises(UnsupportedError, match="nodes of one type, got ogbl-biokg"):
        read_link_graph(tmp_path / "ogbl_biokg")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((NODES - 1, 2)) / 3, r"one row for each of the 6 nodes, got shape \(5, 2\)"),
        (np.where(np.arange(NODES * 2).reshape(NODES, 2) == 5, np.nan, 0.5), "1 rows are not; the first is that of node 2"),
    ],
)
def test_broken_features_are_refused(tmp_path, features, message):
    with pytest.raises(LogError, match=message):
        read_link_graph(collab(tmp_path, features))


def test_an_empty_split_and_unknown_nodes_are_refused(tmp_path):
    empty = {"edge": EDGES[:0], "weight": WEIGHT[:0], "year": YEAR[:0]}
    with pytest.raises(LogError, match="the split has no train edges"):
        read_link_graph(collab(tmp_path / "a", train=empty))
    with pytest.raises(LogError, match=r"training edges must name nodes 0\.\.5, got 0\.\.6"):
        read_link_graph(make(tmp_path / "b", "ogbl_ddi", "target", {"edge": np.array([(0, 6)])}))


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_split_that_carries_code_is_not_executed(tmp_path):
    folder = collab(tmp_path)
    torch.save({"edge": Evil(str(tmp_path / "executed"))}, folder / "split" / "time" / "train.pt")
    with pytest.raises(LogError, match="cannot be read without executing what it says"):
        read_link_graph(folder)
    assert not (tmp_path / "executed").exists()


def test_reading_opens_no_connection_and_leaves_no_trace_in_the_process(tmp_path):
    folder = collab(tmp_path)
    code = (
        "import os, socket, sys, threading\n"
        "def refuse(*_, **__): print('connection'); raise OSError('no network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from graphrec.logs.ogb import read_link_graph\n"
        "print(len(read_link_graph(sys.argv[1]).train))\n"
        "print([t.name for t in threading.enumerate() if 'check' in t.name], os.environ.get('OUTDATED_IGNORE'),\n"
        "      sys.modules.get('outdated', 'not there'), os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n[] None not there None\n"
