"""What a retrieval function may be given: a run, a model, or the folder of either."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Union

from graphrec.errors import ConfigError, RunError, seen_from, shell_word

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender
    from graphrec.training.run import Run

Source = Union["Run", "Recommender", str, "os.PathLike[str]"]


def open_model(source: Source) -> Recommender:
    """Return the model behind `source`; a folder is a run folder, or a model folder written by `save`.

    Raises:
        RunError: there is no such folder, it holds neither a run nor a model, or what it holds is damaged.
    """
    run = open_run(source)
    if run is not None:
        return run.model
    if not isinstance(source, (str, os.PathLike)):
        return source
    from graphrec.models import load_model

    return load_model(source)


def open_run(source: Source) -> Run | None:
    """Return the run behind `source`, or None where that is a model alone, or the folder of one.

    Raises:
        RunError: there is no such folder, it holds neither a run nor a model, or what it holds is damaged.
    """
    from graphrec.training.run import Run

    if not isinstance(source, (str, os.PathLike)):
        return source if isinstance(source, Run) else None
    folder = Path(source)
    if folder.is_file():
        raise RunError(f"{folder} is a file; give the folder of a run")
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}{seen_from(folder)}; train one with: graphrec train --out {shell_word(folder)}")
    return None if (folder / "model.json").is_file() else Run.load(folder)


def open_store(source: Source, verify: bool = True) -> GraphStore:
    """Return the store that a run was trained on.

    Args:
        source: a run or its folder.
        verify: compare the store's files with their checksums.

    Raises:
        ConfigError: `source` is a model alone, which does not know its store.
        StoreError: the store is missing or damaged.
    """
    from graphrec.graph.store import GraphStore
    from graphrec.training.run import Run, RunRecord

    if isinstance(source, Run):
        return GraphStore.open(source.store_path, verify)
    if isinstance(source, (str, os.PathLike)) and not (Path(source) / "model.json").is_file():
        return GraphStore.open(RunRecord.read(Path(source)).store["path"], verify)
    raise ConfigError("a model alone does not know its graph store; give the run folder, or the store")
