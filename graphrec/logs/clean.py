"""From raw events to canonical ones: ids, times and weights are parsed, and every bad row is put aside with its reason.

Two streaming passes over the source: the first counts which kinds of ids and times the columns hold, the second parses
by that and writes good and bad rows to Parquet at once. Memory stays bounded whatever the size of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs import ids, rejects, times
from graphrec.logs.duplicates import PARTITION_ROWS, merge_duplicates
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, RawLog, Source
from graphrec.logs.source import LogSettings
from graphrec.logs.table import EVENT_TYPES, SPLITS, TIME, RejectReport

_SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "valid", "validation": "valid", "dev": "valid"}
_PARSED = "parsed."
_NO_WEIGHT = tuple(word for word in ids.MISSING if word.lower() != "nan")  # a NaN weight is bad, an absent one is 1
_MOST_WEIGHT = 1e15  # sums of squares of larger ones leave float32


def clean(
    raw: RawLog, settings: LogSettings, source: Source, rejected: Path, where: str
) -> tuple[pl.LazyFrame, RejectReport]:
    """Parse raw events, put bad rows aside, apply the duplicates policy.

    Args:
        raw: what a reader returned.
        settings: units, policies and the largest share of bad rows.
        source: its spool receives the clean events.
        rejected: where the table of bad rows goes.
        where: the source, for messages.

    Returns:
        The canonical events, a scan of Parquet files in the spool, and the report of bad rows.

    Raises:
        LogError: there are no rows, all are bad, or more than `max_bad_share` of them are.
    """
    schema = raw.events.collect_schema()
    events = _prepare(raw.events, schema)
    counts = _profile(events, schema)
    total = counts["rows"]
    if total == 0:
        raise LogError(f"{where} holds no events, only a header or blank lines; check the file or the query")
    source.progress.note(f"{where}: {total:,} rows")
    parsed = _parse(events, schema, counts, settings, raw.typed, source)
    good, bad = source.spool / "events", source.spool / "bad.parquet"
    part = pl.PartitionBy(
        good, key={"part": pl.col("user_id").hash(seed=0) % -(-total // PARTITION_ROWS)}, include_key=False
    )
    names = [name for name in (*EVENT_TYPES, "split") if _PARSED + name in parsed.collect_schema()]
    bad_rows = parsed.filter(pl.col(PROBLEM).is_not_null())
    pl.collect_all(
        [
            parsed.filter(pl.col(PROBLEM).is_null())
            .select(pl.col(_PARSED + name).alias(name) for name in names)
            .sink_parquet(part, lazy=True, mkdir=True, compression="lz4", statistics=False),
            bad_rows.select(file=FILE, line=LINE, reason=PROBLEM, raw=_raw_text(schema)).sink_parquet(bad, lazy=True),
        ],
        engine="streaming",
    )
    report = rejects.report(bad, rejected, total, settings.max_bad_share, where, source.progress)
    files = sorted(good.rglob("*.parquet"))
    merge_duplicates(files, settings.duplicates, source.progress)
    return pl.scan_parquet(files, glob=False), report


def _prepare(events: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    for name in ("user_id", "item_id"):
        events = ids.prepare(events, name, schema[name])
    return times.prepare(events, "timestamp", schema["timestamp"]) if "timestamp" in schema else events


def _profile(events: pl.LazyFrame, schema: pl.Schema) -> dict[str, int]:
    exprs = [pl.len().alias("rows"), *ids.profile("user_id"), *ids.profile("item_id")]
    if "timestamp" in schema:
        exprs += times.profile("timestamp", schema["timestamp"])
    return events.select(exprs).collect(engine="streaming").row(0, named=True)


def _parse(
    events: pl.LazyFrame,
    schema: pl.Schema,
    counts: Mapping[str, int],
    settings: LogSettings,
    typed: bool,
    source: Source,
) -> pl.LazyFrame:
    """Add the reason of bad rows to PROBLEM, and every canonical column parsed, under a prefix."""
    values: dict[str, pl.Expr] = {}
    problems: list[pl.Expr] = [pl.col(PROBLEM)]
    for name in ("user_id", "item_id"):
        integer = settings.id_type == "integer"
        if settings.id_type == "auto" and not (typed and schema[name] == pl.String):
            integer = _all_integers(events, name, counts, source)
        values[name], problem = ids.parse(name, integer)
        problems.append(problem)
    values["behavior"] = pl.lit(settings.default_behavior)
    if "behavior" in schema:
        values["behavior"] = ids.as_string("behavior", schema["behavior"]).fill_null(settings.default_behavior)
    values["timestamp"] = pl.lit(None, TIME)
    if "timestamp" in schema:
        auto = settings.time_unit == "auto"
        unit = times.usual_unit("timestamp", counts) if auto else settings.time_unit
        dtype = schema["timestamp"]
        values["timestamp"], problem = times.parse("timestamp", dtype, unit, settings.time_format, judge=auto)
        problems.append(problem)
    values["weight"] = pl.lit(1.0, pl.Float32)
    if "weight" in schema:
        values["weight"], problem = _weight(schema["weight"])
        problems.append(problem)
    if "split" in schema:
        name = pl.col("split").cast(pl.String).str.strip_chars().str.to_lowercase()
        values["split"] = name.replace_strict(_SPLIT_NAMES, default=None, return_dtype=pl.String)
        problems.append(pl.when(values["split"].is_null()).then(pl.lit("unknown split")))
    parsed = events.with_columns(value.alias(_PARSED + name) for name, value in values.items())
    return parsed.with_columns(pl.coalesce(problems).alias(PROBLEM))


def _all_integers(events: pl.LazyFrame, name: str, counts: Mapping[str, int], source: Source) -> bool:
    """Whether all ids of a column are integers; says so when integers and texts are mixed."""
    present, integers = counts[f"{name}.text"], counts[f"{name}.integer"]
    if 0 < integers < present:
        odd = pl.col(f"{name}.text").is_not_null() & pl.col(f"{name}.integer").is_null()
        first = events.filter(odd).select(FILE, LINE, f"{name}.text").head(1).collect(engine="streaming")
        file, line, value = first.row(0)
        source.progress.note(
            f"{name} mixes {integers:,} integers and {present - integers:,} texts (the first is {value!r} in {file}, line "
            f'{line}): all are kept as text; set id_type = "integer" to reject the texts'
        )
    return 0 < integers == present


def _weight(dtype: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    present = ids.text("weight", _NO_WEIGHT) if dtype == pl.String else pl.col("weight")
    value = present.cast(pl.Float64, strict=False).cast(pl.Float32)
    bad = present.is_not_null() & ~value.is_finite().fill_null(False)
    comma = present.str.contains(r"^[+-]?\d+,\d+$") if dtype == pl.String else pl.lit(False)
    problem = pl.when(bad & comma).then(pl.lit("decimal comma in weight"))
    problem = problem.when(bad).then(pl.lit("weight is no finite number"))
    problem = problem.when(value.abs() > _MOST_WEIGHT).then(pl.lit(f"weight is beyond {_MOST_WEIGHT:g}"))
    return value.fill_null(1.0), problem


def _raw_text(schema: pl.Schema) -> pl.Expr:
    """The row as it stands in the source; of typed sources, its columns as JSON."""
    if RAW in schema:
        return pl.col(RAW)
    columns = [pl.col(name).cast(pl.String, strict=False) for name in schema if name not in (FILE, LINE, PROBLEM)]
    return pl.struct(columns).struct.json_encode()
