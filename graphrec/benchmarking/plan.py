"""What is measured: the rows of the table, the protocol, and what makes a finished cell the one that is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.models.trained import TrainedRecommender
from graphrec.settings import parse
from graphrec.training.settings import TrainSettings

REQUEST, RESULT, RUN = (
    "request.json",
    "result.json",
    "run",
)  # in the folder of a cell while it is measured; the run stays

_FREE = {"device", "checkpoint_every"}  # training settings that do not change what is learned


@dataclass(frozen=True)
class Contender:
    """A model with its settings: one row of the table per data set.

    Attributes:
        label: its name in the table.
        model: a key of `graphrec.models.MODELS`.
        model_settings, train: what is given of its settings; the seed is the grid's.
        members: how many are trained alike, from seeds of their own, and averaged: `4*A`.
    """

    label: str
    model: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    members: int = 1

    def of_members(self, count: int) -> Contender:
        """Return the row `count*A` of the mean of so many models of this one, which ranks as A does where the seed changes nothing.

        Raises:
            ConfigError: fewer than two.
        """
        label = f"{count}*{self.label}"
        if count < 2:
            raise ConfigError(f"models: {label} is the mean of {count}; give 2 or more, or the name alone")
        return replace(self, label=label, members=count)

    def spec(self, seed: int) -> dict[str, Any]:
        """Return the resolved settings that make two cells of this row the same.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        if self.train.get("start_from"):
            raise ConfigError(f"{self.label} [train] start_from: a benchmark trains every row from the beginning; leave it out")
        model = create(self.model, self.model_settings)
        spec = {"model": self.model, "settings": model.settings.model_dump(mode="json"), "seed": seed}
        if isinstance(model, TrainedRecommender):
            train = parse(TrainSettings, {**self.train, "seed": seed}, f"{self.label} [train]").model_dump(mode="json")
            spec["train"] = {name: value for name, value in train.items() if name not in _FREE}
        return spec if self.members == 1 else {**spec, "members": self.members}

    def free(self, device: str | None) -> dict[str, Any]:
        """Return the training settings that are no part of `spec`; `device` wins over the row's own."""
        own = {name: value for name, value in self.train.items() if name in _FREE}
        return own if device is None else {**own, "device": device}

    def device(self, device: str | None) -> str | None:
        """Return the kind of device, "cpu" or "cuda", that this row would be trained on; None for one without training."""
        if "train" not in self.spec(0):
            return None
        kind = self.free(device).get("device", "auto").partition(":")[0]
        return ("cuda" if torch.cuda.is_available() else "cpu") if kind == "auto" else kind


@dataclass(frozen=True)
class Fusion:
    """The row `sum:A+B`: the scores of two other rows, added.

    Attributes:
        label: its name in the table.
        first, second: the labels of the two rows.
    """

    label: str
    first: str
    second: str


Row = Contender | Fusion


@dataclass(frozen=True)
class Protocol:
    """How every cell is measured.

    Attributes:
        seeds: one cell each.
        k: list lengths.
        metrics: names of registered metrics.
        validate: measure on a validation part of the training side; the test items are then not looked at.
    """

    seeds: Sequence[int]
    k: Sequence[int]
    metrics: Sequence[str]
    validate: bool

    @property
    def split(self) -> str:
        """The split that is ranked."""
        return "valid" if self.validate else "test"


def check_rows(rows: Sequence[Row]) -> None:
    """Check that labels are distinct and sums name rows.

    Raises:
        ConfigError: two rows share a label or a folder, or a sum names something that is no row of a model.
    """
    models = {row.label for row in rows if isinstance(row, Contender)}
    folders: dict[str, str] = {}
    for row in rows:
        other = folders.setdefault(folder_name(row.label), row.label)
        if other != row.label or [r.label for r in rows].count(row.label) > 1:
            raise ConfigError(f"models: {row.label!r} is there twice; give run files of the same name different names")
        if isinstance(row, Fusion):
            for part in (row.first, row.second):
                if part not in models:
                    raise ConfigError(f"models: {row.label} adds {part!r}, which is no model of the table")
            if row.first == row.second:
                raise ConfigError(f"models: {row.label} adds a model to itself, which changes no ranking")


def folder_name(label: str) -> str:
    """Return `label` as the name of a folder."""
    return re.sub(r"[^\w.+-]", "-", label)


def changes(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Return the names of the values that differ between two specs, nested ones with dots."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return [] if old == new else [prefix or "everything"]
    found = []
    for name in sorted(old.keys() | new.keys()):
        found += changes(old.get(name), new.get(name), f"{prefix}.{name}" if prefix else str(name))
    return found
