"""`read_log`: any source of interactions to an `InteractionLog`."""

from __future__ import annotations

import atexit
import errno
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from graphrec.errors import ConfigError, LogError
from graphrec.logs import FOLDERS, FORMATS
from graphrec.logs.clean import clean
from graphrec.logs.files import find_files, sniff_format
from graphrec.logs.raw import RawLog, Source, combine
from graphrec.logs.side_tables import finish_tables, read_tables
from graphrec.logs.source import LogSettings
from graphrec.logs.spool import Spool
from graphrec.logs.table import InteractionLog
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.registry import resolve
from graphrec.settings import parse

_Path = str | os.PathLike[str]
_OF_TABLES = {"delimited", "parquet", "jsonl"}  # whose files hold rows of named columns, and nothing beside
_TRIPLES = {"train": "data1", "test": "test1"}  # the files of the Last.fm set in LightGCN's public code


@takes_progress
def read_log(
    source: _Path | Sequence[_Path] | LogSettings | Mapping[str, Any],
    *,
    rejected: _Path | None = None,
    progress: Reporter | bool = SILENT,
    **settings: Any,
) -> InteractionLog:
    """Read interaction events and their side tables from files, a folder or a database.

    The format is found by name and contents, columns by their usual names; every field of `LogSettings` can be given
    as a keyword to say otherwise. A bad row (missing id, unparsable time, NaN weight, ragged line, undecodable bytes) is not
    used but written to `rejected` with its file, line and reason. Reading streams, so a log may be larger than memory: its events
    lie in a temporary folder until `log.close()`, the end of `with read_log(...) as log:` or that of the process. In a
    notebook, close a log before its cell is run again; frames made of its events cannot be read afterwards.

        read_log("clicks.csv.gz", columns={"user_id": "visitor"}, items="products.parquet")
        read_log("logs/2024-*.jsonl", duplicates="sum")
        read_log("sqlite:///shop.db", query="SELECT customer_id, product_id, bought_at FROM orders")

    Args:
        source: a file, folder, glob or database URL, a list of files and globs, or the settings that hold the path.
        rejected: where the table of bad rows goes when there are any; None for `<name of the source>.rejected.parquet` in the
            working folder. `log.rejected` says where, and how many there are for which reason.
        progress: told which columns are used, how many rows were read, rejected and merged.
        settings: fields of `LogSettings`, such as format, columns, separator, time_unit, max_bad_share, duplicates, users,
            items, social, triples, item_relations, media.

    Raises:
        LogError: a file is missing, empty or damaged, a column is missing, or too many rows are bad.
        ConfigError: a setting is unknown or out of range.
        MissingExtraError: the source is a database and SQLAlchemy is not installed.
    """
    resolved = _resolve(source, settings)
    if resolved.path is None or resolved.path == []:
        raise ConfigError("[log] path: required but missing; give a file, folder, glob or database URL")
    paths = [resolved.path] if isinstance(resolved.path, str) else resolved.path
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    cache = Spool()
    try:
        with progress.task("Reading the log", total=3, unit="steps") as task:
            task.show(step="finding the columns")
            raw, origin = _read_raw(paths, resolved, Path(cache.name), progress)
            task.advance()
            task.show(step="reading side tables")
            tables = read_tables(resolved, raw.tables, origin)  # before the events, which take longer
            task.advance()
            task.show(step="reading and checking events")
            events, report = clean(raw, resolved, origin, Path(rejected or _rejects_of(paths[0])), where)
            task.advance()
        id_types = dict(events.collect_schema())
        tables, media = finish_tables(resolved, tables, id_types["user_id"], id_types["item_id"], origin)
    except BaseException as error:
        cache.cleanup()
        if _is_full(error):
            raise LogError(
                f"the disk is full while unpacking {where} into {tempfile.gettempdir()}; free some space there, or set the "
                f"environment variable TMPDIR to a folder with room for twice the log"
            ) from error
        raise
    atexit.register(cache.cleanup)  # keeps the folder even when only `events` of the log is kept
    return InteractionLog(events, **tables, media=media, source=where, rejected=report, settings=resolved, cache=cache)


def read_split_folder(folder: _Path, **settings: Any) -> InteractionLog:
    """Read a given split: `train.txt`, `test.txt` and perhaps `valid.txt` with adjacency lists, plain or compressed.

    The Last.fm set in LightGCN's public code has `data1.txt` and `test1.txt` instead, of tab-separated `user item count`, whose
    counts are left out. The events carry a column `split`. Takes the keywords of `read_log`.

    Raises:
        LogError: the folder or one of its files is missing, empty or damaged.
    """
    if not Path(folder).is_dir():
        raise LogError(f"no such folder: {folder}; it should hold train.txt and test.txt (or .gz, .zst)")
    triples = {side: next(Path(folder).glob(f"{stem}.txt*"), None) for side, stem in _TRIPLES.items()}
    if None in triples.values():
        return read_log(folder, format="adjacency", **settings)
    how = {"format": "delimited", "separator": "\t", "header": False, "columns": {"user_id": 0, "item_id": 1}}
    sides = [
        read_log(path, **how, **settings).events.with_columns(split=pl.lit(side)).collect()
        for side, path in triples.items()
    ]
    return InteractionLog(pl.concat(sides).lazy(), source=str(folder))


def _rejects_of(source: str) -> str:
    stem = re.sub(r"[^\w-]+", "-", Path(source).name.split(".")[0]).strip("-")
    return f"{stem or 'log'}.rejected.parquet"


def _resolve(source: Any, overrides: Mapping[str, Any]) -> LogSettings:
    if isinstance(source, LogSettings | Mapping):
        values = source.model_dump() if isinstance(source, LogSettings) else dict(source)
    elif isinstance(source, str | os.PathLike):
        values = {"path": os.fspath(source)}
    else:
        try:
            if hasattr(source, "columns"):
                raise TypeError
            values = {"path": [os.fspath(path) for path in source]}
        except TypeError:
            raise ConfigError(
                f"read_log: takes files, a folder, a glob, a database URL or settings, got {type(source).__name__}; write a frame to "
                "a Parquet file and give that"
            ) from None
    values.update({name: _plain(value) for name, value in overrides.items()})
    return parse(LogSettings, values, "[log]")


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return {name: _plain(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _read_raw(paths: list[str], settings: LogSettings, spool: Path, progress: Reporter) -> tuple[RawLog, Source]:
    if settings.format == "sql" or (settings.format == "auto" and any("://" in path for path in paths)):
        source = Source([], spool, progress)
        return resolve("log format", FORMATS, "sql")(source, settings), source
    source = Source(find_files(paths), spool, progress)
    if not source.paths:
        raise LogError(f"{', '.join(paths)}: no files there; check the folder and the pattern")
    by_format: dict[str, list[Path]] = {}
    for path in source.paths:
        by_format.setdefault(sniff_format(path) if settings.format == "auto" else settings.format, []).append(path)
    for name, files in by_format.items():
        for path in files:
            if path.is_dir() and name not in FOLDERS:
                raise LogError(f"{path} is a folder; for format {name!r} give its files, for example {path}/*")
    if len(by_format) > 1 and not by_format.keys() <= _OF_TABLES:
        raise LogError(
            f"{', '.join(paths)}: the files have several formats ({', '.join(sorted(by_format))}); only files of "
            f"{', '.join(sorted(_OF_TABLES))} are read together"
        )
    parts = [
        resolve("log format", FORMATS, name)(Source(files, spool, progress), settings) for name, files in by_format.items()
    ]
    return (parts[0] if len(parts) == 1 else combine(parts)), source


def _is_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or (isinstance(error, pl.exceptions.PolarsError | OSError) and "No space left" in str(error))
