"""Candidate lists to learn from: what a retrieval stage offers, and which of it held-out interactions confirm.

The labelled interactions are never part of what candidates and features are made from: with "valid" labels the training side
has none of them, with "hold-out" labels they are taken out of it and the retrieval, every member of a sum, is learned again on the
rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphrec.errors import ConfigError, StoreError
from graphrec.features.attributes import read_attributes
from graphrec.features.interaction import InteractionFeatures
from graphrec.graph.hold_out import HeldOutStore, choose_pairs
from graphrec.graph.ids import contained, distinct
from graphrec.graph.store import GraphStore
from graphrec.models.base import Recommender
from graphrec.models.ranker import TwoStage
from graphrec.progress import Reporter
from graphrec.training.again import learn_again
from graphrec.training.rank_settings import RankSettings
from graphrec.training.run import Run

_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Lists:
    """L candidate lists of N places.

    Attributes:
        users: int64 (L,).
        items: int64 (L, N).
        known: bool (L, N), places that hold a candidate.
        labels: bool (L, N), candidates that the user took.
        relevant: int64 (L,), held-out items of the user, among the candidates or not; at least 1.
        pairs: float32 (L, N, Fp), features of the pairs.
    """

    users: np.ndarray
    items: np.ndarray
    known: np.ndarray
    labels: np.ndarray
    relevant: np.ndarray
    pairs: np.ndarray


def resolve_candidates(store: GraphStore, settings: RankSettings) -> RankSettings:
    """Bound the default number of candidates by the number of items.

    Raises:
        ConfigError: more candidates than items are asked for.
    """
    if settings.candidates <= store.num_items:
        return settings
    if "candidates" in settings.model_fields_set:
        raise ConfigError(
            f"rank candidates: {settings.candidates} are more than the {store.num_items} items of the catalogue; "
            f"set [rank] candidates to {store.num_items} or less, or leave it out"
        )
    return settings.model_copy(update={"candidates": store.num_items})


def check_vectors(settings: RankSettings, labels: str) -> None:
    """Make sure that the vectors which the network learns from are those that it will read.

    Raises:
        ConfigError: they are wanted with labels of "hold-out".
    """
    if settings.vectors and labels == "hold-out":
        raise ConfigError(
            "rank vectors: the retrieval is learned again for labels of hold-out, and its vectors have other directions then; set "
            '[rank] labels = "valid" on a store with a validation split, or leave vectors out'
        )


def resolve_labels(store: GraphStore, settings: RankSettings, run: Run, progress: Reporter) -> str:
    """Decide between "valid" and "hold-out": a retrieval that has seen the labels is no measure of what it finds of them.

    What was chosen on the validation split, the best epoch or the weights of a sum, does not count as seen.

    Raises:
        StoreError: valid is asked for and the store has no validation split.
    """
    has_valid = "valid" in store.splits
    if settings.labels == "valid" and not has_valid:
        raise StoreError(
            f"{store.folder} has no held-out interactions in a valid split to learn from; build it again with one, "
            'or set [rank] labels = "hold-out"'
        )
    if settings.labels == "hold-out" or not has_valid:
        return "hold-out"
    if "valid" not in run.config.learned:
        return "valid"
    seen = f"{run.folder} has learned from valid interactions through a run that it started from"
    if settings.labels == "auto":
        progress.note(f"{seen}, so the second stage learns from a part of train: labels = hold-out")
        return "hold-out"
    progress.note(f'warning: {seen}, so the second stage will trust its order too much; set [rank] labels = "hold-out"')
    return "valid"


def features_of(store: GraphStore) -> InteractionFeatures:
    """Take features from the training side of `store`."""
    attributes = [read_attributes(store.table(ntype)) for ntype in ("user", "item")]
    return InteractionFeatures.fit(store.interactions(), (store.num_users, store.num_items), *attributes)


def held_out(run: Run, store: GraphStore, labels: str, settings: RankSettings, progress: Reporter) -> tuple[
    GraphStore, Recommender, np.ndarray
]:  # fmt: skip
    """Return what to make candidates and features from, the retrieval learned on it, and the held-out pairs.

    Returns:
        The store or a view without the pairs; the run's model or one like it learned on that view; int64 keys
        `user * I + item` of the pairs, ascending.

    Raises:
        StoreError: there is nothing to learn from.
        RunError: the members of a sum are to be learned again, and the run does not say how.
    """
    train = store.interactions()
    if labels == "valid":
        rows = store.interactions("valid")
        keys = distinct(rows.user * store.num_items + rows.item)
        keys = keys[~contained(keys, distinct(train.user * store.num_items + train.item))]
        view, model = store, run.model
    else:
        latest = store.manifest.settings.get("split", {}).get("method") in ("time", "leave_last_out")
        keys = choose_pairs(train, store.num_items, settings.hold_out, latest, settings.seed)
        view = HeldOutStore(store, keys)
    if not len(keys):
        raise StoreError(
            f"{store.folder} has no held-out interactions to learn from ({labels}: none of a known user with a new item); "
            "build it with a larger validation split, or from a log whose users have at least two items"
        )
    if labels == "hold-out":
        model = learn_again(run, view, progress)
    return view, model, keys


def make_lists(model: TwoStage, keys: np.ndarray, settings: RankSettings, progress: Reporter) -> Lists:
    """Retrieve candidates and take features for every user with a held-out item.

    Args:
        model: assembled from the retrieval and the features of the same training side.
        keys: int64, `user * I + item` of the held-out pairs, ascending.

    Raises:
        StoreError: fewer than two lists hold a positive and a negative.
    """
    num_items = model.catalogue.num_items
    relevant = np.bincount(keys // num_items, minlength=model.catalogue.num_users)
    users = np.flatnonzero(relevant)
    if len(users) > settings.max_lists:
        users = np.sort(np.random.default_rng(settings.seed).permutation(users)[: settings.max_lists])
    parts = []
    with progress.task("Retrieving candidates", total=len(users), unit="users") as task:
        for start in range(0, len(users), _USERS_AT_ONCE):
            block = users[start : start + _USERS_AT_ONCE]
            found = model.candidates(block)
            labels = contained(block[:, None] * num_items + found.items, keys) & found.known
            useful = labels.any(1) & (found.known & ~labels).any(1)
            parts.append((block[useful], found.items[useful], found.known[useful], labels[useful],
                          relevant[block[useful]], model.pairs(block, found)[useful]))  # fmt: skip
            task.advance(len(block))
    lists = Lists(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    if len(lists.users) < 2:
        raise StoreError(
            f"the retrieval finds held-out items among its {settings.candidates} candidates for {len(lists.users)} users, and "
            "the second stage needs two; raise [rank] candidates, or hold out more interactions"
        )
    return lists
