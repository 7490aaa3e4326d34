"""graphrec: from interaction logs to graphs, embeddings and recommendations.

The public names below are imported when first used, so that `import graphrec` and `graphrec --help` stay quick.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# NumPy's threads go on looking for work after a product, on the cores that the next kernel needs; 2^16 cycles of that are
# enough. OpenBLAS reads this when NumPy is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

_PUBLIC = {
    "InteractionLog": "graphrec.logs.table",
    "read_log": "graphrec.logs.read",
    "GraphStore": "graphrec.graph.store",
    "build": "graphrec.graph.build",
    "Recommender": "graphrec.models.base",
    "train": "graphrec.api",
    "train_ranker": "graphrec.training.rank",
    "Run": "graphrec.training.run",
    "load": "graphrec.training.run",
    "tune": "graphrec.tuning.tune",
    "fuse": "graphrec.tuning.fuse",
    "evaluate": "graphrec.evaluation.evaluate",
    "evaluate_friends": "graphrec.evaluation.friends",
    "compare": "graphrec.evaluation.compare",
    "benchmark": "graphrec.api",
    "recommend": "graphrec.retrieval.answer",
    "recommend_new_user": "graphrec.retrieval.unseen",
    "with_new_items": "graphrec.retrieval.unseen",
    "add_features": "graphrec.features.write",
    "similar": "graphrec.retrieval.answer",
    "recommend_friends": "graphrec.retrieval.friends",
    "export": "graphrec.retrieval.export",
    "load_config": "graphrec.config",
    "RunConfig": "graphrec.config",
    "Reporter": "graphrec.progress",
    "ConsoleReporter": "graphrec.progress",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'graphrec' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
