"""Texts to vectors: choose an encoder, look into the cache, encode what is new."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graphrec.errors import ConfigError
from graphrec.features import TEXT_ENCODERS
from graphrec.features.cache import VectorCache, digest
from graphrec.progress import SILENT, Reporter, Task
from graphrec.registry import resolve
from graphrec.settings import parse

_PARTS = 256, 8192  # texts encoded between two writes to the cache, at least and at most
_PART_SECONDS = 10.0  # that encoding them shall take; what an interruption can lose


class TextEncoder(Protocol):
    """What every text encoder offers."""

    fitted: bool

    def identity(self) -> dict[str, Any]:
        """Return JSON-able values that change whenever the vectors would."""

    def encode(self, texts: Sequence[str], task: Task | None = None) -> np.ndarray:
        """Return float32 (n, F), and advance the task, if there is one, by one per text."""


@dataclass(frozen=True)
class Encoded:
    """Vectors of texts and what making them took.

    Attributes:
        vectors: float32 (n, F), row i for text i, zeros for an empty text.
        computed: distinct texts that the encoder saw.
        cached: distinct texts whose vectors were there already.
        truncated: texts cut to the encoder's longest input, among those computed.
    """

    vectors: np.ndarray
    computed: int
    cached: int
    truncated: int


def parse_encoder(spec: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    """Validate the name of a text encoder, or a table of name and settings, and fill in the defaults.

    Raises:
        ConfigError: the name is not registered, or a setting is unknown or out of range.
    """
    values = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = values.pop("name", "wordllama")
    try:
        kind = resolve("text encoder", TEXT_ENCODERS, name)
    except ConfigError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    return {"name": name, **parse(kind.Settings, values, f"{where} {name}").model_dump(mode="json")}


def make_encoder(spec: str | Mapping[str, Any], where: str = "encoder") -> TextEncoder:
    """Make a text encoder from its name or a table of name and settings.

    Raises:
        ConfigError: as in `parse_encoder`, or the model that it names cannot be had.
        MissingExtraError: its package is not installed.
    """
    values = parse_encoder(spec, where)
    kind = resolve("text encoder", TEXT_ENCODERS, values.pop("name"))
    return kind(parse(kind.Settings, values, where))


def encode_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    cache: Path | None = None,
    progress: Reporter = SILENT,
) -> Encoded:
    """Encode texts, each distinct one once, and those of the cache not at all.

    Args:
        encoder: what `make_encoder` returned; fitted, where it has to be.
        texts: n texts; an empty one has no vector.
        cache: the folder of the cache, or None for none. A fitted encoder is never cached: its vectors depend on all texts.
        progress: receives texts and rate.

    Raises:
        ConfigError: the encoder gave NaN or infinite values.
    """
    distinct = [text for text in dict.fromkeys(texts) if text.strip()]
    store = VectorCache(cache, encoder.identity(), progress) if cache is not None and not encoder.fitted else None
    found: dict[str, np.ndarray] = {}
    if store is not None:
        found = {text: vector for text in distinct if (vector := store.get(digest(text))) is not None}
    missing = [text for text in distinct if text not in found]
    cached, before = len(found), getattr(encoder, "truncated", 0)
    with progress.task("Encoding texts", total=len(missing), unit="texts") as task:
        start, size = 0, _PARTS[0]
        while start < len(missing):
            part, began = missing[start : start + size], time.monotonic()
            vectors = _checked(encoder.encode(part, task), part, encoder)
            start, spent = start + size, time.monotonic() - began
            size = min(_PARTS[1], max(_PARTS[0], int(size * _PART_SECONDS / max(spent, 1e-3))))
            if store is not None:
                store.put([digest(text) for text in part], vectors)
            found.update(zip(part, vectors, strict=True))
    truncated = getattr(encoder, "truncated", 0) - before
    if truncated:
        progress.note(
            f"{truncated:,} of {len(missing):,} texts are longer than {encoder.max_tokens} tokens and were cut there; "
            "raise max_tokens, if the model takes more, or put what matters first in the template"
        )
    width = len(next(iter(found.values()))) if found else 1
    vectors = np.zeros((len(texts), width), dtype=np.float32)
    for row, text in enumerate(texts):
        if text in found:
            vectors[row] = found[text]
    return Encoded(vectors, len(missing), cached, truncated)


def _checked(vectors: np.ndarray, texts: Sequence[str], encoder: TextEncoder) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ConfigError(
            f"the text encoder {encoder.identity()} gave NaN or infinite values for {len(bad)} of {len(texts)} texts, the "
            f"first is {texts[bad[0]][:80]!r}; use precision = 'fp32' or another model"
        )
    return vectors
