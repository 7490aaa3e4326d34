"""How well a model finds links between users that were held out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np
import polars as pl

from graphrec.atomic import atomic_file
from graphrec.errors import ConfigError, RunError, StoreError
from graphrec.evaluation import metrics
from graphrec.evaluation.measured import Measured
from graphrec.graph.ids import contained, distinct
from graphrec.graph.store import GraphStore
from graphrec.models.base import Recommender
from graphrec.models.friends import known_links, rank_friends
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.training.place import FRIENDS
from graphrec.training.run import Run, fingerprint


@takes_progress
def evaluate_friends(
    run_or_model: Run | Recommender | str | os.PathLike[str],
    store: GraphStore | str | os.PathLike[str] | None = None,
    held_out: pl.DataFrame | None = None,
    k: int | Sequence[int] = 20,
    relation: str = "follows",
    *,
    progress: Reporter | bool = SILENT,
) -> dict[str, float]:
    """Rank all users for every user with a held-out link, known links left out, and measure the lists.

    Links count in both directions, as the known ones that are left out do. Held-out links of users that the store lacks are
    counted and cannot be found.

    Args:
        run_or_model: a run, its folder, or a model, trained on `store`. The result of a run on the store's own held-out links
            is also written into its folder, where that can be written.
        store: whose links are known; None takes the one the run was trained on.
        held_out: src and dst; None takes those that the build held out (`[build] hold_out_links`).
        k: list lengths, each 1..U-1.
        relation: name of the links in the store.
        progress: told where the result of a run is not kept.

    Returns:
        `recall@k` and `ndcg@k` for each k, means over users with a held-out link; `users`, their number; `links`, held-out links
        out of them; `unknown_links`, rows with a user whom training lacks.

    Raises:
        StoreError: the store has no held-out links, or none joins users of it.
        RunError: the model was trained on another store, or on one with other links held out.
        ConfigError, UnsupportedError: as `rank_friends`, or a model is given without a store.
    """
    measured = Measured.open(run_or_model, store, "evaluate_friends", progress)
    _check_same_links(measured)
    store = measured.store
    given, lengths = held_out, [k] if isinstance(k, int) else list(k)
    if not lengths or min(lengths) < 1:
        raise ConfigError(f"k must be a list length of at least 1, or several, got {k}")
    if held_out is None:
        held_out = store.held_out_links()
    if held_out is None:
        raise StoreError(
            f"{store.folder} has no held-out links to find again; build it with [build] hold_out_links = 0.2 (--hold-out-links), "
            "and train on that"
        )
    ids = store.ids("user")
    source, target = ids.find(held_out["src"]), ids.find(held_out["dst"])
    good = (source >= 0) & (target >= 0) & (source != target)
    if not good.any():
        raise StoreError(f"none of the {len(held_out):,} held-out links joins two users of the store, so nothing can be found")
    num_users = len(ids)
    keys = distinct(np.concatenate([source[good] * num_users + target[good], target[good] * num_users + source[good]]))
    users, relevant = np.unique(keys // num_users, return_counts=True)
    lists, _ = rank_friends(measured.model, users, max(lengths), known_links(store, relation))
    hits = contained(users[:, None] * num_users + lists, keys) & (lists >= 0)
    values = {
        f"{one.__name__}@{length}": float(one(hits, relevant, length).mean())
        for one in (metrics.recall, metrics.ndcg)
        for length in lengths
    }
    result = {**values, "users": len(users), "links": len(keys), "unknown_links": int((~good).sum())}
    folder = measured.folder(progress) if given is None else None
    if folder is not None:
        with atomic_file(folder / FRIENDS, RunError) as temporary:
            temporary.write_text(json.dumps({"store": str(store.folder), **result}, indent=1) + "\n", encoding="utf-8")
    return result


def _check_same_links(source: Measured) -> None:
    """Make sure that the model has not learned from links that are to be found."""
    run, store = source.run, source.store
    if run is not None and run.config.store["fingerprint"] != fingerprint(store):
        raise RunError(
            f"the run {run.folder} was trained on other interactions, or with other links held out, than {store.folder} has, so it "
            "may have seen the links to find; train again on that store"
        )
    if not source.model.catalogue.users.series.equals(store.ids("user").series):
        raise RunError(f"the model was trained on other users than {store.folder} has; give the store that it was trained on")
