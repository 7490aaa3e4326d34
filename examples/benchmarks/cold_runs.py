"""The trainings of `cold_start.py`: each once, kept in the working folder, so that an interrupted command goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import graphrec
from graphrec.graph.store import GraphStore
from graphrec.progress import SILENT, Reporter
from graphrec.training.place import MODEL
from graphrec.training.run import Run

COMMON = {
    "num_layers": 1,
    "embedding_dim": 64,
    "head": "cosine",
    "loss": {"name": "sampled-softmax", "temperature": 0.15},
}
TRAIN = {"epochs": 30, "eval_every": 1, "patience": 5, "learning_rate": 3e-3, "batch_size": 1024, "weight_decay": 0.0,
         "sampler": "uniform-edge", "device": "cpu", "metric": "ndcg@20"}  # fmt: skip


@dataclass
class Runs:
    """Trains models with settings that all share.

    Attributes:
        folder: of the run folders.
        train: as `[train]` of a run file.
        common: settings of every LightGCN.
        progress: receives steps and validations.
    """

    folder: Path
    train: dict[str, Any]
    common: dict[str, Any] = field(default_factory=lambda: dict(COMMON))
    progress: Reporter = SILENT

    def __call__(self, store: GraphStore, name: str = "lightgcn", label: str = "", **settings: Any) -> Run:
        """Train a model, go on with a run that was interrupted, or read the finished one of the same store, label and settings."""
        values = {**self.common, **settings} if name == "lightgcn" else settings
        events = store.manifest.files["splits/train.parquet"].sha256
        key = json.dumps([events, name, label, values, self.train], sort_keys=True)
        folder = self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        if (folder / MODEL).is_dir():
            return graphrec.load(folder)
        begun = (folder / "checkpoints" / "last").is_dir()
        train = {**self.train, "checkpoint_every": 15.0}
        options = {"resume": begun, "overwrite": not begun, "progress": self.progress}
        return graphrec.train(store, name, folder, train, model_settings=values, **options)


def seconds(run: Run) -> float:
    """Of its training, validation left out."""
    return round(run.summary()["train_seconds"], 1)
