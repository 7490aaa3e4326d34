"""Several events of one (user, item, behaviour): the duplicates policy, applied in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from graphrec.progress import Reporter

PARTITION_ROWS = 2_000_000
"""Events are written in parts by user of about this many rows, and merged part by part."""

_ROW = "_row"
_WEIGHTS = {"sum": pl.Expr.sum, "max": pl.Expr.max, "mean": pl.Expr.mean}


def merge_duplicates(files: Sequence[Path], policy: str, progress: Reporter) -> None:
    """Rewrite clean event files so that each (user, item, behaviour[, split]) occurs once.

    Args:
        files: Parquet files of clean events; all events of a user stand in one of them.
        policy: `first`, `last`, `sum`, `max`, `mean` or `keep` (see `LogSettings.duplicates`). Earliest and latest go by
            timestamp, events without one count as later, and ties go by the order of the source. The merged event
            stands where the kept one stood.
        progress: told how many events were merged.
    """
    if policy == "keep":
        return
    before = after = 0
    for file in files:
        events = pl.read_parquet(file)
        merged = _merge(events, policy)
        before, after = before + events.height, after + merged.height
        if merged.height < events.height:
            temporary = file.with_suffix(".merged")
            merged.write_parquet(temporary, compression="lz4", statistics=False)
            os.replace(temporary, file)
    if after < before:
        progress.note(f"{before - after:,} of {before:,} events repeat a (user, item, behaviour): kept {policy}")


def _merge(events: pl.DataFrame, policy: str) -> pl.DataFrame:
    key = [name for name in ("user_id", "item_id", "behavior", "split") if name in events.columns]
    # Rows of equal keys have equal hashes, so the others need no comparison.
    suspect = events.select(key).hash_rows(seed=0).is_duplicated()
    if not suspect.any():
        return events
    events = events.with_row_index(_ROW)
    ordered = events.filter(suspect).sort("timestamp", _ROW, nulls_last=True)
    kept = ordered.unique(key, keep="last" if policy == "last" else "first", maintain_order=True)
    if policy in _WEIGHTS:
        weight = _WEIGHTS[policy](pl.col("weight").cast(pl.Float64)).cast(pl.Float32)
        kept = kept.drop("weight").join(ordered.group_by(key).agg(weight), on=key)
        merged = kept.select(_ROW, "weight")
        events = events.join(merged, on=_ROW, how="left", maintain_order="left", suffix=".merged")
        events = events.with_columns(weight=pl.coalesce("weight.merged", "weight")).drop("weight.merged")
    return events.filter(~suspect | events[_ROW].is_in(kept[_ROW].implode())).drop(_ROW)
