"""Small logs whose right answers are obvious."""

from __future__ import annotations

from datetime import datetime, timezone

import polars as pl

from graphrec.logs.table import InteractionLog

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
TIME = pl.Datetime("us", "UTC")


def make_log(rows: list[tuple], **sides) -> InteractionLog:
    """A log of rows (user_id, item_id, day[, behavior[, weight[, split]]]); a day of None is a missing time."""
    rows = [(*row, *("interaction", 1.0)[len(row) - 3 :]) if len(row) < 5 else row for row in rows]
    names = ["user_id", "item_id", "timestamp", "behavior", "weight", "split"][: max(map(len, rows), default=5)]
    frame = pl.DataFrame(rows, schema=names, orient="row") if rows else empty_events()
    if rows:
        day = pl.col("timestamp").cast(pl.Float64) * 86_400_000_000 + int(START.timestamp()) * 1_000_000
        frame = frame.with_columns(day.cast(pl.Int64).cast(TIME).alias("timestamp"), pl.col("weight").cast(pl.Float32))
    return InteractionLog(events=frame.lazy(), source="small.csv", **sides)


def empty_events() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "timestamp": TIME,
            "behavior": pl.String,
            "weight": pl.Float32,
        }
    )


def ring(num_users: int = 12, num_items: int = 12, each: int = 5) -> list[tuple]:
    """User u takes the items u, u+1, ... in the order of days, so its last item is u + each - 1."""
    return [
        (f"u{user:02d}", f"i{(user + step) % num_items:02d}", step) for user in range(num_users) for step in range(each)
    ]


def shop_log() -> InteractionLog:
    """The ring as views, half of it bought the day after, with every kind of side table; each has rows that do not fit."""
    rows = [(*row, "view", 1.0) for row in ring()]
    rows += [(user, item, day + 0.5, "buy", 2.0) for user, item, day in ring() if day % 2 == 0]
    rows.append(("u00", "cold", 30, "buy", 1.0))  # the last purchase of u00: an item that training never sees
    users = pl.DataFrame({"user_id": ["u01", "u00", "ghost"], "age": [20, 30, 40]})
    titles = {"item_id": ["i01", "i00", "cold", "i01"], "title": ["One", "Zero", "Cold", "One again"]}
    social = {"src": ["u00", "u00", "u01", "u02", "u00"], "dst": ["u01", "ghost", "u01", "u03", "u01"]}
    triples = [
        ("i00", "made_by", "acme"),
        ("acme", "part_of", "group"),
        ("i00", "related", "i01"),
        ("cold", "made_by", "acme"),
        ("i00", "made_by", "acme"),
        ("i01", None, "acme"),
    ]
    return make_log(
        rows,
        users=users,
        items=pl.DataFrame(titles),
        social=pl.DataFrame({**social, "weight": pl.Series([1, 1, 1, 2, 1], dtype=pl.Float32)}),
        triples=pl.DataFrame(triples, schema=["head", "relation", "tail"], orient="row"),
        item_relations=pl.DataFrame(
            {"src": ["i02", "i02", "i00"], "relation": ["related", "related", "related"], "dst": ["i03", "cold", "i01"]}
        ),
    )
