"""MovieLens folders as GroupLens publishes them: 100K (`u.data`), 1M and 10M (`ratings.dat`), the others (`ratings.csv`).

Source: Harper and Konstan 2015, "The MovieLens Datasets", doi:10.1145/2827872, and the readme of each data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs import delimited
from graphrec.logs.files import member
from graphrec.logs.raw import RawLog, Source
from graphrec.logs.side_tables import read_table
from graphrec.logs.source import ColumnMap, LogSettings, SideTable

_GENRES_100K = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The flag columns of `u.item` in order."""


@dataclass(frozen=True)
class _Edition:
    """File names and layouts of one edition; an empty column tuple means that the file has a header."""

    ratings: str
    separator: str
    header: bool
    movies: str = ""
    movie_columns: tuple[str, ...] = ()
    users: str = ""
    user_columns: tuple[str, ...] = ()
    side_separator: str = ","


_EDITIONS = (
    _Edition("ratings.csv", ",", True, "movies.csv"),
    _Edition(
        "ratings.dat", "::", False, "movies.dat", ("item_id", "title", "genres"),
        "users.dat", ("user_id", "gender", "age", "occupation", "zip_code"), "::",
    ),
    _Edition(
        "u.data", "\t", False, "u.item", ("item_id", "title", "release_date", "video_date", "url", *_GENRES_100K),
        "u.user", ("user_id", "age", "gender", "occupation", "zip_code"), "|",
    ),
)  # fmt: skip


def read(source: Source, settings: LogSettings) -> RawLog:
    """Read a MovieLens folder, plain or compressed file by file.

    The rating is the weight. Movies become the items table with `title`, `genres` (separated by `|`) and, where the
    folder has a `tags.csv`, `tags`; users the users table.

    Raises:
        LogError: the folder holds no ratings, or one of its files is damaged.
    """
    if len(source.paths) != 1 or not source.paths[0].is_dir():
        raise LogError(f"format movielens reads one folder, got {', '.join(map(str, source.paths))}")
    folder = source.paths[0]
    for edition in _EDITIONS:
        ratings = member(folder, edition.ratings)
        if ratings is not None:
            break
    else:
        raise LogError(f"{folder}: none of ratings.csv, ratings.dat, u.data (plain, .gz or .zst) in this folder")
    columns = {"user_id": 0, "item_id": 1, "weight": 2, "timestamp": 3}
    if edition.header:
        columns = {"user_id": "userId", "item_id": "movieId", "weight": "rating", "timestamp": "timestamp"}
    layout = {
        "columns": ColumnMap(**columns),
        "separator": edition.separator,
        "header": edition.header,
        "time_unit": "s",
    }
    events = delimited.read(Source([ratings], source.spool, source.progress), settings.model_copy(update=layout)).events
    tables: dict[str, pl.DataFrame] = {}
    movies, users = member(folder, edition.movies), member(folder, edition.users) if edition.users else None
    if movies is not None:
        tables["items"] = _items(movies, folder, edition, source)
    if users is not None:
        tables["users"] = _side(users, edition.user_columns, "users", edition, source)
    return RawLog(events, tables)


def _side(path: Path, columns: tuple[str, ...], kind: str, edition: _Edition, source: Source) -> pl.DataFrame:
    mapping = {name: position for position, name in enumerate(columns)}
    # The old editions are in Latin-1, the ones with headers in UTF-8.
    encoding = "utf-8" if edition.header else "latin-1"
    separator = edition.side_separator
    table = SideTable(path=str(path), columns=mapping, separator=separator, header=edition.header, encoding=encoding)
    return read_table(table, kind, source)


def _items(path: Path, folder: Path, edition: _Edition, source: Source) -> pl.DataFrame:
    items = _side(path, edition.movie_columns, "items", edition, source)
    if "unknown" in items:
        flags = [pl.when(pl.col(genre).str.strip_chars() == "1").then(pl.lit(genre)) for genre in _GENRES_100K]
        items = items.with_columns(genres=pl.concat_str(flags, separator="|", ignore_nulls=True)).drop(_GENRES_100K)
    tags = member(folder, "tags.csv") if edition.header else None
    if tags is None:
        return items
    tagged = read_table(SideTable(path=str(tags), separator=",", header=True), "items", source)
    joined = tagged.group_by("item_id", maintain_order=True).agg(
        pl.col("tag").unique(maintain_order=True).str.join("|")
    )
    return items.join(joined.rename({"tag": "tags"}), on="item_id", how="left", maintain_order="left")
