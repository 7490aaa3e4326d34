"""What a fitted link predictor knows of its graph: the nodes, the training edges and the original ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from typing_extensions import Self

from graphrec.errors import LogError, RunError, nearest
from graphrec.logs.link_graph import LinkGraph

FOLDER, EDGES, IDS = "nodes", "edges.parquet", "ids.parquet"


@dataclass(frozen=True)
class KnownGraph:
    """Nodes and training edges, without the held-out links.

    Attributes:
        num_nodes: N.
        train: int64 (E, 2), as in `LinkGraph`.
        directed: whether (u, v) and (v, u) are different links.
        ids: (N,) original ids; the node's numbers where the graph had none.
        source: where the graph came from, for messages.
    """

    num_nodes: int
    train: np.ndarray
    directed: bool
    ids: pl.Series
    source: str

    @classmethod
    def of(cls, graph: LinkGraph) -> Self:
        """Take what a predictor has to know from a graph."""
        ids = pl.Series(np.arange(graph.num_nodes)) if graph.ids is None else graph.ids
        return cls(graph.num_nodes, graph.train, graph.directed, ids, graph.source)

    def nodes_of(self, ids: list[str]) -> np.ndarray:
        """Return the int64 (n,) node index of each original id, given as text.

        Raises:
            LogError: an id is not in the graph.
        """
        index = {str(value): position for position, value in enumerate(self.ids.to_list())}
        for one in ids:
            if one not in index:
                raise LogError(f"{self.source}: no node has the id {one!r}{nearest(one, list(index)[:2000])}")
        return np.array([index[one] for one in ids], dtype=np.int64)

    def save(self, folder: Path) -> None:
        """Write it into a model folder."""
        inside = folder / FOLDER
        inside.mkdir()
        pl.DataFrame({"source": self.train[:, 0], "target": self.train[:, 1]}).write_parquet(inside / EDGES)
        origin = pl.DataFrame({"id": self.ids}).with_columns(directed=pl.lit(self.directed), source=pl.lit(self.source))
        origin.write_parquet(inside / IDS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            RunError: a file cannot be read.
        """
        try:
            edges, nodes = (pl.read_parquet(folder / FOLDER / name) for name in (EDGES, IDS))
            train = edges.select("source", "target").to_numpy().astype(np.int64)
            directed, source = bool(nodes["directed"][0]), str(nodes["source"][0])
            return cls(len(nodes), train, directed, nodes["id"], source)
        except (pl.exceptions.PolarsError, IndexError) as problem:
            raise RunError(f"{folder / FOLDER} cannot be read: {problem}") from problem
