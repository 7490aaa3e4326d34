"""The whole of a benchmark: rows from names, the grid, the tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from graphrec.benchmarking.ablation import ablated_rows, losses
from graphrec.benchmarking.data import labels
from graphrec.benchmarking.grid import Cell, not_shown, run_grid
from graphrec.benchmarking.plan import Contender, Fusion, Protocol, Row, check_rows
from graphrec.benchmarking.report import FILES, tests, write_reports
from graphrec.benchmarking.summary import Benchmark, compare_rows, summarise
from graphrec.errors import ConfigError, LogError
from graphrec.evaluation.settings import EvaluateSettings
from graphrec.progress import SILENT, Reporter
from graphrec.settings import parse

SUM = "sum:"


def contestants(models: str | Sequence[str], read: Callable[[str], Contender]) -> list[Row]:
    """Turn names into rows.

    Args:
        models: names, with commas between where it is one text; `4*A` is the mean of four of A, `sum:A+B` adds two rows.
        read: makes a contender of a name that is neither.

    Raises:
        ConfigError: there is no name, or one is empty, is unknown, is there twice, or is no proper sum.
    """
    names = [name.strip() for name in models.split(",")] if isinstance(models, str) else list(models)
    _check_given("models", names, models, "names or run files, with one comma between two, such as popularity,lightgcn")
    pairs = {name: name.removeprefix(SUM).split("+") for name in names if name.startswith(SUM)}
    for name, parts in pairs.items():
        if len(parts) != 2 or not all(parts):
            raise ConfigError(f"models: {SUM}A+B adds two models, got {name!r}")
    plain = [name for name in names if name not in pairs]
    plain += dict.fromkeys(part for parts in pairs.values() for part in parts if part not in plain)
    contenders = {name: _contender(name, read) for name in dict.fromkeys(plain)}
    for row in contenders.values():
        row.spec(0)  # a wrong setting shows before anything runs
    rows: list[Row] = [contenders[name] for name in plain]
    for name in (name for name in names if name in pairs):
        first, second = (contenders[part].label for part in pairs[name])
        rows.append(Fusion(f"{SUM}{first}+{second}", first, second))
    check_rows(rows)
    return rows


def _check_given(what: str, names: Sequence[Any], given: Any, mend: str) -> None:
    """Refuse no name at all, and an empty one, as a comma at the end leaves it."""
    if not names or "" in names:
        raise ConfigError(f"{what}: {'a name is empty' if names else 'none is given'}, got {given!r}; give {mend}")


def _contender(name: str, read: Callable[[str], Contender]) -> Contender:
    """The row of a name, with the number of members that it may begin with."""
    count, _, one = name.partition("*")
    return read(one).of_members(int(count)) if one and count.isdecimal() else read(name)


def contest(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    rows: Sequence[Row],
    folder: str | os.PathLike[str],
    seeds: int,
    first_seed: int,
    k: int | Sequence[int],
    metrics: str | Sequence[str],
    validate: bool,
    device: str | None,
    progress: Reporter = SILENT,
    ablate: str | None = None,
) -> Benchmark:
    """Measure the rows and write the tables; arguments and errors as for `graphrec.api.benchmark`."""
    if not all(isinstance(number, Integral) for number in (seeds, first_seed)) or seeds < 1 or first_seed < 0:
        raise ConfigError(
            f"benchmark: seeds must be a whole number of at least 1 and first_seed one of at least 0, got {seeds!r} and {first_seed!r}"
        )
    how = parse(EvaluateSettings, {"k": k, "metrics": metrics}, "benchmark")
    protocol = Protocol(list(range(first_seed, first_seed + seeds)), how.k, how.metrics, validate)
    given = [data] if isinstance(data, str | os.PathLike) else list(data)
    _check_given("data", given, data, "graph stores, or folders with train.txt and test.txt")
    folders = [Path(one) for one in given]
    for source in folders:
        if not source.is_dir():
            raise LogError(
                f"no such data folder: {source}; give a graph store, or a folder with train.txt and test.txt"
            )
    named, path, origins = labels(folders), Path(folder), {}
    if ablate is not None:
        rows, origins = ablated_rows(rows, ablate, folders, progress)
        check_rows(rows)
    cells: list[Cell] = []
    with progress.task("Benchmark", total=len(named) * len(rows) * seeds, unit="cells") as task:
        for cell in run_grid(named, rows, protocol, path, device, progress):
            cells.append(cell)
            task.advance()
    pairs = [(origin.full, label) for label, origin in origins.items()] or None
    summaries, comparisons = summarise(cells), compare_rows(cells, protocol, progress, pairs)
    tested = losses(comparisons, origins) if origins else tests(comparisons)
    files: dict[str, Path] = {}
    if any(cell.result is not None for cell in cells) or not all((path / name).is_file() for name in FILES.values()):
        files = write_reports(path, protocol, cells, summaries, comparisons, tested)
    else:
        progress.note(f"no cell is finished; the tables in {path} stay as an earlier call wrote them")
    return Benchmark(path, protocol, cells, summaries, comparisons, files, tested, not_shown(path, cells))
