"""What a retrieval function may be given: a run, a model, or the folder of either."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Union

from graphrec.errors import RunError

if TYPE_CHECKING:
    from graphrec.models.base import Recommender
    from graphrec.training.run import Run

Source = Union["Run", "Recommender", str, "os.PathLike[str]"]


def open_model(source: Source) -> Recommender:
    """Return the model behind `source`; a folder is a run folder, or a model folder written by `save`.

    Raises:
        RunError: there is no such folder, it holds neither a run nor a model, or what it holds is damaged.
    """
    if not isinstance(source, (str, os.PathLike)):
        return getattr(source, "model", source)
    folder = Path(source)
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}; train one with: graphrec train --out {folder}")
    if (folder / "model.json").is_file():
        from graphrec.models import load_model

        return load_model(folder)
    from graphrec.training.run import Run

    return Run.load(folder).model
