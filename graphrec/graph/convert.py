"""To and from networkx and scipy.

Out of the house a graph goes with its original ids; into the house it comes as an `InteractionLog`, so that it takes
the same way as any log: `build(from_networkx(graph), "stores/mine")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import networkx as nx
import numpy as np
import polars as pl
from scipy import sparse

from graphrec.errors import LogError, unknown_name
from graphrec.graph.heterograph import EdgeType, reverse_name
from graphrec.graph.ids import Ids
from graphrec.graph.store import GraphStore
from graphrec.logs.table import EDGE_TABLES, EVENT_TYPES, InteractionLog

TIME = pl.Datetime("us", "UTC")
TABLES = {"events": tuple(EVENT_TYPES), **EDGE_TABLES}


def to_scipy(store: GraphStore, etype: EdgeType | str | None = None) -> sparse.csr_matrix:
    """Return the edges of one type as a CSR matrix (source nodes, target nodes), weights summed over parallel edges.

    Args:
        store: an open store.
        etype: a canonical edge type, or a relation name that occurs once; None means the target behaviour.

    Returns:
        float32 matrix with sorted indices; edges without weight count 1.

    Raises:
        ConfigError: there is no such edge type, or the name stands for several.
    """
    source, relation, target = _find_etype(store, store.target_behavior if etype is None else etype)
    if (source, target) == ("user", "item") and relation in store.behaviors:
        return store.train_matrix(relation)
    rows, columns, weight, _ = _edges(store.graph(), (source, relation, target))
    shape = store.manifest.nodes[source], store.manifest.nodes[target]
    values = np.ones(len(rows), dtype=np.float32) if weight is None else weight
    matrix = sparse.csr_matrix((values, (rows, columns)), shape=shape)
    matrix.sort_indices()
    return matrix


def from_scipy(
    matrix: sparse.spmatrix | sparse.sparray,
    user_ids: Ids | None = None,
    item_ids: Ids | None = None,
    behavior: str = "interaction",
) -> InteractionLog:
    """Make a log of a (users, items) matrix: one event per stored entry, with its value as weight, without times.

    Args:
        matrix: any scipy sparse matrix (U, I); duplicates are summed, explicit zeros dropped.
        user_ids: U ids; None means 0 … U-1.
        item_ids: I ids; None means 0 … I-1.
        behavior: the behaviour of the events.

    Raises:
        LogError: the matrix holds NaN or infinite values, or no entry.
        ValueError: the number of ids does not fit the shape.
    """
    entries = sparse.csr_matrix(matrix, copy=True)
    entries.sum_duplicates()
    entries.eliminate_zeros()
    entries = entries.tocoo()
    if entries.nnz == 0:
        raise LogError("the matrix has no entry, so there is no log; give one with stored values")
    if not np.isfinite(entries.data).all():
        raise LogError("the matrix holds NaN or infinite values; remove them first")
    ids = []
    for name, given, size in zip(("user", "item"), (user_ids, item_ids), entries.shape, strict=True):
        series = pl.Series(np.arange(size) if given is None else given)
        if len(series) != size:
            raise ValueError(
                f"{name}_ids must have {size} entries for a matrix of shape {entries.shape}, got {len(series)}"
            )
        ids.append(series.cast(pl.Int64) if series.dtype.is_integer() else series.cast(pl.String))
    events = pl.DataFrame(
        {
            "user_id": ids[0].gather(entries.row),
            "item_id": ids[1].gather(entries.col),
            "behavior": pl.Series([behavior]).new_from_index(0, entries.nnz),
            "timestamp": pl.Series([None], dtype=TIME).new_from_index(0, entries.nnz),
            "weight": pl.Series(entries.data).cast(pl.Float32),
        }
    )
    return InteractionLog(events=events.lazy(), source="scipy matrix")


def to_networkx(store: GraphStore, etypes: Sequence[EdgeType | str] | None = None) -> nx.MultiDiGraph:
    """Return the training graph as a networkx multigraph. Meant for graphs that Python objects can hold.

    A node is `(node type, original id)` with the attributes `ntype`, `id`, and `title` where items have one. An edge has its
    relation as key and as attribute `relation`, and `weight` and `timestamp` (a UTC datetime) where known.

    Args:
        store: an open store.
        etypes: edge types to take; None means all but the reverse ones of behaviours.
    """
    if etypes is None:
        backwards = {("item", reverse_name(behavior), "user") for behavior in store.behaviors}
        chosen = [etype for etype in store.canonical_etypes if etype not in backwards]
    else:
        chosen = [_find_etype(store, etype) for etype in etypes]
    result, graph, titles = nx.MultiDiGraph(), store.graph(), store.titles()
    names = {ntype: [(ntype, value) for value in store.ids(ntype).series.to_list()] for ntype in store.node_types}
    for ntype, nodes in names.items():
        result.add_nodes_from((node, {"ntype": ntype, "id": node[1]}) for node in nodes)
    if titles is not None:
        nx.set_node_attributes(result, dict(zip(names["item"], titles, strict=True)), "title")
    for source, relation, target in chosen:
        rows, columns, weight, timestamp = _edges(graph, (source, relation, target))
        times = [None] * len(rows) if timestamp is None else pl.Series(timestamp).cast(TIME).to_list()
        weights = [None] * len(rows) if weight is None else weight.tolist()
        for row, column, value, time in zip(rows.tolist(), columns.tolist(), weights, times, strict=True):
            attributes = {"relation": relation, "weight": value, "timestamp": time}
            known = {name: given for name, given in attributes.items() if given is not None}
            ends = names[source][row], names[target][column]
            key = relation if not result.has_edge(*ends, relation) else None  # a repeated event gets a number as key
            result.add_edge(*ends, key=key, **known)
    return result


def from_networkx(graph: nx.Graph, behavior: str = "interaction") -> InteractionLog:
    """Make a log of a networkx graph of any kind.

    Nodes say their type in the attribute `ntype` ("user", "item", "entity") or, as networkx does, in `bipartite` (0: user, 1:
    item). The original id is the attribute `id`, else the node itself. User–item edges become events (attributes
    `relation` → behaviour, `weight`, `timestamp` as datetime or seconds), user–user edges social links, item–item
    edges item relations, and edges with an entity triples. An undirected user–user or item–item edge goes both ways.

    Args:
        graph: the graph.
        behavior: the behaviour of user–item edges that name none.

    Raises:
        LogError: a node has no known type, or there is no user–item edge.
    """
    rows = _rows_by_table(graph, behavior)
    if not rows["events"]:
        raise LogError("the graph has no edge between a user and an item, so there is no log")
    weight = pl.col("weight").cast(pl.Float32)
    tables = {name: _table(values, TABLES[name]) for name, values in rows.items() if values}
    if "social" in tables:
        tables["social"] = tables["social"].with_columns(weight)
    events = tables.pop("events").with_columns(pl.col("timestamp").cast(TIME), weight)
    return InteractionLog(events=events.lazy(), source="networkx graph", **tables)


def _rows_by_table(graph: nx.Graph, behavior: str) -> dict[str, list[tuple]]:
    """The edges of `graph` as rows of the log's tables, by the types of their ends."""
    types = {node: _node_type(node, attributes) for node, attributes in graph.nodes(data=True)}
    ids = {node: attributes.get("id", node) for node, attributes in graph.nodes(data=True)}
    rows: dict[str, list[tuple]] = {name: [] for name in TABLES}
    for source, target, attributes in graph.edges(data=True):
        if (types[source], types[target]) == ("item", "user"):
            source, target = target, source
        kinds, ends = (types[source], types[target]), [(ids[source], ids[target])]
        if kinds[0] == kinds[1] and not graph.is_directed():
            ends.append((ids[target], ids[source]))
        relation, weight = attributes.get("relation"), float(attributes.get("weight", 1.0))
        if kinds == ("user", "item"):
            rows["events"].append((*ends[0], relation or behavior, _time(attributes.get("timestamp")), weight))
        elif kinds == ("user", "user"):
            rows["social"] += [(*pair, weight) for pair in ends]
        elif "user" in kinds:
            raise LogError(
                f"an edge joins a user and an entity ({ids[source]!r}, {ids[target]!r}); only items have entities"
            )
        else:
            name = "item_relations" if kinds == ("item", "item") else "triples"
            rows[name] += [(left, relation or "related", right) for left, right in ends]
    return rows


def _find_etype(store: GraphStore, etype: EdgeType | str) -> EdgeType:
    known = {"/".join(canonical): canonical for canonical in store.canonical_etypes}
    if isinstance(etype, str):
        matching = [canonical for canonical in known.values() if canonical[1] == etype]
        if len(matching) == 1:
            return matching[0]
        raise unknown_name("relation (or one that stands for several edge types)", etype, known)
    if tuple(etype) not in known.values():
        raise unknown_name("edge type", "/".join(etype), known)
    return tuple(etype)


def _edges(graph: Any, etype: EdgeType) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    source, target = graph.edges(etype=etype, order="eid")
    data = graph.edges[etype].data
    weight, timestamp = (data[name].numpy() if name in data else None for name in ("weight", "timestamp"))
    return source.numpy(), target.numpy(), weight, timestamp


def _node_type(node: Any, attributes: dict[str, Any]) -> str:
    ntype = attributes.get("ntype", {0: "user", 1: "item"}.get(attributes.get("bipartite")))
    if ntype not in ("user", "item", "entity"):
        raise LogError(
            f"node {node!r} needs the attribute ntype = user, item or entity (or bipartite = 0 or 1), got {attributes}"
        )
    return ntype


def _time(value: datetime | float | None) -> int | None:
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    return None if value is None else round(value * 1e6)


def _table(rows: list[tuple], names: tuple[str, ...]) -> pl.DataFrame:
    columns = []
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        if name in ("weight", "timestamp"):
            columns.append(pl.Series(name, values, dtype=pl.Float64 if name == "weight" else pl.Int64))
            continue
        whole = name not in ("behavior", "relation") and all(isinstance(value, int | np.integer) for value in values)
        columns.append(pl.Series(name, values if whole else [str(value) for value in values]))
    return pl.DataFrame(columns)
