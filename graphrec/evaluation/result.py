"""The result of one evaluation, and its form on disk: `evaluation.json` and `evaluation.parquet`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graphrec.atomic import atomic_file
from graphrec.checksum import sha256_of
from graphrec.errors import RunError, shell_word
from graphrec.training.place import EVALUATION

SCHEMA = 1


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How good one model's full-catalogue lists are on one split of one store.

    Attributes:
        model: name of the model.
        store: folder of the graph store.
        split: the split that was ranked ("test").
        data: fingerprint of the test items and the masked items; two evaluations compare only where it is equal.
        settings: the resolved `EvaluateSettings`.
        metrics: overall values, `{"recall@20": 0.18, ...}`: means over users, or one value for all lists together.
        intervals: interval [low, high] of each metric that is a mean over users.
        by_user_activity: one dict per group of users (`graphrec.evaluation.breakdown.by_user_activity`).
        by_item_popularity: head, mid and tail (`graphrec.evaluation.breakdown.by_item_popularity`).
        concentration: cumulative popularity curves (`graphrec.evaluation.breakdown.concentration`).
        counts: users evaluated, test interactions, catalogue size, and what no metric counts: test interactions that repeat a
            masked item and users with no others (`left_out_repeats`, `left_out_users`), and those whose user or item training
            does not know (`left_out_unknown`, `left_out_unknown_users`). Of a sample also what there is in all (`all_users`,
            `all_test_interactions`).
        seconds: wall time of the steps.
        per_user: one row per evaluated user: user_id, history, relevant, and the per-user metrics (float64).
        learned: the model has learned from this very split, so that the figures are not of unseen interactions.
        interval: what the intervals are of: "bootstrap", or for many users "normal", mean ± z sd / sqrt(n).
    """

    model: str
    store: str
    split: str
    data: str
    settings: dict[str, Any]
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    by_user_activity: list[dict[str, Any]]
    by_item_popularity: list[dict[str, Any]]
    concentration: dict[str, list[float]]
    counts: dict[str, int]
    seconds: dict[str, float]
    per_user: pl.DataFrame
    learned: bool = False
    interval: str = "bootstrap"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the per-user table as plain values; NaN becomes None."""
        values = {name: value for name, value in vars(self).items() if name != "per_user"}
        return {"schema": SCHEMA, **_without_nan(values)}

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the JSON file and the per-user table into `folder` and return the path of the JSON file.

        The test split is written as `evaluation.json` and `evaluation.parquet`, another split as
        `evaluation-<split>.json` and so on.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        path, table = file_names(folder, self.split)
        # Table first, description last: a killed write leaves a pair that `load` recognises as not belonging together.
        with atomic_file(table, RunError) as temporary:
            self.per_user.write_parquet(temporary)
            checksum = sha256_of(temporary)
        with atomic_file(path, RunError) as temporary:
            values = {**self.to_dict(), "per_user_sha256": checksum}
            temporary.write_text(json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False), encoding="utf-8")
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str], split: str = "test") -> Evaluation:
        """Read what `save` wrote.

        Raises:
            RunError: the folder holds no evaluation of that split, or a damaged one, or one from a newer graphrec.
        """
        path, table = file_names(folder, split)
        if not path.is_file():
            raise RunError(f"{folder} holds no evaluation of the split {split!r}; run: graphrec evaluate {shell_word(folder)}")
        again = f"write it again with: graphrec evaluate {shell_word(folder)} --split {split}"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("schema") > SCHEMA:
                raise RunError(f"{path} was written by a newer graphrec; {again}")
            if values.pop("per_user_sha256") != sha256_of(table):
                raise RunError(f"{table} does not belong to {path.name}: it was cut off or edited; {again}")
            values["metrics"] = {name: math.nan if v is None else v for name, v in values["metrics"].items()}
            return cls(**values, per_user=pl.read_parquet(table))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as problem:
            raise RunError(f"{path} is damaged: {problem}; {again}") from problem

    def values(self, metric: str) -> np.ndarray:
        """Return the per-user values of `metric`, float64 (B,)."""
        return self.per_user[metric].to_numpy()

    @property
    def user_metrics(self) -> list[str]:
        """Names of the metrics that have one value per user."""
        return [name for name in self.metrics if name in self.per_user.columns]

    def rows(self) -> list[tuple[str, float | None, float | None, float | None]]:
        """Return (metric, value, low, high) for printing; the bounds are None where there is no interval."""
        return [(name, value, *self.intervals.get(name, (None, None))) for name, value in self.metrics.items()]

    def notes(self) -> list[str]:
        """Return what has to be known of the figures, in sentences."""
        users, whole = self.counts["users"], self.counts.get("all_users", self.counts["users"])
        sample = f"a random sample of {users:,} of {whole:,} users, and coverage and gini, where measured, are of their lists alone"
        learned = f"{self.model} has learned from the {self.split} split: these figures are not of unseen interactions"
        have = {name.partition("@")[0] for name in self.metrics}
        missing = [name for name in self.settings.get("metrics", ()) if name not in have]
        unfit = f"no {' and no '.join(missing)}: the scores of {self.model} order items and are no ratings"
        told = (sample, users < whole), (learned, self.learned), (left_out(self.counts), True), (unfit, missing)
        return [note for note, holds in told if note and holds]

    def __str__(self) -> str:
        lines = [f"{self.model} on {self.store}, split {self.split}, {self.counts['users']:,} users"]
        lines += self.notes()
        for name, value, low, high in self.rows():
            interval = "" if low is None else f"  [{low:.4f}, {high:.4f}]"
            lines.append(f"  {name:<14} {value:>10.4f}{interval}")
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook shows of it


def left_out(counts: Mapping[str, int]) -> str:
    """Say in a sentence which held-out interactions no metric counts, for training does not know both ends; "" where none."""
    unknown, users = (counts.get(name, 0) for name in ("left_out_unknown", "left_out_unknown_users"))
    if not unknown:
        return ""
    known = counts.get("all_test_interactions", counts["test_interactions"])
    held_out = unknown + counts["left_out_repeats"] + known
    return (
        f"left out of every metric: {unknown:,} of {held_out:,} held-out interactions, whose user or item training does not "
        f"know; users who have no others: {users:,}"
    )


def file_names(folder: str | os.PathLike[str], split: str) -> tuple[Path, Path]:
    """Return the paths of the JSON file and the per-user table of `split` in a run folder."""
    stem = EVALUATION if split == "test" else f"{EVALUATION}-{split}"
    return Path(folder) / f"{stem}.json", Path(folder) / f"{stem}.parquet"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
