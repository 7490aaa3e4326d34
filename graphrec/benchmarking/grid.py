"""`run_grid`: measure every cell that is not there yet, one fresh process each.

<folder>/cells/<data>/<row>/seed-<n>/cell.json          what was asked for and what came out
                                    /evaluation.*       metrics per user
                                    /run/               the trained model (not for sums)
<folder>/stores/                                        stores built from text files
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphrec import __version__
from graphrec.atomic import atomic_folder, check_kind, locked
from graphrec.benchmarking.data import Data, prepare
from graphrec.benchmarking.plan import REQUEST, RESULT, Contender, Fusion, Protocol, Row, changes, folder_name
from graphrec.errors import GraphrecError, RunError
from graphrec.evaluation.evaluate import check_measurable, measurable
from graphrec.models import create
from graphrec.models.score_sum import ScoreSum
from graphrec.progress import Reporter

CELLS, CELL = "cells", "cell.json"
SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """One finished or failed cell.

    Attributes:
        data, row: labels.
        seed: of model and training.
        folder: where its files are.
        result: seconds, megabytes, metrics and so on; None where it failed.
        error: why it failed, else empty.
    """

    data: str
    row: str
    seed: int
    folder: Path
    result: dict[str, Any] | None
    error: str = ""


def run_grid(
    data: dict[Path, str], rows: Sequence[Row], protocol: Protocol, folder: Path, device: str | None, progress: Reporter
) -> Iterator[Cell]:
    """Yield every cell, as it is found finished or gets measured; sums come after the rows they add.

    Args:
        data: data folder to label.
        rows: contenders and sums, checked.
        protocol: how to measure.
        folder: keeps the cells.
        device: where to train; None leaves it to the rows.
        progress: receives notes.

    Raises:
        RunError: the folder holds something else, another process is at work in it, or the disk is full.
    """
    ordered = [row for row in rows if isinstance(row, Contender)] + [row for row in rows if isinstance(row, Fusion)]
    check_kind(folder, RunError, "benchmark", CELLS, (".lock", "stores"))
    with locked(folder / ".lock", RunError, wait=False) as held:
        if not held:
            raise RunError(f"another process is at work in {folder}; wait for it or choose another folder")
        (folder / CELLS).mkdir(exist_ok=True)  # by which the folder is known as ours even where every cell fails
        for source, label in data.items():
            try:
                ready = prepare(source, label, folder / "stores", protocol.validate, progress)
                check_measurable(ready.store, protocol.split, protocol.k, protocol.metrics)  # not only once a model is trained
            except GraphrecError as problem:
                progress.note(f"{label}: {problem}")
                for row in ordered:
                    for seed in protocol.seeds:
                        yield Cell(label, row.label, seed, _place(folder, label, row.label, seed), None, str(problem))
                continue
            yield from _Grid(ready, protocol, folder, device, progress).cells(ordered)


def not_shown(folder: Path, cells: Sequence[Cell]) -> dict[str, int]:
    """Count the finished cells in a benchmark's folder that are not among `cells`, by data and row, as in their paths."""
    shown = {cell.folder for cell in cells}
    others = (path.parent for path in sorted((folder / CELLS).glob(f"*/*/seed-*/{CELL}")) if path.parent not in shown)
    return dict(Counter(place.parent.relative_to(folder / CELLS).as_posix() for place in others))


class _Grid:
    """The cells of one data set."""

    def __init__(self, data: Data, protocol: Protocol, folder: Path, device: str | None, progress: Reporter) -> None:
        self.data, self.protocol, self.folder, self.device, self.progress = data, protocol, folder, device, progress
        self.found: dict[tuple[str, int], Cell] = {}
        self.contenders: dict[str, Contender] = {}
        self.elsewhere: Counter[str] = Counter()

    def cells(self, rows: Sequence[Row]) -> Iterator[Cell]:
        """Yield the cells of all rows and seeds."""
        self.contenders = {row.label: row for row in rows if isinstance(row, Contender)}
        for row in rows:
            for seed in self.protocol.seeds:
                cell = self._cell(row, seed)
                self.found[row.label, seed] = cell
                yield cell
        for what, count in self.elsewhere.items():
            self.progress.note(
                f"{self.data.label}: kept cells measured {what}: {count}; to measure all alike choose another folder than "
                f"{self.folder}"
            )

    def _cell(self, row: Row, seed: int) -> Cell:
        place = _place(self.folder, self.data.label, row.label, seed)
        name = f"{self.data.label} {row.label} seed {seed}"
        try:
            spec = self._spec(row, seed)
            kept = _read(place)
            if kept is not None and not changes(kept["spec"], spec):  # a key that an older version did not know is None
                self._look(row, kept["result"])
                return Cell(self.data.label, row.label, seed, place, kept["result"])
            if kept is not None:
                self.progress.note(
                    f"{name}: measured again, for other settings: {', '.join(changes(kept['spec'], spec))}"
                )
            result = self._measure(row, seed, spec, place)
        except GraphrecError as problem:
            if "disk is full" in str(problem):  # no fault of the cell, and the next would end the same way
                raise
            self.progress.note(f"{name}: failed: {problem}")
            return Cell(self.data.label, row.label, seed, place, None, str(problem))
        shown = ", ".join(f"{metric} {value:.4f}" for metric, value in result["metrics"].items())
        self.progress.note(f"{name}: {shown}; fitted in {result['fit_seconds']:.1f} s")
        return Cell(self.data.label, row.label, seed, place, result)

    def _look(self, row: Row, result: dict[str, Any]) -> None:
        """Count a kept cell that comes from another version or kind of device than what would measure it now."""
        version = result.get("version", "of an unknown version")
        if version != __version__:
            self.elsewhere[f"by graphrec {version}, not {__version__}"] += 1
        kept, wanted = result.get("device", ""), row.device(self.device) if isinstance(row, Contender) else None
        if wanted is not None and kept.partition(":")[0] != wanted:
            self.elsewhere[f"on {kept or 'an unknown device'}, not {wanted}"] += 1

    def _spec(self, row: Row, seed: int) -> dict[str, Any]:
        """What makes a cell that is already there the one that is asked for."""
        how = {"data": self.data.fingerprint, "split": self.protocol.split}
        how |= {"k": list(self.protocol.k), "metrics": list(self.protocol.metrics)}
        if isinstance(row, Contender):
            return {**how, **row.spec(seed), "stop_early": self.data.own_split and not self.protocol.validate}
        parts = [self._spec(self.contenders[label], seed) for label in (row.first, row.second)]
        return {**how, "sum": parts, "seed": seed, "metric": f"ndcg@{max(self.protocol.k)}", "chosen_on": "view"}

    def _measure(self, row: Row, seed: int, spec: dict[str, Any], place: Path) -> dict[str, Any]:
        if isinstance(row, Contender):
            one = create(row.model, row.model_settings)
            measurable(one if row.members == 1 else ScoreSum(), self.protocol.metrics)  # not only once it is trained
        request: dict[str, Any] = {"store": str(self.data.store.folder.resolve()), "spec": spec}
        parts: list[Cell] = []
        if isinstance(row, Contender):
            request["free"] = row.free(self.device)
        else:
            of_parts = [self.contenders[label] for label in (row.first, row.second)]
            parts = [self.found[label, seed] for label in (row.first, row.second)]
            missing = [part.row for part in parts if part.result is None]
            if missing:
                raise RunError(f"{' and '.join(missing)} failed, so there is nothing to add")
            request["cells"] = [str(part.folder.resolve()) for part in parts]
            request["devices"] = [part.free(self.device).get("device") for part in of_parts]
        with atomic_folder(place, RunError, overwrite=True, marker=CELL) as temporary:
            (temporary / REQUEST).write_text(json.dumps(request), encoding="utf-8")
            _run(temporary)
            result = json.loads((temporary / RESULT).read_text(encoding="utf-8"))
            for file in (REQUEST, RESULT):
                (temporary / file).unlink()
            result = self._with_parts(result, parts)
            content = {"schema": SCHEMA, "row": row.label, "spec": spec, "result": result}
            (temporary / CELL).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return result

    def _with_parts(self, result: dict[str, Any], parts: Sequence[Cell]) -> dict[str, Any]:
        """Count what a sum rests on too, and the way from the text files."""
        fit = result["fit_seconds"] + sum(part.result["fit_seconds"] for part in parts)
        peaks = [result["fit_peak_mb"], result["evaluate_peak_mb"], *(part.result["peak_mb"] for part in parts)]
        build = self.data.build_seconds
        total = (build or 0.0) + fit + result["evaluate_seconds"]
        return {**result, "fit_seconds": fit, "build_seconds": build, "total_seconds": total, "peak_mb": max(peaks)}


def _run(folder: Path) -> None:
    """Run a cell's process to its end.

    Raises:
        RunError: it failed; the message is its own.
    """
    command = [sys.executable, "-m", "graphrec.benchmarking.cell", str(folder)]
    # Its standard input stays open as long as this process lives.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = process.stdout.read()
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        process.stdin.close()
        process.stdout.close()
    if code < 0:
        raise RunError(f"the process was ended by signal {-code}" + (", as when memory runs out" if code == -9 else ""))
    if code:
        lines = said.strip().splitlines() or [f"the process ended with status {code}"]
        own = [number for number, line in enumerate(lines) if line.startswith("error: ")]
        raise RunError("\n".join(lines[own[-1] :]).removeprefix("error: ") if own else lines[-1])


def _place(folder: Path, data: str, row: str, seed: int) -> Path:
    return folder / CELLS / folder_name(data) / folder_name(row) / f"seed-{seed}"


def _read(place: Path) -> dict[str, Any] | None:
    """A finished cell; None where there is none, or one that was damaged or comes from another graphrec."""
    try:
        kept = json.loads((place / CELL).read_text(encoding="utf-8"))
        return kept if kept["schema"] == SCHEMA and kept["spec"] and kept["result"]["metrics"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
