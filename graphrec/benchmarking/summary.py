"""From cells to tables: means over seeds, and paired tests between the rows of a data set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graphrec.benchmarking.grid import Cell
from graphrec.benchmarking.plan import Protocol
from graphrec.evaluation.compare import Difference, better, compare
from graphrec.evaluation.result import Evaluation
from graphrec.evaluation.significance import holm, resamples_for, sign_flip_p_of_pairs
from graphrec.progress import Reporter

_LEFT_OUT = ("user_id", "history", "relevant")  # columns of the per-user table that are no metrics


@dataclass(frozen=True)
class Summary:
    """One row of the table: a model on a data set, over its finished seeds.

    Attributes:
        data, row: labels.
        seeds: how many cells are finished.
        mean, sd: metric to mean and standard deviation over seeds; the deviation is None for one seed.
        fit_seconds, total_seconds: means; total goes from the text files (or the store) to the metrics.
        peak_mb: the largest over seeds.
        errors: seed to message of the cells that failed.
        share: of the second model, for sums, over seeds; else None.
    """

    data: str
    row: str
    seeds: int
    mean: dict[str, float]
    sd: dict[str, float | None]
    fit_seconds: float | None
    total_seconds: float | None
    peak_mb: float | None
    errors: dict[int, str]
    share: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two rows of a data set on the same users, each user's metrics averaged over the seeds that both have.

    Attributes:
        data, a, b: labels.
        users, seeds: how many went into it.
        difference: means, interval and p-values; see `graphrec.evaluation.compare.Difference`.
        p_holm: `difference.p_permutation` adjusted for all tested pairs of the data set in this metric.
        resamples: sign patterns behind a p_permutation below 0.05: the more, the more pairs the data set has.
    """

    data: str
    a: str
    b: str
    users: int
    seeds: int
    difference: Difference
    p_holm: float
    resamples: int


@dataclass(frozen=True, repr=False)
class Benchmark:
    """The result of a benchmark.

    Attributes:
        folder: where cells and tables are.
        protocol: how it was measured.
        cells: every cell, data set by data set.
        rows: the table.
        comparisons: paired tests; of an ablation each row against its full model.
        files: name to path of what was written: cells, comparisons, markdown, html; empty where no cell is finished and there are
            tables of an earlier call.
        tested: head and lines of the table of the comparisons; of an ablation that of the losses.
        not_shown: data and row to number of finished cells in the folder that were not asked for, and are in no table.
    """

    folder: Path
    protocol: Protocol
    cells: list[Cell]
    rows: list[Summary]
    comparisons: list[Comparison]
    files: dict[str, Path]
    tested: tuple[list[str], list[list[Any]]]
    not_shown: dict[str, int] = field(default_factory=dict)

    @property
    def failures(self) -> list[Cell]:
        """The cells that failed."""
        return [cell for cell in self.cells if cell.result is None]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.folder}: {len(self.cells)} cells, {len(self.failures)} failed"]
        for row in self.rows:
            shown = ", ".join(f"{metric} {mean_sd(row, metric)}" for metric in row.mean)
            lines.append(f"  {row.data:<16} {row.row:<24} {shown or '; '.join(row.errors.values())}")
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook shows of it


def summarise(cells: Iterable[Cell]) -> list[Summary]:
    """Average the cells of each data set and row over their seeds, in the order they come."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.row), []).append(cell)
    return [_summary(data, row, group) for (data, row), group in groups.items()]


def compare_rows(
    cells: Sequence[Cell], protocol: Protocol, progress: Reporter, pairs: Sequence[tuple[str, str]] | None = None
) -> list[Comparison]:
    """Test every pair of rows of each data set, or those of `pairs`, on the users that both were measured on."""
    found: list[Comparison] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        by_row: dict[str, dict[int, Cell]] = {}
        for cell in cells:
            if cell.data == data and cell.result is not None:
                by_row.setdefault(cell.row, {})[cell.seed] = cell
        both = combinations(by_row, 2) if pairs is None else [pair for pair in pairs if set(pair) <= by_row.keys()]
        tested = {(a, b): seeds for a, b in both if (seeds := tuple(sorted(by_row[a].keys() & by_row[b].keys())))}
        side = cache(lambda row, seeds, own=by_row: _averaged([own[row][seed] for seed in seeds], protocol.split))
        resamples = resamples_for(len(tested))
        of_data: list[Comparison] = []
        for (a, b), seeds in tested.items():
            if not set(side(a, seeds).user_metrics) & set(side(b, seeds).user_metrics):
                progress.note(f"{data}: no paired test of {a} and {b}, which share no metric with a value for each user")
                continue
            progress.note(f"{data}: paired tests of {a} and {b}")
            result = compare(side(a, seeds), side(b, seeds))
            of_data += [
                Comparison(data, a, b, result.users, len(seeds), one, math.nan, resamples) for one in result.differences
            ]
        if resamples > resamples_for(1):
            progress.note(f"{data}: {len(tested)} pairs; those that differ are tested again, on {resamples:,} sign patterns")
            sides = {pair: [side(row, seeds) for row in pair] for pair, seeds in tested.items()}
            of_data = _tested_again(of_data, sides, resamples)
        found += _adjusted(of_data)
    return found


def mean_sd(row: Summary, metric: str) -> str:
    """Return a metric as text: `0.1917 ± 0.0006`."""
    if metric not in row.mean:
        return "–"
    sd = row.sd[metric]
    return f"{row.mean[metric]:.4f}" + ("" if sd is None else f" ± {sd:.4f}")


def _summary(data: str, row: str, cells: Sequence[Cell]) -> Summary:
    results = [cell.result for cell in cells if cell.result is not None]
    names = list(results[0]["metrics"]) if results else []
    values = {name: [_number(result["metrics"][name]) for result in results] for name in names}
    shares = [result["share"] for result in results if "share" in result]
    return Summary(
        data=data,
        row=row,
        seeds=len(results),
        mean={name: statistics.fmean(of_seeds) for name, of_seeds in values.items()},
        sd={name: statistics.stdev(of_seeds) if len(of_seeds) > 1 else None for name, of_seeds in values.items()},
        fit_seconds=statistics.fmean(result["fit_seconds"] for result in results) if results else None,
        total_seconds=statistics.fmean(result["total_seconds"] for result in results) if results else None,
        peak_mb=max((result["peak_mb"] for result in results), default=None),
        errors={cell.seed: cell.error for cell in cells if cell.result is None},
        share=statistics.fmean(shares) if shares else None,
    )


def _averaged(cells: Sequence[Cell], split: str) -> Evaluation:
    """One evaluation whose values per user are the means over `cells`, which differ in nothing but their seed."""
    evaluations = [Evaluation.load(cell.folder, split) for cell in cells]
    first = evaluations[0]
    names = [name for name in first.per_user.columns if name not in _LEFT_OUT]
    values = np.mean([evaluation.per_user.select(names).to_numpy() for evaluation in evaluations], axis=0)
    per_user = first.per_user.with_columns(pl.Series(name, values[:, column]) for column, name in enumerate(names))
    means = {name: float(np.nanmean(values[:, column])) for column, name in enumerate(names)}
    return replace(first, model=cells[0].row, metrics={**first.metrics, **means}, per_user=per_user)


def _tested_again(
    comparisons: Sequence[Comparison], sides: dict[tuple[str, str], list[Evaluation]], resamples: int
) -> list[Comparison]:
    """Take p_permutation from more sign patterns where it is below 0.05; above, no adjustment makes it a finding."""
    done = list(comparisons)
    for metric in dict.fromkeys(one.difference.metric for one in done):
        places = [p for p, one in enumerate(done) if one.difference.metric == metric and one.difference.p_permutation < 0.05]
        if not places:
            continue
        both = [sides[done[place].a, done[place].b] for place in places]
        measured = {id(side): side.values(metric) for pair in both for side in pair}
        number = {key: column for column, key in enumerate(measured)}
        pairs = np.array([[number[id(side)] for side in pair] for pair in both])
        p_values = sign_flip_p_of_pairs(np.stack(list(measured.values()), axis=1), pairs, resamples, 0)
        for place, p_value in zip(places, p_values.tolist(), strict=True):
            old = done[place].difference
            new = replace(old, p_permutation=p_value, better=better(metric, old.difference, p_value))
            done[place] = replace(done[place], difference=new)
    return done


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Fill in `p_holm`; the tests of one metric are one family."""
    done: dict[int, Comparison] = {}
    for metric in dict.fromkeys(one.difference.metric for one in comparisons):
        places = [place for place, one in enumerate(comparisons) if one.difference.metric == metric]
        adjusted = holm(np.array([comparisons[place].difference.p_permutation for place in places]))
        done |= {p: replace(comparisons[p], p_holm=float(value)) for p, value in zip(places, adjusted, strict=True)}
    return [done[place] for place in range(len(comparisons))]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
