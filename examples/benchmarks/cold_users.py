"""The second part of `cold_start.py`: users nobody knows yet, folded in after 1, 3 and 5 events and trained with them again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cold_split
import numpy as np
import torch
from cold_judge import recall
from cold_runs import Runs, seconds

from graphrec.graph.store import GraphStore

MODELS = ("lightgcn", "graph-filter", "item-knn", "user-knn")
_ALONE = 200  # users that are folded in one by one, for the time


def cold_users(store: GraphStore, split: cold_split.ColdSplit, runs: Runs, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row per model and number of events."""
    everyone = list(split.new_users.items())
    for count in (1, 3, 5):
        histories = [items[:count] for _, items in everyone]
        pairs = [(user, item) for (user, _), history in zip(everyone, histories, strict=True) for item in history]
        other = split.store(folder / f"with-{count}", pairs)
        for name in MODELS:
            settings = {"inputs": "id"} if name == "lightgcn" else {}
            model = runs(store, name, **settings).model
            truth = [set(model.catalogue.items.find(items[count:]).tolist()) for _, items in everyone]
            model.fold_in(histories[:1])  # what is fitted once for a length
            start = time.monotonic()
            for history in histories[:_ALONE]:
                model.fold_in([history])
            alone = 1000 * (time.monotonic() - start) / len(histories[:_ALONE])
            folded = recall(model.fold_in(histories), model.catalogue.items.find, histories, truth)
            run = runs(other, name, **settings)
            catalogue = run.model.catalogue
            scores = run.model.score(catalogue.users.index_of([user for user, _ in everyone]))
            again = recall(scores, catalogue.items.find, histories, truth)
            counts = torch.from_numpy(model.catalogue.item_counts.astype(np.float32)).repeat(len(everyone), 1)
            popular = recall(counts, model.catalogue.items.find, histories, truth)
            yield {
                "model": name, "events": count, "fold-in": folded, "trained again": again,
                "share": round(folded / max(again, 1e-9), 3), "popular": popular, "ms/user": round(alone, 2),
                "training s": seconds(run),
            }  # fmt: skip
