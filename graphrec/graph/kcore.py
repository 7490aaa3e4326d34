"""Iterative k-core of the bipartite training graph."""

from __future__ import annotations

import numpy as np


def k_core(
    user: np.ndarray, item: np.ndarray, num_users: int, num_items: int, k_user: int, k_item: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the users and items of the largest subgraph where users have ≥ k_user and items ≥ k_item edges.

    Removing a user may push an item below its bound and the other way round, so edges are dropped until nothing
    changes. The result does not depend on the order of removal.

    Args:
        user, item: endpoints of distinct edges, integer (E,).
        num_users, num_items: U and I.
        k_user, k_item: least degrees; values below 1 count as 1, so isolated nodes are never in the core.

    Returns:
        bool (U,) and bool (I,): whether the node is in the core; all False where no core exists.

    Source: Seidman, Network structure and minimum degree, 1983; here with one bound per side (an (α, β)-core).
    """
    k_user, k_item = max(k_user, 1), max(k_item, 1)
    while True:
        keep_user = np.bincount(user, minlength=num_users) >= k_user
        keep_item = np.bincount(item, minlength=num_items) >= k_item
        keep = keep_user[user] & keep_item[item]
        if keep.all():
            return keep_user, keep_item
        user, item = user[keep], item[keep]
