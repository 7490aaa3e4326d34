"""The likeliest new links of some nodes, and the node vectors as a table, by original id."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import polars as pl
import torch

from graphrec.atomic import atomic_file
from graphrec.errors import RunError, UnsupportedError, check_list_length
from graphrec.link.base import LinkModel


def suggest(model: LinkModel, nodes: Sequence[str], k: int = 10) -> pl.DataFrame:
    """List the `k` best new neighbours of each node: not itself, and not one that the training edges already give it.

    Args:
        model: fitted or loaded.
        nodes: original ids as text.
        k: list length, 1..N-1.

    Returns:
        A frame with node_id, rank (1 is best), neighbour_id and score. Ties break to the lower node index.

    Raises:
        LogError: an id is not in the graph.
        ConfigError: `k` is out of range.
        RunError: the model has not been fitted or loaded.
    """
    graph = model.known
    check_list_length(k, graph.num_nodes - 1, "other nodes")
    every = np.arange(graph.num_nodes)
    frames = []
    for node in graph.nodes_of(list(nodes)):
        scores = model.score(np.stack([np.full_like(every, node), every], axis=1))
        out, back = graph.train[graph.train[:, 0] == node, 1], graph.train[graph.train[:, 1] == node, 0]
        scores[[node, *out, *([] if graph.directed else back)]] = -np.inf
        best = torch.sort(torch.from_numpy(scores), descending=True, stable=True).indices[:k].numpy()
        best = best[np.isfinite(scores[best])]
        frames.append(
            pl.DataFrame(
                {
                    "node_id": graph.ids.gather(np.full_like(best, node)),
                    "rank": np.arange(1, len(best) + 1),
                    "neighbour_id": graph.ids.gather(best),
                    "score": scores[best],
                }
            )
        )
    return pl.concat(frames)


def write_vectors(model: LinkModel, path: str | os.PathLike[str]) -> int:
    """Write `node_id` and `vector` (list of float32) of every node to a Parquet file; return the number of rows.

    Raises:
        UnsupportedError: the model has no vectors.
        RunError: the disk is full.
    """
    vectors = model.embeddings()
    if vectors is None:
        raise UnsupportedError(f"{model.name} has no node vectors to write; use mf, gae, vgae or masked-gae")
    with atomic_file(path, RunError) as temporary:
        columns = {
            "node_id": model.known.ids,
            "vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])),
        }
        pl.DataFrame(columns).with_columns(pl.col("vector").arr.to_list()).write_parquet(temporary)
    return len(vectors)
