"""Friend recommendation: users ranked for users by the vectors that a model has learned of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from graphrec import ops
from graphrec.errors import UnsupportedError, check_list_length
from graphrec.graph.ids import distinct
from graphrec.models.base import blocks
from graphrec.nn.relations import Relations

if TYPE_CHECKING:
    from graphrec.graph.ids import IdMap
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender


def rank_friends(
    model: Recommender, users: np.ndarray, k: int, known: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rank users for users by the cosine of their vectors; never a user for itself.

    s(u, v) = <e_u, e_v> / (|e_u| |e_v|), which follows common tastes, and common friends where the model propagates links.

    Args:
        model: with embeddings.
        users: int64 (B,), dense user indices.
        k: list length, 1..U-1.
        known: CSR (indptr int64 (U + 1,), indices (E,)) of the links to leave out, or None.

    Returns:
        int64 (B, k), best first, -1 where fewer are left, and float32 (B, k) scores. Ties break to the lower index.

    Raises:
        UnsupportedError: the model has no user vectors.
        ConfigError: `k` is out of range.
    """
    embeddings = model.embeddings()
    if embeddings is None:
        raise UnsupportedError(f"{model.name} has no vectors of users to compare; use a trained model such as social-lightgcn")
    unit = torch.nn.functional.normalize(torch.from_numpy(embeddings["user"]), dim=1)
    num_users = len(unit)
    check_list_length(k, num_users - 1, "other users")
    lists, scores = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
    for block in blocks(users, num_users):
        values, found = ops.select_topk(unit[torch.from_numpy(block)] @ unit.T, k, *_left_out(block, known))
        lists.append(found.numpy())
        scores.append(values.numpy())
    return np.concatenate(lists), np.concatenate(scores)


def known_links(store: GraphStore, name: str = "follows") -> tuple[np.ndarray, np.ndarray]:
    """The links that users of `store` have, out of them or into them, as CSR (indptr (U + 1,), indices), ascending.

    Raises:
        ConfigError: the store has no such links.
    """
    relation = Relations.from_store(store).social(name, "friend recommendation")
    rows, columns = relation.rows, relation.indices.long()
    both = ops.Relation.from_coo(
        torch.cat([rows, columns]), torch.cat([columns, rows]), relation.num_dst, relation.num_src
    )
    return both.indptr.numpy(), both.indices.numpy()


def friends_frame(user_ids: IdMap, users: np.ndarray, lists: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    """Ranked users as a frame of original ids: user_id, rank (1 is best), friend_id, score."""
    used = lists >= 0
    ranks = np.broadcast_to(np.arange(1, lists.shape[1] + 1), lists.shape)[used]
    return pl.DataFrame(
        [
            user_ids.gather(np.repeat(users, used.sum(axis=1))).rename("user_id"),
            pl.Series("rank", ranks, dtype=pl.Int64),
            user_ids.gather(lists[used]).rename("friend_id"),
            pl.Series("score", scores[used], dtype=pl.Float32),
        ]
    )


def _left_out(users: np.ndarray, known: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
    """CSR of what the lists of `users` must not hold: the user itself and the known links, ascending."""
    own = [np.array([user], dtype=np.int32) for user in users]
    if known is not None:
        indptr, indices = known
        own = [distinct(np.concatenate([indices[indptr[u] : indptr[u + 1]], one])).astype(np.int32) for u, one in zip(users, own, strict=True)]
    lengths = np.array([len(one) for one in own], dtype=np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([np.empty(0, np.int32), *own])
