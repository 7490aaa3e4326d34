"""The settings behind the tables of the README: one recipe a row, the same for every data set.

A recipe is a run file in `recipes/`, which `graphrec benchmark` takes as it is, too. Where a data set wants another shape, the model
finds it on a held-out part of its own training items (graph filter). The settings of trained models were chosen on a validation part
of train: `quality.py --validate` shows its figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphrec.config import load_config
from graphrec.errors import unknown_name
from graphrec.models import MODELS

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A registered model with its settings."""

    model: str
    model_settings: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """All names that `find` knows."""
    return [*sorted(path.stem for path in FOLDER.glob("*.toml")), *MODELS]


def find(name: str) -> Recipe:
    """Return the recipe `name`, or a registered model with its defaults.

    Raises:
        ConfigError: neither a recipe nor a model has that name.
    """
    if name not in names():
        raise unknown_name("recipe or model", name, names())
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        return Recipe(name)
    config = load_config(path)
    settings, train = (part.model_dump(exclude_unset=True) for part in (config.model.settings, config.train))
    return Recipe(config.model.name, settings, train)


def some_of(text: str, known: Collection[str]) -> list[str]:
    """Return the names in `text`, which has commas between them, each once.

    Raises:
        ConfigError: one of them is not known.
    """
    chosen = list(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in known:
            raise unknown_name("model", name, known)
    return chosen


def add_grid_options(parser: argparse.ArgumentParser, grid: Collection[str]) -> None:
    """Add --seeds, --models, some of `grid`, and --json."""
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, 0, 1, ... (default 3)")
    parser.add_argument("--models", default=",".join(grid), help=f"some of {', '.join(grid)}, separated by commas")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
