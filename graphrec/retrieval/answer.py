"""Recommendations and similar items by original id, from a run folder in a fresh process.

Ids may arrive as text where the store keeps whole numbers: the command line and web requests know nothing else. The
id maps (`graphrec.graph.ids`) convert them when they are looked up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graphrec.atomic import atomic_file, check_file
from graphrec.errors import ConfigError, RunError
from graphrec.models.base import blocks
from graphrec.progress import SILENT, Reporter
from graphrec.retrieval.source import Source, open_model

_OTHER_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".txt")


def recommend(source: Source, users: Any, k: int = 10, exclude_seen: bool = True) -> pl.DataFrame:
    """Return the `k` best items for each user.

    Args:
        source: a run, a model, or the folder of either.
        users: original user ids, or a single one; text is converted where the store's ids are whole numbers.
        k: list length, 1..I.
        exclude_seen: leave out the items of the user's training history.

    Returns:
        A frame with user_id, rank (1 is best), item_id, score and, where the store has titles, title; users in the
        order given. Ties break to the lower item index.

    Raises:
        UnknownIdError: a user does not occur in the training data.
        ConfigError: no user is given, or `k` is out of range.
        RunError: the folder holds no readable run or model.
    """
    model = open_model(source)
    return model.recommend(given_ids(users, "user"), k, exclude_seen=exclude_seen)


def similar(source: Source, items: Any, k: int = 10) -> pl.DataFrame:
    """Return the `k` items most similar to each item, never the item itself.

    Args:
        source: a run, a model, or the folder of either.
        items: original item ids, or a single one; text is converted where the store's ids are whole numbers.
        k: list length, 1..I-1.

    Returns:
        A frame with item_id, rank, similar_item_id, score and, where the store has titles, title.

    Raises:
        UnknownIdError: an item does not occur in the training data.
        UnsupportedError: the model knows no similarity between items (popularity).
        ConfigError: no item is given, or `k` is out of range.
        RunError: the folder holds no readable run or model.
    """
    model = open_model(source)
    return model.similar(given_ids(items, "item"), k)


def recommend_all(
    source: Source,
    path: str | os.PathLike[str],
    k: int = 10,
    exclude_seen: bool = True,
    *,
    overwrite: bool = False,
    progress: Reporter = SILENT,
) -> int:
    """Write the `k` best items of every user to a Parquet file, block by block in bounded memory.

    The columns are those of `recommend`; the users come in the order of the store.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: `k` is out of range.
        RunError: the folder holds no readable run or model, `path` exists and `overwrite` is false, or the disk is full.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    check_file(target, RunError, overwrite)
    if target.suffix.lower() in _OTHER_FORMATS:
        raise ConfigError(f"lists are written as Parquet, and {target.name} names another format; call it {target.stem}.parquet")
    model = open_model(source)
    catalogue = model.catalogue
    rows = 0
    with atomic_file(target, RunError) as temporary, progress.task("recommend", catalogue.num_users, "users") as task:
        writer = None
        try:
            for block in blocks(np.arange(catalogue.num_users, dtype=np.int64), catalogue.num_items):
                table = model.recommend(catalogue.users.gather(block), k, exclude_seen=exclude_seen).to_arrow()
                writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
                task.advance(len(block))
        finally:
            if writer is not None:
                writer.close()
    return rows


def given_ids(ids: Any, kind: str) -> list[Any]:
    """Return one id or several as a list; none at all is a ConfigError."""
    values = [ids] if isinstance(ids, (str, int, np.integer)) else list(ids)
    if not values:
        raise ConfigError(f"no {kind} id is given; give at least one")
    return values
