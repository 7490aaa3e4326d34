"""To and from networkx and scipy, there and back."""

from __future__ import annotations

from datetime import timedelta

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from graphrec.errors import ConfigError, LogError
from graphrec.graph.build import build
from graphrec.graph.convert import from_networkx, from_scipy, to_networkx, to_scipy
from tests.graph.small import START

WHOLE = {"split": {"method": "random", "valid": 0, "test": 0}}


def test_scipy_there_and_back(tmp_path):
    matrix = sparse.random(9, 7, 0.5, random_state=0, dtype=np.float32, format="coo")
    users, items = [f"u{n}" for n in range(9)], np.arange(7) * 10
    store = build(from_scipy(matrix, users, items), tmp_path / "store", **WHOLE)
    rows, columns = store.ids("user").index_of(users), store.ids("item").index_of(items)
    assert (store.train_matrix().toarray()[np.ix_(rows, columns)] == matrix.toarray()).all()
    assert (to_scipy(store) != store.train_matrix()).nnz == 0


def test_scipy_of_every_edge_type(shop):
    assert (to_scipy(shop, "buy") != shop.train_matrix("buy")).nnz == 0
    assert (to_scipy(shop, ("item", "rev_buy", "user")).T != shop.train_matrix("buy")).nnz == 0
    follows = to_scipy(shop, "follows").toarray()
    assert follows[0, 1] == 1 and follows[2, 3] == 2 and follows.sum() == 3
    assert to_scipy(shop, "made_by").shape == (12, 2)
    with pytest.raises(ConfigError, match="'byu'.*user/buy/item"):
        to_scipy(shop, "byu")
    with pytest.raises(ConfigError, match="unknown edge type 'item/buy/user'"):
        to_scipy(shop, ("item", "buy", "user"))


def test_a_matrix_that_is_no_log():
    with pytest.raises(LogError, match="no entry"):
        from_scipy(sparse.csr_matrix((3, 3)))
    with pytest.raises(LogError, match="NaN or infinite"):
        from_scipy(sparse.csr_matrix([[np.nan, 1]]))
    with pytest.raises(ValueError, match="user_ids must have 2 entries"):
        from_scipy(sparse.eye(2), user_ids=["a"])


def test_networkx_there_and_back(shop, tmp_path):
    graph = to_networkx(shop)
    assert graph.number_of_nodes() == 12 + 12 + 2
    assert graph.nodes["item", "i01"] == {"ntype": "item", "id": "i01", "title": "One"}
    edge = graph.edges[("user", "u01"), ("item", "i01"), "buy"]
    assert edge == {"relation": "buy", "weight": 2.0, "timestamp": START + timedelta(hours=12)}
    again = build(from_networkx(graph), tmp_path / "store", target_behavior="buy", **WHOLE)
    assert again.manifest.nodes == shop.manifest.nodes
    assert sorted(again.canonical_etypes) == sorted(shop.canonical_etypes)
    for behavior in ("view", "buy"):
        assert (again.train_matrix(behavior) != shop.train_matrix(behavior)).nnz == 0
        first, second = again.interactions("train", behavior), shop.interactions("train", behavior)
        assert first.timestamp.tolist() == second.timestamp.tolist()
    for relation in ("follows", "related", "made_by", "part_of"):
        assert (to_scipy(again, relation) != to_scipy(shop, relation)).nnz == 0


def test_chosen_edge_types_only(shop):
    graph = to_networkx(shop, ["follows"])
    assert {relation for _, _, relation in graph.edges(keys=True)} == {"follows"}


def test_an_undirected_bipartite_graph_is_a_log(tmp_path):
    graph = nx.Graph([("ann", "tea"), ("cake", "ann"), ("bob", "tea")])
    nx.set_node_attributes(graph, {"ann": 0, "bob": 0, "tea": 1, "cake": 1}, "bipartite")
    store = build(from_networkx(graph, behavior="likes"), tmp_path / "store", **WHOLE)
    assert store.behaviors == ["likes"]
    assert store.ids("user").series.to_list() == ["ann", "bob"] and store.ids("item").series.to_list() == [
        "cake",
        "tea",
    ]
    assert store.train_matrix().toarray().tolist() == [[1, 1], [0, 1]]


def test_a_graph_that_is_no_log():
    with pytest.raises(LogError, match="node 'a' needs the attribute ntype"):
        from_networkx(nx.Graph([("a", "b")]))
    friends = nx.Graph([("a", "b")])
    nx.set_node_attributes(friends, "user", "ntype")
    with pytest.raises(LogError, match="no edge between a user and an item"):
        from_networkx(friends)
    friends.nodes["b"]["ntype"] = "entity"
    with pytest.raises(LogError, match="an edge joins a user and an entity"):
        from_networkx(friends)
