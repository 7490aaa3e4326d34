"""Atomic files of RecBole: tab separated, with a header of `name:type`; `.inter`, `.user`, `.item`, `.kg`, `.link`, `.net`.

Source: Zhao et al. 2021, "RecBole", arXiv:2011.01731, section 3.2.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.columns import find_columns
from graphrec.logs.delimited import Layout
from graphrec.logs.files import COMPRESSIONS, member
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, RawLog, Source
from graphrec.logs.source import Column, LogSettings
from graphrec.logs.text import open_text

_TITLES = ("movie_title", "item_title", "product_title", "book_title", "name", "item_name")


def read(source: Source, settings: LogSettings) -> RawLog:
    """Read `NAME.inter` and the other atomic files of NAME beside it, plain or compressed.

    Columns go by their usual names (`rating` or `label` is the weight); a title column becomes `title`. With a `.kg` the
    triples are made: entities that a `.link` file ties to items are named by the item id, others keep their entity id.

    Raises:
        LogError: there is no `.inter` file, or a file is damaged or has no `name:type` header.
    """
    paths: list[Path] = []
    for path in source.paths:
        inter = member(path, "*.inter") if path.is_dir() else path
        if inter is None:
            raise LogError(f"{path}: no .inter file (plain, .gz or .zst) in this folder")
        paths.append(inter)
    events = pl.concat([_events(path, source, settings) for path in paths], how="diagonal")
    tables: dict[str, pl.DataFrame] = {}
    for path in paths:
        tables.update(_tables(path, source))
    return RawLog(events, tables)


def _open(path: Path, source: Source) -> tuple[list[str], list[str], pl.LazyFrame]:
    """Names and types of the columns, and the rows."""
    text = open_text(path, "utf-8", source)
    layout = Layout.of(text, "\t", True)
    parts = [name.rpartition(":") for name in layout.names]
    if not all(name and kind in ("token", "token_seq", "float", "float_seq") for name, _, kind in parts):
        raise LogError(
            f"{path}: the header must hold name:type pairs such as user_id:token, got {' '.join(layout.names)}"
        )
    return [name for name, _, _ in parts], [kind for _, _, kind in parts], layout.scan(text, source)


def _events(path: Path, source: Source, settings: LogSettings) -> pl.LazyFrame:
    names, _, rows = _open(path, source)
    mapping: dict[str, Column | None] = dict(settings.columns)
    if mapping["weight"] is None and "rating" not in names and "label" in names:
        mapping["weight"] = "label"
    found = find_columns(names, mapping, str(path))
    return rows.select(
        FILE, LINE, PROBLEM, RAW, *[pl.col(str(position)).alias(name) for name, position in found.items()]
    )


def _tables(inter: Path, source: Source) -> dict[str, pl.DataFrame]:
    """The side tables beside an `.inter` file."""
    name = inter.name
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    stem = name.removesuffix(".inter")
    found = {kind: member(inter.parent, f"{stem}.{kind}") for kind in ("user", "item", "kg", "link", "net")}
    tables: dict[str, pl.DataFrame] = {}
    for kind, key in (("user", "user_id"), ("item", "item_id")):
        path = found[kind]
        if path is not None:
            tables[f"{kind}s"] = _attributes(path, key, source)
    if found["kg"] is not None:
        tables["triples"] = _triples(found["kg"], found["link"], source)
    if found["net"] is not None:
        tables["social"] = _side(found["net"], source)[0].select(pl.nth(0).alias("src"), pl.nth(1).alias("dst"))
    return tables


def _side(path: Path, source: Source) -> tuple[pl.DataFrame, list[str]]:
    names, kinds, rows = _open(path, source)
    frame = rows.collect(engine="streaming")
    bad = frame.filter(pl.col(PROBLEM).is_not_null())
    if bad.height:
        source.progress.note(
            f"{path}: {bad.height:,} rows skipped; the first is line {bad[LINE][0]}: {bad[PROBLEM][0]}"
        )
    frame = frame.filter(pl.col(PROBLEM).is_null())
    return frame.select(pl.col(str(position)).alias(name) for position, name in enumerate(names)), kinds


def _attributes(path: Path, key: str, source: Source) -> pl.DataFrame:
    frame, kinds = _side(path, source)
    frame = frame.with_columns(
        pl.col(name).str.strip_chars().str.split(" ").cast(pl.List(pl.Float32), strict=False)
        for name, kind in zip(frame.columns, kinds, strict=True)
        if kind == "float_seq"
    )
    first = frame.columns[find_columns(frame.columns, {key: None}, str(path))[key]]
    titles = [name for name in _TITLES if name in frame.columns] if "title" not in frame.columns else []
    frame = frame.rename({first: key, **{name: "title" for name in titles[:1]}})
    return frame.select(key, pl.exclude(key))


def _triples(graph: Path, link: Path | None, source: Source) -> pl.DataFrame:
    triples = _side(graph, source)[0].select(
        pl.nth(0).alias("head"), pl.nth(1).alias("relation"), pl.nth(2).alias("tail")
    )
    if link is None:
        return triples
    pairs = (
        _side(link, source)[0]
        .select(item=pl.nth(0), entity=pl.nth(1))
        .unique("entity", keep="first", maintain_order=True)
    )
    return triples.with_columns(pl.col("head", "tail").replace(pairs["entity"], pairs["item"]))
