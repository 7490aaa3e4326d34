"""The data sets of `relations.py`: their files as logs, and the stores that a protocol makes of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

import graphrec
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog

VALID_SHARE = 0.1
TIME_TYPE = pl.Datetime("us", "UTC")


def read(folder: Path) -> tuple[str, InteractionLog]:
    """Read a data set with its own split, if it has one, and its side tables: its kind and the log."""
    if list(folder.glob("user_friends.dat*")):
        plays = pairs(folder, "user_artists.dat", header=True).with_columns(split=pl.lit("train"))
        return "hetrec", make_log(plays, pairs(folder, "user_friends.dat", header=True))
    if list(folder.glob("trustnetwork.txt*")):
        sides = ("data1.txt", "train"), ("test1.txt", "test")
        parts = [pairs(folder, name).with_columns(split=pl.lit(side)) for name, side in sides]
        return "lastfm", make_log(pl.concat(parts), pairs(folder, "trustnetwork.txt"))
    if list(folder.glob("trust.txt*")):
        parts = [pairs(folder, f"{side}.txt").with_columns(split=pl.lit(side)) for side in ("train", "valid", "test")]
        return "ciao", make_log(pl.concat(parts), pairs(folder, "trust.txt"))
    if list(folder.glob("item_meta.csv*")):
        return "grocery", grocery(folder)
    parts = [adjacency(folder, f"{name}.train").with_columns(behavior=pl.lit(name), split=pl.lit("train"))
             for name in ("view", "cart", "buy")]  # fmt: skip
    parts.append(adjacency(folder, "buy.test").with_columns(behavior=pl.lit("buy"), split=pl.lit("test")))
    return "taobao", make_log(pl.concat(parts))


def pairs(folder: Path, name: str, header: bool = False) -> pl.DataFrame:
    """The first two columns of a tab-separated file, plain or .gz, as integers; a pair twice counts once."""
    path = next(folder.glob(f"{name}*"))
    frame = pl.read_csv(path, separator="\t", has_header=header, infer_schema=False, quote_char=None)[:, :2]
    frame.columns = ["user_id", "item_id"]
    return frame.cast(pl.Int64).unique(maintain_order=True)


def adjacency(folder: Path, stem: str) -> pl.DataFrame:
    """The pairs of a file of lines `user item item ...`."""
    path = next(folder.glob(f"{stem}.txt*"))
    line = pl.read_csv(path, has_header=False, separator="\n")[:, 0].cast(pl.String)
    ids = line.str.strip_chars().str.split("\t").cast(pl.List(pl.Int64))
    frame = pl.DataFrame({"user_id": ids.list.first(), "item_id": ids.list.slice(1)})
    return frame.explode("item_id").drop_nulls().unique(maintain_order=True)


def grocery(folder: Path) -> InteractionLog:
    """Timed interactions of ReChorus' Amazon set, with its complements and substitutes between items."""
    events = pl.read_csv(next(folder.glob("train.csv*")), separator="\t")
    time = pl.from_epoch("time", time_unit="s").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    one = pl.lit(1.0, pl.Float32)
    events = events.select("user_id", "item_id", behavior=pl.lit("interaction"), timestamp=time, weight=one)
    meta = pl.read_csv(next(folder.glob("item_meta.csv*")), separator="\t")
    links = []
    for relation in ("complement", "substitute"):
        listed = pl.col(f"r_{relation}").str.strip_chars("[] ").str.split(", ")
        rows = meta.select(src="item_id", relation=pl.lit(relation), dst=listed).explode("dst")
        links.append(rows.filter(pl.col("dst") != "").with_columns(pl.col("dst").cast(pl.Int64)))
    return InteractionLog(events.lazy(), item_relations=pl.concat(links))


def make_log(events: pl.DataFrame, links: pl.DataFrame | None = None) -> InteractionLog:
    """A log of pairs with a split, and links between users."""
    if "behavior" not in events.columns:
        events = events.with_columns(behavior=pl.lit("interaction"))
    events = events.with_columns(timestamp=pl.lit(None, TIME_TYPE), weight=pl.lit(1.0, pl.Float32))
    events = events.select("user_id", "item_id", "behavior", "timestamp", "weight", "split")
    if links is not None:
        links = links.rename({"user_id": "src", "item_id": "dst"}).with_columns(weight=pl.lit(1.0, pl.Float32))
    return InteractionLog(events.lazy(), social=links)


def build_stores(kind: str, log: InteractionLog, protocol: str, scratch: Path) -> dict[str, GraphStore]:
    """The store to choose epochs on and, where its validation items are part of train, the one to train on anew.

    Those that are in `scratch` already are taken as they are.
    """
    there = {name: GraphStore.open(scratch / name) for name in ("valid", "full") if (scratch / name).exists()}
    if there:
        return there
    if protocol == "time":
        split = {"method": "time", "valid": 0.1, "test": 0.1}
        return {"valid": graphrec.build(log, scratch / "valid", split=split)}
    if protocol == "random":
        whole = InteractionLog(log.events.drop("split"), social=log.social)
        return {
            "valid": graphrec.build(whole, scratch / "valid", split={"method": "random", "valid": 0.1, "test": 0.1})
        }
    split = {"method": "given", "hide_pairs": protocol != "given"}
    if protocol == "apart":
        bought = log.events.filter(pl.col("behavior") == "buy")
        others = log.events.filter(pl.col("behavior") != "buy").join(bought, on=["user_id", "item_id"], how="anti")
        log = InteractionLog(pl.concat([others, bought]))
    target = {"target_behavior": "buy"} if kind == "taobao" else {}
    if kind == "ciao":
        return {"valid": graphrec.build(log, scratch / "valid", split=split)}
    held = {**split, "valid": VALID_SHARE}
    return {
        "valid": graphrec.build(log, scratch / "valid", split=held, **target),
        "full": graphrec.build(log, scratch / "full", split=split, **target),
    }
