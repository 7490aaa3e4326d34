"""The strict splits of `cold_start.py`: items without any training event, and users of whom only a few events are known."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

import graphrec
from graphrec.graph.store import GraphStore
from graphrec.logs.side_tables import read_item_table
from graphrec.logs.table import InteractionLog

_TAGGERS = 5
_FEWEST = 8  # events that a cold user needs: five for the longest history, three to find


@dataclass(frozen=True)
class ColdSplit:
    """Events in parts that no model sees together.

    Attributes:
        train, valid: events of warm users with warm items; the validation part picks the epoch and is never scored.
        warm_test, cold_test: held-out events of warm users, with warm items and with cold ones.
        new_users: user id to its events, all with warm items, in a random order.
        items: the table of all items.
    """

    train: pl.DataFrame
    valid: pl.DataFrame
    warm_test: pl.DataFrame
    cold_test: pl.DataFrame
    new_users: dict[object, list[object]]
    items: pl.DataFrame

    def store(self, folder: Path, extra: list[tuple[object, object]] = ()) -> GraphStore:
        """Build a store of the training and validation parts, and of `extra` pairs of user and item as training events."""
        more = pl.DataFrame(extra, schema=self.train.schema, orient="row") if extra else self.train.clear()
        parts = [("train", self.train), ("train", more), ("valid", self.valid), ("test", self.warm_test)]
        events = pl.concat([part.with_columns(split=pl.lit(side)) for side, part in parts]).with_columns(
            behavior=pl.lit("interaction"),
            timestamp=pl.lit(None, dtype=pl.Datetime("us", "UTC")),
            weight=pl.lit(1.0, dtype=pl.Float32),
        )
        return graphrec.build(InteractionLog(events.lazy(), items=self.items), folder, split="given", overwrite=True)


def read_split(options: object, scratch: Path) -> ColdSplit:
    """Read the log and the item tables that the command line names, and split them.

    Cold items: a random share of the items that have text, all of whose events are held out. Cold users: a random share of the
    users with enough events, all of whose events are held out. Of what remains a share of each user's events is for testing and
    another for validation.
    """
    columns = {"user_id": options.user_column, "item_id": options.item_column, "weight": options.weight_column}
    columns = {name: int(source) if str(source).isdecimal() else source for name, source in columns.items() if source}
    log = graphrec.read_log(options.log, columns=columns, rejected=scratch / "rejected.parquet")
    events = log.events.collect()
    if options.min_weight is not None:
        events = events.filter(pl.col("weight") >= options.min_weight)
    events = events.select("user_id", "item_id").unique(maintain_order=True)
    items = read_items(options)
    events = events.join(items.select("item_id"), on="item_id", how="semi", maintain_order="left")
    rng = np.random.default_rng(options.seed)
    listed = events["item_id"].unique().sort()
    cold = listed.gather(np.sort(rng.permutation(len(listed))[: int(options.cold_share * len(listed))]))
    on_cold = events["item_id"].is_in(cold.implode())
    warm = events.filter(~on_cold)
    counts = warm.group_by("user_id").len().sort("user_id")
    able = counts.filter(pl.col("len") >= _FEWEST)["user_id"]
    new = able.gather(np.sort(rng.permutation(len(able))[: int(options.cold_users * len(able))]))
    by_new = warm["user_id"].is_in(new.implode())
    shuffled = warm.filter(~by_new).sample(fraction=1.0, shuffle=True, seed=options.seed)
    rank = shuffled.select(pl.int_range(pl.len()).over("user_id") / pl.len().over("user_id")).to_series()
    train, valid, test = (
        shuffled.filter(rank >= 0.25),
        shuffled.filter((rank >= 0.15) & (rank < 0.25)),
        shuffled.filter(rank < 0.15),
    )
    known = train["item_id"].unique().implode()
    held = events.filter(on_cold & ~events["user_id"].is_in(new.implode()))
    new_events = warm.filter(by_new & warm["item_id"].is_in(known)).sample(
        fraction=1.0, shuffle=True, seed=options.seed
    )
    new_users = {
        key[0]: part["item_id"].to_list() for key, part in new_events.partition_by("user_id", as_dict=True).items()
    }
    new_users = {user: found for user, found in sorted(new_users.items()) if len(found) >= _FEWEST}
    return ColdSplit(train, valid, test.filter(test["item_id"].is_in(known)), held, new_users, items)


def read_items(options: object) -> pl.DataFrame:
    """Read the item tables, join them by id, and keep the text columns."""
    tables = [read_item_table(path, options.items_id) for path in options.items]
    joined = tables[0]
    for table in tables[1:]:
        joined = joined.join(table, on="item_id", how="left", suffix="_again")
    if options.tags:
        joined = joined.join(read_tags(options, joined["item_id"].dtype), on="item_id", how="left")
    missing = [name for name in options.text if name not in joined.columns]
    if missing:
        raise SystemExit(f"--text {missing[0]}: the columns are {', '.join(joined.columns)}")
    text = [pl.col(name).cast(pl.String).str.replace_all(r"[|,]", " ").alias(name) for name in options.text]
    return joined.select("item_id", *text).filter(pl.any_horizontal(pl.col(options.text).is_not_null()))


def read_tags(options: object, item_type: pl.DataType) -> pl.DataFrame:
    """Return for each item, as `tags`, the ten tags that most users gave it, the most frequent first.

    Tags of fewer than five users are left out: they would say who has the item, not what it is.
    """
    path, user, item, tag = options.tags.split(":")
    columns = {"user": pl.col(user), "item_id": pl.col(item).cast(item_type), "tag": pl.col(tag).cast(pl.String)}
    given = read_plain(path).select(**columns).filter(pl.col("user").n_unique().over("tag") >= _TAGGERS)
    if options.tag_names:
        path, key, name = options.tag_names.split(":")
        names = read_plain(path).select(
            pl.col(key).cast(pl.String).alias("tag"), pl.col(name).cast(pl.String).alias("name")
        )
        given = given.join(names, on="tag").select("item_id", tag="name")
    counted = given.group_by("item_id", "tag").len().sort("item_id", "len", "tag", descending=[False, True, False])
    return counted.group_by("item_id", maintain_order=True).agg(pl.col("tag").head(10).str.join(" ").alias("tags"))


def read_plain(path: str) -> pl.DataFrame:
    """Read a table with a header line, its columns separated by tabs or else by commas."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        content = file.read()
    separator = "\t" if b"\t" in content.split(b"\n", 1)[0] else ","
    return pl.read_csv(
        content, separator=separator, quote_char=None if separator == "\t" else '"', encoding="utf8-lossy"
    )
