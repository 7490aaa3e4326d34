"""The rows that are not used: their table on disk, the report, and the error when there are too many."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from graphrec.atomic import atomic_file
from graphrec.errors import LogError
from graphrec.logs.table import RejectReport
from graphrec.progress import Reporter

_SHOWN = 3  # rejected rows quoted in an error
_COLUMNS = ["file", "line", "reason", "raw"]
_MENDS = {
    "missing": "check columns, separator and header",
    "missing behavior": "set default_behavior to the behaviour that such rows stand for",
    "nested": "map the column to a key with a plain value, or write the part that is meant to a key of its own",
    "ragged line": "check separator, header and quotes",
    "undecodable bytes": 'set encoding, for example "latin-1" or "cp1252"',
    "not a JSON object": "give one JSON object a line",
    "user_id is no integer": 'set id_type = "string"',
    "item_id is no integer": 'set id_type = "string"',
    "unparsable timestamp": "set time_format, or map timestamp to another column",
    "timestamp in the future": "set time_unit to the unit of the column",
    "timestamp in another unit": "convert the times to one unit, or set time_unit",
    "timestamp before 1970": "set time_unit or time_format",
    "decimal comma": "set decimal_comma = true under [log], which needs another separator than the comma, or write numbers with "
    "a decimal point",
    "point in weight": "write weights with a decimal comma and without points between thousands, or leave decimal_comma out",
    "weight": "map weight to another column",
    "unknown split": "name the splits train, valid and test",
}
"""What to do about a reason, by how the reason begins."""


def report(
    bad: Path,
    target: Path,
    total: int,
    max_bad_share: float,
    where: str,
    progress: Reporter,
    rows_of: Mapping[str, int] | None = None,
) -> RejectReport:
    """Move the table of bad rows to `target`, tell `progress` the counts, and judge the share.

    A table of an earlier read at `target` is removed when no row is bad now, so that it cannot mislead.

    Args:
        bad: the Parquet file of bad rows: file, line, reason, raw.
        target: where it goes when it has rows.
        total: all rows read.
        max_bad_share: the largest share of bad rows that is not an error.
        where: the source, for messages.
        progress: told the counts, and which files are bad for the most part.
        rows_of: rows of each file, where there are several.

    Raises:
        LogError: too many rows are bad; the message counts them by reason and quotes one of each of the most frequent.
    """
    counted = pl.scan_parquet(bad).group_by("reason").len().collect(engine="streaming")
    counts = {reason: count for reason, count in counted.sort("len", "reason", descending=[True, False]).iter_rows()}
    if not counts:
        if target.is_file() and _is_reject_table(target):
            target.unlink()
        return RejectReport(total)
    with atomic_file(target, LogError) as temporary:
        shutil.copyfile(bad, temporary)
    found = RejectReport(total, counts, target)
    if found.share > max_bad_share or found.rejected == total:
        raise LogError(_too_many(found, max_bad_share, where))
    progress.note(f"{found}; see {target}")
    for file, count in pl.scan_parquet(bad).group_by("file").len().sort("file").collect(engine="streaming").iter_rows():
        if rows_of and 2 * count > rows_of.get(file, 2 * count):
            progress.note(f"warning: {count:,} of the {rows_of[file]:,} rows of {file} were rejected")
    return found


def mend_of(reason: str) -> str:
    """What to do about a reason; empty where there is nothing to say."""
    return _MENDS.get(max((start for start in _MENDS if reason.startswith(start)), key=len, default=""), "")


def _is_reject_table(path: Path) -> bool:
    try:
        return list(pl.read_parquet_schema(path)) == _COLUMNS
    except (OSError, pl.exceptions.PolarsError):
        return False


def _too_many(found: RejectReport, max_bad_share: float, where: str) -> str:
    rejected = pl.scan_parquet(found.path)
    often = list(found.counts)[:_SHOWN]
    rows = pl.concat([rejected.filter(pl.col("reason") == reason).head(1) for reason in often]).collect()
    rule = "all rows are bad" if found.rejected == found.total else f"more than max_bad_share = {max_bad_share:.2%}"
    lines = [f"{where}: {found}; {rule}"]
    lines += [f"  {row['file']}, line {row['line']}: {row['reason']}: {row['raw'][:200]!r}" for row in rows.to_dicts()]
    mends = {mend for reason in found.counts if (mend := mend_of(reason))}
    lines.append(f"{'; '.join(sorted(mends))}; all bad rows are in {found.path}")
    return "\n".join(lines)
