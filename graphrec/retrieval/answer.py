"""Recommendations and similar items by original id, from a run folder in a fresh process.

Ids may arrive as text where the store keeps whole numbers: the command line and web requests know nothing else. The
id maps (`graphrec.graph.ids`) convert them when they are looked up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from graphrec import ops
from graphrec.atomic import atomic_file, check_file
from graphrec.errors import ConfigError, RunError, check_list_length
from graphrec.evaluation.ranking import factors_of, ranked_parts
from graphrec.evaluation.user_items import UserItems
from graphrec.memory import kept_memory
from graphrec.models.base import Recommender
from graphrec.models.listing import ranked_frame
from graphrec.progress import SILENT, Reporter, Task
from graphrec.retrieval.source import Source, open_model

FALLBACKS = ("popular",)
_GROUP_ROWS = 500_000  # of Parquet; a row group for every block of users would make a footer of megabytes
_OTHER_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".txt")


def recommend(
    source: Source, users: Any, k: int = 10, exclude_seen: bool = True, *, fallback: str | None = None
) -> pl.DataFrame:
    """Return the `k` best items for each user.

    Args:
        source: a run, a model, or the folder of either.
        users: original user ids, or a single one; text is converted where the store's ids are whole numbers.
        k: list length, 1..I.
        exclude_seen: leave out the items of the user's training history.
        fallback: "popular" lists the most chosen items to users of whom the model knows nothing (`Recommender.knows`); None asks
            the model for all.

    Returns:
        A frame with user_id, rank (1 is best), item_id, score and, where the store has titles, title; users in the
        order given. Ties break to the lower item index. With a fallback also `by`: "model" or "popular".

    Raises:
        UnknownIdError: a user does not occur in the training data.
        ConfigError: no user is given, `k` is out of range, or there is no such fallback.
        RunError: the folder holds no readable run or model.
    """
    check_fallback(fallback)
    model, ids = open_model(source), given_ids(users, "user")
    if fallback is None:
        return model.recommend(ids, k, exclude_seen=exclude_seen)
    return pl.concat(_lists(model, model.catalogue.users.index_of(ids), k, exclude_seen, fallback))


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
    users: Any = None,
    fallback: str | None = None,
    overwrite: bool = False,
    progress: Reporter = SILENT,
) -> int:
    """Write the `k` best items of every user, or of many, to a Parquet file, block by block in bounded memory.

    The columns are those of `recommend`; all users come in the order of the store. Where the model's scores are the dot products of
    its embeddings (checked on a few users), one fused kernel multiplies and selects; its scores agree with those of `recommend`
    as far as float32 can tell.

    Args:
        source, k, exclude_seen, fallback: as in `recommend`.
        path: the file.
        users: original user ids; None means all.
        overwrite: replace the file.
        progress: receives the users.

    Returns:
        The number of rows written.

    Raises:
        UnknownIdError: a user does not occur in the training data.
        ConfigError: `k` is out of range, or there is no such fallback.
        RunError: the folder holds no readable run or model, `path` exists and `overwrite` is false, the disk is full, or the model
            gives NaN as a score.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    check_file(target, RunError, overwrite)
    if target.suffix.lower() in _OTHER_FORMATS:
        raise ConfigError(f"lists are written as Parquet, and {target.name} names another format; call it {target.stem}.parquet")
    check_fallback(fallback)
    model = open_model(source)
    catalogue = model.catalogue
    rows = 0
    asked = np.arange(catalogue.num_users) if users is None else catalogue.users.index_of(given_ids(users, "user"))
    with atomic_file(target, RunError) as temporary, kept_memory(), progress.task("recommend", len(asked), "users") as task:
        writer = None
        try:
            for frame in _grouped(_lists(model, asked, k, exclude_seen, fallback, task)):
                table = frame.to_arrow()
                writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows


def nothing_known(model: Recommender, users: Any = None) -> tuple[int, int]:
    """Count the users of whom a model knows nothing (`Recommender.knows`).

    Args:
        model: any; one that ranks alike for all counts none.
        users: original user ids; None means all.

    Returns:
        How many, and how many were looked at.
    """
    catalogue = model.catalogue
    asked = np.arange(catalogue.num_users) if users is None else catalogue.users.index_of(given_ids(users, "user"))
    return int((~model.knows(asked)).sum()) if model.personal else 0, len(asked)


def known_users(model: Recommender, users: Any) -> tuple[list[Any], list[Any]]:
    """Part original user ids into those of the training data and the others.

    Raises:
        UnknownIdError: none is of the training data.
    """
    ids = given_ids(users, "user")
    found = model.catalogue.users.find(ids) >= 0
    if not found.any():
        model.catalogue.users.index_of(ids)
    known, others = ([name for name, there in zip(ids, found, strict=True) if there == wanted] for wanted in (True, False))
    return known, others


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """Read ids from a text file, one a line; empty lines do not count, and an id counts once.

    Raises:
        ConfigError: the file cannot be read, is no text, or holds no id.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as problem:
        raise ConfigError(f"cannot read {path}: {problem.strerror}; give a text file with one id a line") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path} is not UTF-8 text; give a text file with one id a line") from problem
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise ConfigError(f"{path} holds no id; give a text file with one id a line")
    return ids


def check_fallback(fallback: str | None) -> None:
    """Refuse a fallback that there is not.

    Raises:
        ConfigError: it is none of `FALLBACKS`.
    """
    if fallback is not None and fallback not in FALLBACKS:
        raise ConfigError(f"fallback: choose one of {', '.join(FALLBACKS)}, got {fallback!r}")


def _lists(
    model: Recommender, users: np.ndarray, k: int, exclude_seen: bool, fallback: str | None, task: Task | None = None
) -> Iterator[pl.DataFrame]:
    """The lists of dense users (B,), some at a time, as `recommend` gives them; for a `task`, so of many, by the fused kernel."""
    catalogue = model.catalogue
    check_list_length(k, catalogue.num_items)
    seen = UserItems(catalogue.seen_indptr, catalogue.seen_indices, catalogue.num_items) if exclude_seen else None
    factors = factors_of(model, users, scores=True) if task else None
    counts, popular = ops.select_topk(torch.from_numpy(catalogue.item_counts.astype(np.float32))[None], k)
    for part, items, scores in ranked_parts(model, users, k, seen, factors):
        cold = ~model.knows(users[part]) if fallback else np.zeros(len(items), bool)
        items[cold], scores[cold] = popular.numpy(), counts.numpy()
        frame = ranked_frame("user_id", catalogue.users, users[part], "item_id", items, scores, catalogue)
        if fallback:
            by = np.where(np.repeat(cold, (items >= 0).sum(axis=1)), fallback, "model")
            frame = frame.with_columns(pl.Series("by", by, dtype=pl.String))
        yield frame
        if task:
            task.advance(len(items))


def _grouped(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Consecutive frames joined to at least `_GROUP_ROWS` rows; the last may be shorter."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= _GROUP_ROWS:
            yield pl.concat(waiting)
            waiting = []
    if waiting:
        yield pl.concat(waiting)


def given_ids(ids: Any, kind: str) -> list[Any]:
    """Return one id or several as a list; none at all is a ConfigError."""
    values = [ids] if isinstance(ids, (str, int, np.integer)) else list(ids)
    if not values:
        raise ConfigError(f"no {kind} id is given; give at least one")
    return values
