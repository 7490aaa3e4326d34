"""Ranked lists of item indices as frames of original ids: what `recommend` and `similar` hand to the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue
    from graphrec.graph.ids import IdMap


def ranked_frame(
    query_column: str,
    query_ids: IdMap,
    queries: np.ndarray,
    item_column: str,
    items: np.ndarray,
    scores: np.ndarray,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """Write one row per listed item.

    Args:
        query_column: name of the first column, "user_id" or "item_id".
        query_ids: the ids of those who may ask.
        queries: int64 (B,), indices of those who ask.
        item_column: name of the column of listed items.
        items: int64 (B, K) dense item indices, best first; -1 marks an unused place.
        scores: float32 (B, K).
        catalogue: gives the original item ids and the titles.

    Returns:
        A frame with `query_column`, rank (1 is best), `item_column`, score and, where the catalogue has titles, title;
        at most K rows per query, in the order of `queries`.
    """
    used = items >= 0  # (B, K)
    listed = items[used]
    ranks = np.broadcast_to(np.arange(1, items.shape[1] + 1), items.shape)[used]
    columns = [
        query_ids.gather(np.repeat(queries, used.sum(axis=1))).rename(query_column),
        pl.Series("rank", ranks, dtype=pl.Int64),
        catalogue.items.gather(listed).rename(item_column),
        pl.Series("score", scores[used], dtype=pl.Float32),
    ]
    if catalogue.titles is not None:
        columns.append(pl.Series("title", [catalogue.titles[item] for item in listed], dtype=pl.String))
    return pl.DataFrame(columns)
