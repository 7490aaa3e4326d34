"""How well a model finds links between users that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from graphrec.errors import StoreError
from graphrec.evaluation import metrics
from graphrec.models.friends import known_links, rank_friends

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender


def evaluate_friends(
    model: Recommender, store: GraphStore, held_out: pl.DataFrame, k: int = 20, relation: str = "follows"
) -> dict[str, float]:
    """Rank all users for every user with a held-out link, known links left out, and measure the lists.

    Links count in both directions, as the known ones that are left out do. Held-out links of users that the store lacks are
    counted and cannot be found.

    Args:
        model: trained on `store`.
        store: whose links are known.
        held_out: src and dst, as `graphrec.models.friends.hold_out_links` gives them.
        k: list length.
        relation: name of the links in the store.

    Returns:
        `recall@k` and `ndcg@k`, means over users with a held-out link; `users`, their number; `links`, held-out links out of
        them; `unknown_links`, rows with a user whom training lacks.

    Raises:
        StoreError: no held-out link joins users of the store.
        ConfigError, UnsupportedError: as `rank_friends`.
    """
    ids = store.ids("user")
    source, target = ids.find(held_out["src"]), ids.find(held_out["dst"])
    good = (source >= 0) & (target >= 0) & (source != target)
    if not good.any():
        raise StoreError(f"none of the {len(held_out):,} held-out links joins two users of the store, so nothing can be found")
    num_users = len(ids)
    keys = np.unique(np.concatenate([source[good] * num_users + target[good], target[good] * num_users + source[good]]))
    users, relevant = np.unique(keys // num_users, return_counts=True)
    lists, _ = rank_friends(model, users, k, known_links(store, relation))
    hits = np.isin(users[:, None] * num_users + lists, keys) & (lists >= 0)
    values = {f"{one.__name__}@{k}": float(one(hits, relevant, k).mean()) for one in (metrics.recall, metrics.ndcg)}
    return {**values, "users": len(users), "links": len(keys), "unknown_links": int((~good).sum())}
