"""A query on a database: any SQLAlchemy URL, or `adbc+DRIVER://...` through an ADBC driver."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from typing import Any

import polars as pl

from graphrec.errors import LogError, MissingExtraError
from graphrec.logs.parquet import scan
from graphrec.logs.raw import RawLog, Source
from graphrec.logs.source import LogSettings

_BATCH = 100_000  # rows held at once


def read(source: Source, settings: LogSettings) -> RawLog:
    """Run `settings.query` on the database at `settings.path` and read its rows in batches; LINE is the row from 1.

    Raises:
        LogError: the database cannot be reached, the query fails, or it returns no rows.
        MissingExtraError: SQLAlchemy is not installed.
    """
    url = settings.path if isinstance(settings.path, str) else None
    if url is None or "://" not in url:
        raise LogError(f"format sql needs one database URL as path, such as sqlite:///shop.db, got {settings.path!r}")
    if not settings.query:
        raise LogError(f"{_hidden(url)}: set query to the SQL query whose rows are the events")
    batches = _adbc(url, settings.query) if url.startswith("adbc+") else _sqlalchemy(url, settings.query)
    path = source.spool_path(".parquet")
    parts = []
    for batch in batches:
        parts.append(source.spool_path(".parquet"))
        batch.write_parquet(parts[-1], compression="lz4", statistics=False)
    if not parts:
        raise LogError(f"{_hidden(url)}: the query returns no rows: {settings.query}")
    _unify(parts).sink_parquet(path, compression="lz4", statistics=False)
    for part in parts:
        part.unlink()
    return RawLog(scan(path, settings, f"query on {_hidden(url)}"), typed=True)


def _unify(parts: list[Any]) -> pl.LazyFrame:
    """The batches under each other; a column whose type changes between batches becomes text."""
    frames = [pl.scan_parquet(part, glob=False) for part in parts]
    schemas = [frame.collect_schema() for frame in frames]
    for name in schemas[0]:
        types = {schema[name] for schema in schemas} - {pl.Null()}
        target = types.pop() if len(types) == 1 else pl.String()
        frames = [frame.with_columns(pl.col(name).cast(target, strict=False)) for frame in frames]
    return pl.concat(frames)


def _sqlalchemy(url: str, query: str) -> Iterator[pl.DataFrame]:
    try:
        import sqlalchemy
    except ImportError as error:
        raise MissingExtraError("sqlalchemy", "sql", "reading a log from a database") from error
    try:
        engine = sqlalchemy.create_engine(url)
        with engine.connect().execution_options(stream_results=True, max_row_buffer=_BATCH) as connection:
            result = connection.execute(sqlalchemy.text(query))
            names = list(result.keys())
            _distinct(names, url)
            for rows in result.partitions(_BATCH):
                columns = zip(*rows, strict=True)
                yield pl.DataFrame([_series(name, list(values)) for name, values in zip(names, columns, strict=True)])
        engine.dispose()
    except ImportError as error:
        raise LogError(
            f"{_hidden(url)}: the driver of this database is not installed ({error}); install it with pip"
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).split("\n", 1)[0]
        raise LogError(f"{_hidden(url)}: {reason}; check the URL and the query: {query}") from error


def _adbc(url: str, query: str) -> Iterator[pl.DataFrame]:
    scheme, _, rest = url.removeprefix("adbc+").partition("://")
    package = f"adbc_driver_{scheme}"
    try:
        driver = importlib.import_module(f"{package}.dbapi")
    except ImportError as error:
        name = package.replace("_", "-")
        raise LogError(
            f"{_hidden(url)}: the package {name} is not installed; run: pip install {name} pyarrow"
        ) from error
    target = rest.removeprefix("/") if scheme == "sqlite" else f"{scheme}://{rest}"
    try:
        with driver.connect(target) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            for record in cursor.fetch_record_batch():
                frame = pl.DataFrame(pl.from_arrow(record))
                _distinct(frame.columns, url)
                if frame.height:
                    yield frame
    except driver.Error as error:
        raise LogError(f"{_hidden(url)}: {error}; check the URL and the query: {query}") from error


def _distinct(names: list[str], url: str) -> None:
    twice = next((name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1), None)
    if twice is not None:
        raise LogError(f"{_hidden(url)}: the query returns two columns called {twice!r}; rename one with AS")


def _series(name: str, values: list[Any]) -> pl.Series:
    """A column in its own type; SQLite columns may mix types, which then become text."""
    try:
        series = pl.Series(name, values, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        series = pl.Series(name, values, dtype=pl.Object)
    if series.dtype == pl.Object:
        series = pl.Series(name, [value if value is None else str(value) for value in values], dtype=pl.String)
    return series


def _hidden(url: str) -> str:
    """The URL without its password."""
    before, at, after = url.rpartition("@")
    scheme, mark, login = before.partition("://")
    return f"{scheme}{mark}{login.split(':', 1)[0]}:***@{after}" if at and ":" in login else url
