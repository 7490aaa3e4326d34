"""Homogeneous graphs for link prediction: from an edge list or a store's social links, with a seeded random split."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from graphrec.errors import ConfigError, LogError, unknown_name
from graphrec.graph.heterograph import EdgeType
from graphrec.graph.ids import IdMap, contained
from graphrec.graph.sides import FOLLOWS
from graphrec.graph.store import GraphStore
from graphrec.logs.link_graph import HeldOut, LinkGraph, clean_edges, refuse_two_types
from graphrec.logs.ogb import is_ogb_folder, read_link_graph
from graphrec.logs.raw import Source
from graphrec.logs.side_tables import cast_id, read_table
from graphrec.logs.source import SideTable
from graphrec.progress import SILENT, Reporter

_ATTEMPTS = 200  # rounds of drawing non-edges before a graph counts as too dense


def open_link_graph(
    source: str | os.PathLike[str],
    *,
    directed: bool = False,
    valid_share: float | None = None,
    test_share: float | None = None,
    seed: int = 0,
    progress: Reporter = SILENT,
) -> LinkGraph:
    """Read a graph from whatever `source` is: an ogbl folder with its own split, a store, or an edge list.

    Args:
        source: the folder or file.
        directed, valid_share, test_share, seed: as for `split_links`, None for its shares; an ogbl folder has its own split and
            direction.
        progress: told what was dropped.

    Raises:
        LogError: the source is missing or damaged, or its split is empty.
        UnsupportedError: the graph has several node types.
        ConfigError: a share is out of range, or a share or `directed` is given for an ogbl folder.
    """
    path = Path(source)
    wanted = {"directed": directed or None, "valid_share": valid_share, "test_share": test_share}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if (path / "config.json").is_file() and (path / "model").is_dir():
        raise LogError(
            f"{path} is the run of a recommender, and links are predicted from an edge list, a graph store, an ogbl folder or a "
            f"saved link predictor; users for users by a run: graphrec recommend {path} USER --friends"
        )
    if path.is_dir() and not (path / "manifest.json").is_file() or is_ogb_folder(path):
        if wanted:
            given = ", ".join(f"{name} = {value}" for name, value in wanted.items())
            rule = f"{path}: an ogbl folder has its own split and its own direction of links, got {given}"
            raise ConfigError(f"{rule}; leave {', '.join(wanted)} out (--directed, --valid, --test)")
        graph = read_link_graph(path)
    else:
        edges, num_nodes, ids = store_edges(GraphStore.open(path)) if path.is_dir() else read_edges(path, progress)
        graph = split_links(
            edges,
            num_nodes,
            **wanted,
            seed=seed,
            ids=ids,
            source=str(path),
        )
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in graph.dropped.items() if count)
    unread = "" if graph.year is None else "; the years of its edges are not read"
    progress.note(repr(graph) + (f"; dropped {dropped}" if dropped else "") + unread)
    return graph


def read_edges(path: str | os.PathLike[str], progress: Reporter = SILENT) -> tuple[np.ndarray, int, pl.Series]:
    """Read an edge list: delimited text, Parquet or JSON lines, plain or compressed, source and target first.

    Returns:
        int64 edges (n, 2) as node indices, N, and the original ids by index.

    Raises:
        LogError: the file is missing, empty or damaged, or has no two columns.
        UnsupportedError: no node is source here and target there, as in a log of users and items.
    """
    with tempfile.TemporaryDirectory(prefix="graphrec-links-") as spool:
        table = read_table(SideTable(path=os.fspath(path)), "social", Source([], Path(spool), progress))
    whole = [table.select(cast_id(table, name, pl.Int64())).to_series() for name in ("src", "dst")]
    number = all(column.null_count() == table[name].null_count() for column, name in zip(whole, ("src", "dst"), strict=True))
    dtype = pl.Int64() if number else pl.String()
    ends = table.select(cast_id(table, name, dtype) for name in ("src", "dst"))
    known = ends.drop_nulls()
    if len(known) < len(ends):
        progress.note(f"{path}: {len(ends) - len(known):,} of {len(ends):,} rows lack an id")
    if not len(known):
        raise LogError(f"{path}: no edge has both ends; the first two columns should be source and target")
    if not known["src"].is_in(known["dst"].unique().implode()).any():
        raise refuse_two_types(str(path), "sources of which none is a target anywhere, as users and items are")
    ids = IdMap.fit(pl.concat([known["src"], known["dst"].alias("src")]), "node")
    edges = np.stack([ids.find(known["src"]), ids.find(known["dst"])], axis=1)
    return edges, len(ids), ids.series


def store_edges(store: GraphStore, etype: EdgeType = FOLLOWS) -> tuple[np.ndarray, int, pl.Series]:
    """Take one edge type of a store that joins nodes of one type.

    Args:
        store: the graph store.
        etype: (source type, relation, target type); the social links by default.

    Returns:
        int64 edges (n, 2), N, and the original ids by index.

    Raises:
        UnsupportedError: the edge type joins two node types, or the store has no edges within one type.
        ConfigError: the store has no such edge type.
    """
    alike = [known for known in store.canonical_etypes if known[0] == known[2]]
    if etype[0] != etype[2]:
        raise refuse_two_types(str(store.folder), f"the edge type {etype}")
    if not alike:
        raise refuse_two_types(str(store.folder), f"a store with the edge types {store.canonical_etypes}")
    if etype not in alike:
        raise unknown_name("edge type", str(etype), [str(known) for known in alike])
    source, target = store.graph().edges(etype=etype)
    edges = np.stack([source.numpy(), target.numpy()], axis=1).astype(np.int64)
    ids = store.ids(etype[0])
    return edges, len(ids), ids.series


def split_links(
    edges: np.ndarray,
    num_nodes: int,
    *,
    directed: bool = False,
    valid_share: float = 0.05,
    test_share: float = 0.10,
    seed: int = 0,
    ids: pl.Series | None = None,
    features: np.ndarray | None = None,
    source: str = "memory",
) -> LinkGraph:
    """Hold out random edges, and as many random pairs that are no edges of the whole graph.

    Args:
        edges: int64 (n, 2), in 0..N-1; self-loops and repetitions are dropped and counted.
        num_nodes: N.
        directed: whether (u, v) and (v, u) are different links; otherwise each pair counts once.
        valid_share, test_share: of the distinct edges, in (0, 1), together below 1; 5 % and 10 % are the choice of Kipf and
            Welling 2016.
        seed: of the split and of the non-edges.
        ids, features, source: as in `LinkGraph`.

    Raises:
        ConfigError: a share is out of range.
        LogError: a part of the split is empty, or the graph has too few non-edges.
    """
    if not (0 < valid_share < 1 and 0 < test_share < 1 and valid_share + test_share < 1):
        raise ConfigError(
            f"split: valid and test shares must lie in (0, 1) and leave something to train on, got {valid_share} and "
            f"{test_share}"
        )
    if len(edges) and (edges.min() < 0 or edges.max() >= num_nodes):
        raise LogError(f"{source}: edges must name nodes 0..{num_nodes - 1}, got {edges.min()}..{edges.max()}")
    clean, _, _, dropped = clean_edges(np.asarray(edges, dtype=np.int64), num_nodes, directed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clean))
    num_valid, num_test = int(valid_share * len(clean)), int(test_share * len(clean))
    valid, test, train = np.split(order, [num_valid, num_valid + num_test])
    negatives = sample_non_edges(clean, num_nodes, num_valid + num_test, directed, rng, source)
    return LinkGraph(
        num_nodes,
        clean[np.sort(train)],
        HeldOut(clean[valid], negatives[:num_valid]),
        HeldOut(clean[test], negatives[num_valid:]),
        directed=directed,
        ids=ids,
        features=features,
        dropped=dropped,
        negatives_are="drawn at random among all pairs that are no links of the whole graph",
        source=source,
    )


def sample_non_edges(
    edges: np.ndarray, num_nodes: int, count: int, directed: bool, rng: np.random.Generator, source: str = "memory"
) -> np.ndarray:
    """Draw distinct pairs uniformly among those that are neither edges nor self-loops.

    Args:
        edges: int64 (E, 2) as `clean_edges` returns them.
        num_nodes: N.
        count: how many.
        directed: as in `clean_edges`; pairs of an undirected graph have the smaller end first.
        rng: the source of randomness.
        source: where the edges came from, for messages.

    Returns:
        int64 (count, 2).

    Raises:
        LogError: there are not so many non-edges, or so few that drawing does not find them.
    """
    pairs = num_nodes * (num_nodes - 1) // (1 if directed else 2)
    known = edges[:, 0] * num_nodes + edges[:, 1]
    found = np.empty(0, dtype=np.int64)
    for _ in range(_ATTEMPTS if pairs - len(edges) >= count else 0):
        if len(found) >= count:
            break
        drawn = rng.integers(num_nodes, size=(2 * (count - len(found)) + 16, 2))
        drawn = drawn[drawn[:, 0] != drawn[:, 1]]
        drawn = drawn if directed else np.sort(drawn, axis=1)
        fresh = drawn[:, 0] * num_nodes + drawn[:, 1]
        fresh = fresh[~contained(fresh, known)]
        fresh = np.concatenate([found, fresh])
        found = fresh[np.sort(np.unique(fresh, return_index=True)[1])]  # in the order drawn
    if len(found) < count:
        raise LogError(
            f"{source}: the split needs {count:,} pairs that are no edges, and among {num_nodes:,} nodes with {len(edges):,} "
            "edges there are too few; hold out a smaller share"
        )
    found = found[:count]
    return np.stack([found // num_nodes, found % num_nodes], axis=1)
