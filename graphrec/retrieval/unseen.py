"""Recommendations for users and of items that training never saw, from a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
import torch

from graphrec import ops
from graphrec.errors import ConfigError, UnsupportedError, check_list_length
from graphrec.features.nodes import load_features
from graphrec.features.project import Projection, fit_projection
from graphrec.graph.ids import IdMap
from graphrec.graph.sides import NEW_ITEMS
from graphrec.graph.store import GraphStore
from graphrec.logs.table import check_table
from graphrec.models.listing import ranked_frame
from graphrec.models.ridge import Ridge, fit_ridge
from graphrec.models.score_sum import ScoreSum
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.retrieval.answer import check_fallback
from graphrec.retrieval.source import Source, open_model, open_run, open_store
from graphrec.training.run import fingerprint, other_features

if TYPE_CHECKING:
    from graphrec.models.base import Recommender
    from graphrec.training.run import Run

_CHECKED: WeakKeyDictionary[Recommender, list[dict[str, Any]]] = WeakKeyDictionary()
_USER_MAPS: WeakKeyDictionary[Recommender, tuple[list[dict[str, Any]], Projection, Ridge]] = WeakKeyDictionary()


@takes_progress
def with_new_items(
    source: Source,
    table: pl.DataFrame | None = None,
    store: GraphStore | None = None,
    progress: Reporter | bool = SILENT,
    cache: str | os.PathLike[str] | None = None,
) -> tuple[Recommender, int]:
    """Return a run's model with items added that have no training event, from their features or triples alone.

    Args:
        source: a run, a model, or the folder of either. A run stays as it is; a model that is given itself is changed.
        table: the new items: ids in the first column, and the columns that the features' templates name. None takes the items
            that the log listed and training did not see.
        store: the graph store with the features; None means the run's own.
        progress: receives the encoding.
        cache: folder of the vectors of texts that were encoded before, as `[features] cache`; None encodes all.

    Returns:
        The model, and how many items were added. Items that are there already, and items without text, are left out.

    Raises:
        UnsupportedError: the model uses no item features, or a table is given and none of them is made from text.
        ConfigError: there are no new items, or the table lacks a column.
        TypeError: the table is no Polars DataFrame.
        RunError: the store's features have been written anew, with other vectors, since the run was trained.
        StoreError: the store is missing or damaged.
    """
    from graphrec.features.write import encode_new

    run = open_run(source)
    model = open_model(run or source)
    if model is not source:
        model = copy(model)  # what belongs to a run keeps its items, on which it is evaluated
    names = getattr(model, "item_features", ())
    if not names and table is None and hasattr(model, "add_linked_items"):  # known by their triples
        return model, model.add_linked_items(store or open_store(source))
    if not names:
        raise UnsupportedError(
            f"this {model.name} model learned nothing from item features, so it cannot recommend new items; train one with "
            'inputs = {name = "id+features", item = ["text"]}'
        )
    store = store or open_store(source)
    _check_features(run, store, "item", names)
    if table is None:
        found = store.new_items()
        if found is None:
            raise ConfigError(
                f"the store {store.folder} lists no item without a training event; give a table of new items"
            )
        ids, titles = found[0].series, store.titles(NEW_ITEMS)
        features = {name: store.feature(NEW_ITEMS, name)[0] for name in names}
    else:
        check_table(table, "with_new_items: the table")
        table = table.unique(table.columns[0], keep="first", maintain_order=True)
        ids, titles = table[:, 0].rename("id"), _titles(table)
        texts = _item_texts(model, store)
        if not texts:
            raise UnsupportedError(
                f"this {model.name} model knows items by {', '.join(names)}, which are not made from text, so a table says nothing "
                "of them; list the new items in the log, with their media, and take those of the store"
            )
        columns = table.select(table.columns[1:])
        folder = None if cache is None else Path(cache)
        features = {name: encode_new(store, "item", name, columns, folder, progress) for name in texts}
        for name in set(names) - set(texts):
            progress.note(f"item.{name} is not made from text: it counts as missing for the items of the table")
            features[name] = np.zeros((len(ids), store.feature("item", name)[0].shape[1]), np.float32)
    fresh = model.catalogue.items.find(ids) < 0
    if not fresh.all():
        progress.note(f"{int((~fresh).sum())} of {len(ids)} items are in the catalogue already and stay as they are")
    kept = None if titles is None else [title for title, keep in zip(titles, fresh, strict=True) if keep]
    added = model.add_items(
        ids.filter(pl.Series(fresh)), {name: array[fresh] for name, array in features.items()}, kept
    )
    if added < fresh.sum():
        progress.note(f"{int(fresh.sum()) - added} new items have no text or media and were left out")
    return model, added


def recommend_new_user(
    source: Source,
    k: int = 10,
    *,
    history: Iterable[Any] = (),
    friends: Iterable[Any] = (),
    text: str = "",
    fallback: str | None = None,
    store: GraphStore | None = None,
) -> pl.DataFrame:
    """Recommend to a user that training never saw, from the best that is known: events, else friends, else words.

    - `history`: items chosen; see `Recommender.fold_in`.
    - `friends`: users of the training data; the mean of their scores.
    - `text`: what the user says. Where the model has features of users made from text it is read as one of these, and a
      ridge regression on the known users makes the vector; else it counts as an item with that text in the history. A sum adds
      up what its members make of it, each of which must read texts.

    Args:
        source: a run, a model, or the folder of either.
        k: list length, 1..I.
        history: original item ids: a list, array or series.
        friends: original user ids, likewise.
        text: words, for a model with features made from text.
        fallback: "popular" lists the most chosen items where none of the three is given; None refuses.
        store: the graph store, for `text`; None means the run's own.

    Returns:
        A frame with rank, item_id, score, title where there are titles, and `by`: which of the four it rests on. Items of the
        history are left out.

    Raises:
        UnknownIdError: an item or a friend does not occur in the training data.
        ConfigError: nothing is given and no fallback, `k` is out of range, or a text stands where a list of ids should.
        UnsupportedError: the model cannot do it.
        RunError: the store's features have been written anew, with other vectors, since the run was trained.
    """
    run = open_run(source)
    model = open_model(run or source)
    catalogue = model.catalogue
    check_list_length(k, catalogue.num_items)
    check_fallback(fallback)
    for name, ids in (("history", history), ("friends", friends)):
        if isinstance(ids, str | bytes):
            raise ConfigError(f"{name} must be a list of ids, got the text {ids!r}; give [{ids!r}]")
    history, friends = ([] if ids is None else list(ids) for ids in (history, friends))  # an array has no truth value
    seen = np.empty(0, np.int64)
    if history:
        by, scores = "history" if model.personal else "popular", model.fold_in([history])
        seen = np.unique(catalogue.items.index_of(history))
    elif friends:
        by, scores = "friends", model.score(catalogue.users.index_of(friends)).mean(dim=0, keepdim=True)
    elif text.strip():
        by, scores = "text", _scores_of_text(run, model, text, store or open_store(source))
    elif fallback == "popular":
        by, scores = "popular", torch.from_numpy(catalogue.item_counts.astype(np.float32))[None]
    else:
        raise ConfigError(
            "nothing is known of this user: give a history, friends or a text, or ask for what is popular by name "
            "(fallback = 'popular')"
        )
    values, items = ops.select_topk(scores, k, np.array([0, len(seen)]), seen.astype(np.int32))
    nobody = IdMap(pl.Series([0]), "user")
    frame = ranked_frame("user_id", nobody, np.zeros(1, np.int64), "item_id", items.numpy(), values.numpy(), catalogue)
    return frame.drop("user_id").with_columns(by=pl.lit(by))


def _scores_of_text(run: Run | None, model: Recommender, text: str, store: GraphStore) -> torch.Tensor:
    if not isinstance(model, ScoreSum):
        return _own_scores_of_text(run, model, text, store)
    silent = [one.name for one in model.counting if not _user_texts(one, store) and not _item_texts(one, store)]
    if silent:
        raise UnsupportedError(
            f"this sum cannot place a user by words, for words say nothing to {', '.join(dict.fromkeys(silent))} among its members, "
            "which use no features made from text; give a history, or ask the run of a member that uses them"
        )
    return model.sum_of(lambda member: _scores_of_text(run, member, text, store))


def _own_scores_of_text(run: Run | None, model: Recommender, text: str, store: GraphStore) -> torch.Tensor:
    """The scores (1, I) of a model that is no sum, the run's own or a member of its sum."""
    own = _user_texts(model, store)
    if own:
        _check_once(run, model, store, "user", model.parts["inputs"].settings.user)
        said = np.concatenate([_encoded(store, "user", name, text) for name in own], axis=1)
        _check_said(said.any(), text)
        leading, ridge = _user_map(model, store, own)
        return model.score_vectors(ridge.predict(leading.apply(said)))
    names, texts = getattr(model, "item_features", ()), _item_texts(model, store)
    if not texts:
        raise UnsupportedError(
            f"this {model.name} model uses no features made from text, so words say nothing to it; give a history"
        )
    _check_once(run, model, store, "item", names)
    features = {}
    for name in names:
        if name in texts:
            features[name] = _encoded(store, "item", name, text)
        else:
            features[name] = np.zeros((1, store.feature("item", name)[0].shape[1]), np.float32)  # no picture: missing, not zero
    vector = model.item_vectors(features)
    _check_said(np.isfinite(vector).all(), text)
    return model.fold_in_vectors(vector)


def _check_features(run: Run | None, store: GraphStore, ntype: str, names: Sequence[str]) -> None:
    """Refuse features that are not those of the training, whose vectors mean something else; names in the order of the training.

    A model alone does not know what it was trained from, and a store of other data has no vectors to compare.
    """
    if run is None or not run.config.origins or fingerprint(store) != run.config.store["fingerprint"]:
        return
    features = load_features(store, ntype, names)
    if not any(features.digest in origin for origin in run.config.origins.values()):
        raise other_features(run.folder, run.config, f"{features.describe()}, {features.digest}")


def _check_once(run: Run | None, model: Recommender, store: GraphStore, ntype: str, names: Sequence[str]) -> None:
    """As `_check_features`, for answers one after the other: the vectors are read again only when their provenance changes."""
    made_of = [store.provenance(ntype, name) for name in names]
    if run is not None and _CHECKED.get(model) != made_of:
        _check_features(run, store, ntype, names)
        _CHECKED[model] = made_of


def _user_map(model: Recommender, store: GraphStore, names: Sequence[str]) -> tuple[Projection, Ridge]:
    """From features of users to their trained vectors; fitted once for a model and the features that the store has now."""
    made_of = [store.provenance("user", name) for name in names]
    kept = _USER_MAPS.get(model)
    if kept is None or kept[0] != made_of:
        known = np.concatenate([store.feature("user", name)[0] for name in names], axis=1)
        rows = known.any(axis=1)
        leading = fit_projection(known[rows], "pca", known.shape[1])  # directions that set no two users apart would be noise
        kept = made_of, leading, fit_ridge(leading.apply(known[rows]), model.embeddings()["user"][rows])
        _USER_MAPS[model] = kept
    return kept[1:]


def _user_texts(model: Recommender, store: GraphStore) -> list[str]:
    """Names of the features of users made from text that a model reads."""
    own = [feature.removeprefix("user.") for feature in sorted(model.features_used(store)) if feature.startswith("user.")]
    return [name for name in own if _is_text(store, "user", name)]


def _item_texts(model: Recommender, store: GraphStore) -> list[str]:
    """Names of the features of items made from text that a model places new items by."""
    return [name for name in getattr(model, "item_features", ()) if _is_text(store, "item", name)]


def _is_text(store: GraphStore, ntype: str, name: str) -> bool:
    return store.provenance(ntype, name).get("kind") == "text"


def _encoded(store: GraphStore, ntype: str, name: str, text: str) -> np.ndarray:
    """The vector (1, F) of a text as a feature of the store has it, the text in the first place of its template."""
    from graphrec.features.templates import places
    from graphrec.features.write import encode_new, recorded_text

    columns = places(recorded_text(store, ntype, name)[1])
    row = {column: [text if number == 0 else None] for number, column in enumerate(columns)}
    return encode_new(store, ntype, name, pl.DataFrame(row, schema=dict.fromkeys(columns, pl.String)))


def _check_said(understood: bool, text: str) -> None:
    if not understood:
        raise ConfigError(f"the encoder knows no word of {text[:80]!r}; say it otherwise, or give a history")


def _titles(table: pl.DataFrame) -> list[str] | None:
    column = next((name for wanted in ("title", "name") for name in table.columns if name.lower() == wanted), None)
    return None if column is None else table[column].cast(pl.String).fill_null("").to_list()
