"""Friends by original id, from a run folder in a fresh process."""

from __future__ import annotations

from typing import Any

import polars as pl

from graphrec.errors import RunError
from graphrec.graph.store import GraphStore
from graphrec.models.base import Recommender
from graphrec.models.friends import friends_frame, known_links, rank_friends
from graphrec.retrieval.answer import given_ids
from graphrec.retrieval.source import Source, open_model, open_store


def recommend_friends(
    source: Source,
    users: Any,
    k: int = 10,
    exclude_known: bool = True,
    *,
    store: GraphStore | None = None,
    relation: str = "follows",
) -> pl.DataFrame:
    """Return the `k` users most like each given user.

    Args:
        source: a run, a model, or the folder of either.
        users: original user ids, or a single one; text is converted where the store's ids are whole numbers.
        k: list length, 1..U-1.
        exclude_known: leave out those the user is linked with already.
        store: where the links are; None takes the store that the run was trained on.
        relation: name of the links.

    Returns:
        A frame with user_id, rank (1 is best), friend_id and score (the cosine of the users' vectors).

    Raises:
        UnknownIdError: a user does not occur in the training data.
        UnsupportedError: the model has no vectors of users.
        ConfigError: no user is given, `k` is out of range, or the store has no such links.
        RunError: links are to be left out, and neither a store nor a run that knows one is given.
    """
    model = open_model(source)
    ids = model.catalogue.users
    index = ids.index_of(given_ids(users, "user"))
    known = known_links(store or _store_of(source), relation) if exclude_known else None
    return friends_frame(ids, index, *rank_friends(model, index, k, known))


def _store_of(source: Source) -> GraphStore:
    if isinstance(source, Recommender):
        raise RunError("a model alone does not know who is linked; give store, or set exclude_known to False")
    return open_store(source, verify=False)
