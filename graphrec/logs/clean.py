"""From raw events to canonical ones: ids, times and weights are parsed, and every bad row is put aside with its reason.

Two streaming passes over the source: the first counts which kinds of ids and times the columns hold, the second parses
by that and writes good and bad rows to Parquet at once. Memory stays bounded whatever the size of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs import ids, numbers, rejects, times
from graphrec.logs.duplicates import PARTITION_ROWS, merge_duplicates
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, RawLog, Source
from graphrec.logs.source import LogSettings
from graphrec.logs.table import EVENT_TYPES, SPLITS, TIME, RejectReport

_SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "valid", "validation": "valid", "dev": "valid"}
_PARSED = "parsed."
_BEHAVIOR = "interaction"  # where no row names one
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
    events = _prepare(raw.events, schema, settings.decimal_comma)
    by_file = _profile(events, schema, len(source.paths) > 1)
    counts = {name: int(by_file[name].sum()) for name in by_file.columns if name != FILE and by_file[name].dtype.is_integer()}
    total = counts["rows"]
    if total == 0:
        raise LogError(f"{where} holds no events, only a header or blank lines; check the file or the query")
    source.progress.note(f"{where}: {total:,} rows")
    parsed = _parse(events, schema, by_file, counts, settings, raw.typed, source)
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
    rows_of = dict(by_file.select(FILE, "rows").iter_rows()) if by_file.height > 1 else {}
    report = rejects.report(bad, rejected, total, settings.max_bad_share, where, source.progress, rows_of)
    files = sorted(good.rglob("*.parquet"))
    merge_duplicates(files, settings.duplicates, source.progress)
    return pl.scan_parquet(files, glob=False), report


def _prepare(events: pl.LazyFrame, schema: pl.Schema, decimal_comma: bool) -> pl.LazyFrame:
    for name in ("user_id", "item_id"):
        events = ids.prepare(events, name, schema[name])
    return times.prepare(events, "timestamp", schema["timestamp"], decimal_comma) if "timestamp" in schema else events


def _profile(events: pl.LazyFrame, schema: pl.Schema, by_file: bool) -> pl.DataFrame:
    """What the columns hold, a row for each file or one for all."""
    exprs = [pl.len().alias("rows"), *ids.profile("user_id"), *ids.profile("item_id")]
    if "behavior" in schema:
        exprs.append(ids.as_string("behavior", schema["behavior"]).count().alias("behavior.text"))
    if "timestamp" in schema:
        exprs += times.profile("timestamp", schema["timestamp"])
    profiled = events.group_by(FILE).agg(exprs).sort(FILE) if by_file else events.select(exprs)
    return profiled.collect(engine="streaming")


def _parse(
    events: pl.LazyFrame,
    schema: pl.Schema,
    by_file: pl.DataFrame,
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
    default = settings.default_behavior
    values["behavior"] = pl.lit(default or _BEHAVIOR)
    if counts.get("behavior.text"):
        values["behavior"] = ids.as_string("behavior", schema["behavior"])
        if default is None:
            problems.append(pl.when(values["behavior"].is_null()).then(pl.lit("missing behavior")))
        else:
            values["behavior"] = values["behavior"].fill_null(default)
    values["timestamp"] = pl.lit(None, TIME)
    if "timestamp" in schema:
        values["timestamp"], problem = _times(schema["timestamp"], by_file, settings, source)
        problems.append(problem)
    values["weight"] = pl.lit(1.0, pl.Float32)
    if "weight" in schema:
        values["weight"], problem = _weight(schema["weight"], settings.decimal_comma)
        problems.append(problem)
    if "split" in schema:
        name = pl.col("split").cast(pl.String).str.strip_chars().str.to_lowercase()
        values["split"] = name.replace_strict(_SPLIT_NAMES, default=None, return_dtype=pl.String)
        problems.append(pl.when(values["split"].is_null()).then(pl.lit("unknown split")))
    parsed = events.with_columns(value.alias(_PARSED + name) for name, value in values.items())
    return parsed.with_columns(pl.coalesce(problems).alias(PROBLEM))


def _times(dtype: pl.DataType, by_file: pl.DataFrame, settings: LogSettings, source: Source) -> tuple[pl.Expr, pl.Expr]:
    """The times and what is wrong with them, each file's in its own unit; says so where there are several."""
    if settings.time_unit != "auto" or settings.time_format is not None or dtype.is_temporal():
        unit = "s" if settings.time_unit == "auto" else settings.time_unit
        return times.parse("timestamp", dtype, unit, settings.time_format, judge=False)
    usual, files = times.units("timestamp", by_file, FILE)
    value, problem = times.parse("timestamp", dtype, usual)
    for unit, names in files.items():
        several = f" and {len(names) - 1} more files" if len(names) > 1 else ""
        source.progress.note(f"timestamp: {times.SPOKEN[usual]}, but {times.SPOKEN[unit]} in {names[0]}{several}")
        there, (its_value, its_problem) = pl.col(FILE).is_in(names), times.parse("timestamp", dtype, unit)
        value, problem = pl.when(there).then(its_value).otherwise(value), pl.when(there).then(its_problem).otherwise(problem)
    return value, problem


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


def _weight(dtype: pl.DataType, decimal_comma: bool) -> tuple[pl.Expr, pl.Expr]:
    if dtype == pl.String:
        present = ids.text("weight", _NO_WEIGHT)
        value, comma = numbers.parse(present, decimal_comma), numbers.has_comma(present)
        point = present.str.contains(".", literal=True) if decimal_comma else pl.lit(False)
    else:
        present, comma, point = pl.col("weight"), pl.lit(False), pl.lit(False)
        value = present.cast(pl.Float64, strict=False)
    value = value.cast(pl.Float32)
    bad = present.is_not_null() & ~value.is_finite().fill_null(False)
    problem = pl.when(point).then(pl.lit("point in weight, where decimals have a comma"))
    problem = problem.when(bad & comma).then(pl.lit("decimal comma in weight"))
    problem = problem.when(bad).then(pl.lit("weight is no finite number"))
    problem = problem.when(value.abs() > _MOST_WEIGHT).then(pl.lit(f"weight is beyond {_MOST_WEIGHT:g}"))
    return value.fill_null(1.0), problem


def _raw_text(schema: pl.Schema) -> pl.Expr:
    """The row as it stands in the source; of typed sources, its columns as JSON."""
    columns = [pl.col(name).cast(pl.String, strict=False) for name in schema if name not in (FILE, LINE, PROBLEM, RAW)]
    as_json = pl.struct(columns).struct.json_encode()
    return pl.coalesce(RAW, as_json) if RAW in schema else as_json
