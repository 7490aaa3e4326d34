"""Compute the features of the `[features]` section and write them into a store, with where they come from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graphrec.atomic import atomic_file
from graphrec.errors import ConfigError, StoreError, nearest
from graphrec.features.keywords import keywords
from graphrec.features.settings import FeaturesSettings, TextFeature
from graphrec.features.templates import HISTORY, default_template, fill, histories, places, template_of
from graphrec.features.text import Encoded, TextEncoder, encode_texts, make_encoder
from graphrec.graph.sides import NEW_ITEMS
from graphrec.graph.store import GraphStore
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.settings import parse


@dataclass(frozen=True)
class Written:
    """One feature that was written.

    Attributes:
        feature: "<node type>.<name>".
        encoder: its name.
        rows, given: nodes, and how many of them have a vector.
        width: F.
        computed, cached: distinct texts or files that the encoder saw, and that the cache answered.
        seconds: of encoding.
    """

    feature: str
    encoder: str
    rows: int
    given: int
    width: int
    computed: int
    cached: int
    seconds: float


@takes_progress
def add_features(
    store: GraphStore, settings: FeaturesSettings | Mapping[str, Any], progress: Reporter | bool = SILENT
) -> list[Written]:
    """Write every feature that the section names into the store, replacing those of the same name.

        graphrec.add_features(store, {"item": {"text": {"columns": ["title"], "encoder": "wordllama"}}})

    Whatever is fitted (words and weights of TF-IDF) is fitted on the texts of the graph's nodes, which are of the training
    side. Listed items without a training event get vectors from the same encoder, under `item-new`.

    Args:
        store: the store.
        settings: the `[features]` section, or a mapping of its values.
        progress: receives texts, rate, and what was cut or damaged.

    Raises:
        ConfigError: a setting is unknown or out of range, a column is missing, a model cannot be had, or the log has no table of that node type.
        MissingExtraError: the package of an encoder is not installed.
        StoreError: the disk is full.
    """
    settings = settings if isinstance(settings, FeaturesSettings) else parse(FeaturesSettings, settings, "[features]")
    cache, written = Path(settings.cache), []
    for ntype, features in (("item", settings.item), ("user", settings.user)):
        for name, feature in features.items():
            written += _add_text(store, ntype, name, feature, cache, progress)
    if settings.media:
        from graphrec.features.media_files import add_files

        for name, media in settings.media.items():
            written += [Written(**values) for values in add_files(store, name, media, cache, progress)]
    return written


def node_texts(store: GraphStore, ntype: str, feature: TextFeature, where: str) -> tuple[list[str], str]:
    """Return the text of every node of a type, and the template that made it.

    Raises:
        ConfigError: the store has no table of that type, or it lacks a column.
    """
    table = store.table(ntype)
    template = feature.template or template_of(feature.columns) or None
    history = None
    if ntype == "user" and template is not None and HISTORY in places(template):
        history = histories(store.train_matrix(), _history_texts(store, feature, where), feature.history_items)
        table = store.ids("user").series.alias("user_id").to_frame() if table is None else table
    if table is None:
        raise ConfigError(
            f"{where}: the log brought no table of {ntype}s along; build the store with --{ntype}s FILE"
            + (', or use template = "{history}"' if ntype == "user" else "")
        )
    template = template or default_template(table.columns[1:], where)
    return fill(template, table, where, history), template


def encode_new(
    store: GraphStore,
    ntype: str,
    name: str,
    table: pl.DataFrame,
    cache: Path | None = None,
    progress: Reporter = SILENT,
) -> np.ndarray:
    """Encode rows that are not in the store as the feature `name` of the store was.

    Args:
        store: the store that holds the feature.
        ntype: "item" or "user".
        name: of the feature, made from texts.
        table: the columns that the feature's template names; others are not read.
        cache: as in `encode_texts`.
        progress: receives texts and rate.

    Returns:
        float32 (n, F); a row of zeros where the text is empty.

    Raises:
        ConfigError: the feature was not made from texts, the table lacks a column, or the encoder's adapter is another one now.
    """
    feature, template = recorded_text(store, ntype, name)
    where = f"new {ntype}s"
    encode = _Encode(store, ntype, feature, where, None)
    made_with = store.provenance(ntype, name)["encoder"].get("adapter")
    if encode.identity.get("adapter") != made_with:
        raise ConfigError(
            f"the adapter {feature.encoder['adapter']} was trained again after the feature {ntype}.{name} was written, so its vectors "
            "would be of another kind; write the feature again with `graphrec features`, and train the model on it"
        )
    return encode(fill(template, table, where), cache, progress).vectors


def recorded_text(store: GraphStore, ntype: str, name: str) -> tuple[TextFeature, str]:
    """Return how a text feature of the store was made: its settings and its template.

    Raises:
        ConfigError: there is no such feature, or it was not made from texts.
    """
    provenance = store.provenance(ntype, name)
    if provenance.get("kind") != "text":
        raise ConfigError(
            f"the feature {ntype}.{name} was not made from text ({provenance.get('kind', 'unknown')}), so text gives no "
            "vector of its kind; train on a text feature, or give the vector itself"
        )
    return TextFeature.model_validate(provenance["settings"]), provenance["template"]


def _add_text(
    store: GraphStore, ntype: str, name: str, feature: TextFeature, cache: Path, progress: Reporter
) -> list[Written]:
    where = f"[features.{ntype}.{name}]"
    texts, template = node_texts(store, ntype, feature, where)
    if not any(text.strip() for text in texts):
        raise ConfigError(f"{where}: the template {template!r} gives no text for any of {len(texts):,} {ntype}s")
    encode = _Encode(store, ntype, feature, where, texts)
    sides = [(ntype, texts)]
    new = store.new_items() if ntype == "item" else None
    if new is not None:
        sides.append((NEW_ITEMS, fill(template, new[1], where)))
    written = []
    for side, side_texts in sides:
        start = time.monotonic()
        found = encode(side_texts, cache, progress)
        seconds = time.monotonic() - start
        vectors = found.vectors
        if not len(vectors) or not vectors.any():  # of no width of its own where every text is empty
            vectors = np.zeros((len(side_texts), written[0].width if written else vectors.shape[1]), np.float32)
        given = int(vectors.any(axis=1).sum())
        provenance = {
            "kind": "text",
            "template": template,
            "settings": feature.model_dump(mode="json"),
            "encoder": encode.identity,
            "texts_sha256": hashlib.sha256("\0".join(side_texts).encode("utf-8", "surrogatepass")).hexdigest(),
            "table_sha256": _table_digest(store, side),
            "rows_given": given,
            "rows_zero": len(vectors) - given,
            "truncated": found.truncated,
        }
        store.add_feature(side, name, vectors, provenance)
        kind = feature.encoder["name"]
        sizes = len(vectors), given, vectors.shape[1], found.computed, found.cached, round(seconds, 3)
        written.append(Written(f"{side}.{name}", kind, *sizes))
        progress.note(
            f"{side}.{name}: {given:,} of {len(vectors):,} rows from {template!r} by {kind}, {sizes[2]} columns"
        )
        if feature.keywords:
            _write_profiles(store, side, name, keywords(side_texts, feature.keywords, texts))
    return written


class _Encode:
    """Encodes texts with the encoder of a feature, fitted on the store's own texts where it has to be."""

    def __init__(
        self, store: GraphStore, ntype: str, feature: TextFeature, where: str, texts: Sequence[str] | None
    ) -> None:
        self._encoder: TextEncoder = make_encoder(feature.encoder, f"{where} encoder")
        if self._encoder.fitted:
            self._encoder.fit(node_texts(store, ntype, feature, where)[0] if texts is None else texts)
        self.identity = self._encoder.identity()

    def __call__(self, texts: Sequence[str], cache: Path | None, progress: Reporter) -> Encoded:
        return encode_texts(self._encoder, texts, cache, progress)


def _history_texts(store: GraphStore, feature: TextFeature, where: str) -> list[str]:
    if feature.history_columns:
        table = store.table("item")
        columns = [] if table is None else table.columns
        for name in feature.history_columns:
            if name not in columns:
                raise ConfigError(f"{where}: the item table has no column {name!r}{nearest(name, columns)}")
        return fill(template_of(feature.history_columns), table, where)
    titles = store.titles()
    if titles is None:
        raise ConfigError(f"{where}: {{history}} needs the items' title, and the log has none; set history_columns")
    return titles


def _table_digest(store: GraphStore, ntype: str) -> str | None:
    record = store.manifest.files.get(f"tables/{ntype}.parquet")
    return None if record is None else record.sha256


def _write_profiles(store: GraphStore, ntype: str, name: str, words: list[list[str]]) -> None:
    new = store.new_items() if ntype == NEW_ITEMS else None
    ids = (store.ids(ntype) if new is None else new[0]).series
    frame = pl.DataFrame({"id": ids, "keywords": pl.Series(words, dtype=pl.List(pl.String))})
    with atomic_file(store.folder / "profiles" / f"{ntype}.{name}.parquet", StoreError) as temporary:
        frame.write_parquet(temporary)


def as_rows(written: Sequence[Written]) -> list[dict[str, Any]]:
    """Return what was written as plain values."""
    return [asdict(one) for one in written]
