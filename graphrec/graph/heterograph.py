"""Training edges as a DGL heterograph, in memory and on disk."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphrec._dgl import import_dgl
from graphrec.errors import StoreError

EdgeType = tuple[str, str, str]


@dataclass(frozen=True)
class Edges:
    """Edges of one type.

    Attributes:
        source, target: node indices int32 (E,).
        weight: float32 (E,), or None where edges carry none.
        timestamp: int64 µs (E,), or None.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None = None
    timestamp: np.ndarray | None = None

    def reversed(self) -> Edges:
        """The same edges the other way; edge e stays edge e."""
        return Edges(self.target, self.source, self.weight, self.timestamp)


def reverse_name(behavior: str) -> str:
    """Return the relation name of a behaviour's reverse edges."""
    return f"rev_{behavior}"


def make_graph(edges: dict[EdgeType, Edges], num_nodes: dict[str, int]) -> Any:
    """Build the DGL heterograph. Node and edge ids are int32, half the memory of DGL's default.

    Args:
        edges: edges per type; edge data become `weight` and `timestamp`.
        num_nodes: nodes per node type, isolated ones included.
    """
    dgl = import_dgl()
    import torch

    data = {etype: (torch.from_numpy(part.source), torch.from_numpy(part.target)) for etype, part in edges.items()}
    graph = dgl.heterograph(data, num_nodes_dict=num_nodes, idtype=torch.int32)
    for etype, part in edges.items():
        for name in ("weight", "timestamp"):
            values = getattr(part, name)
            if values is not None:
                graph.edges[etype].data[name] = torch.from_numpy(values)
    return graph


def save_graph(graph: Any, path: Path) -> None:
    """Write `graph` to `path` in DGL's binary format.

    Raises:
        OSError: the file cannot be written.
    """
    dgl = import_dgl()
    try:
        dgl.save_graphs(str(path), [graph])
    except dgl.DGLError as problem:
        raise OSError(f"DGL cannot write {path}: {problem}") from problem
    if shutil.disk_usage(path.parent).free == 0:  # DGL does not look whether its last, buffered block was written
        raise OSError(errno.ENOSPC, "No space left on device", str(path))


def load_graph(path: Path) -> Any:
    """Read the heterograph that `save_graph` wrote.

    Raises:
        StoreError: the file is missing or damaged.
    """
    dgl = import_dgl()
    try:
        graphs, _ = dgl.load_graphs(str(path))
        return graphs[0]
    except (dgl.DGLError, OSError, IndexError) as problem:
        reason = str(problem).splitlines()[-1] if str(problem) else repr(problem)
        raise StoreError(f"{path} is missing or damaged: {reason}; build the store again") from problem
