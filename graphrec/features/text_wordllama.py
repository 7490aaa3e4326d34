"""WordLlama: mean-pooled token vectors distilled from large language models; small, quick, and inside its package."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphrec.errors import MissingExtraError
from graphrec.progress import Task
from graphrec.settings import Settings


class WordLlamaSettings(Settings):
    """Settings of the `wordllama` encoder."""

    dim: Literal[64, 128, 256] = 256
    """F; the table is trained so that its leading columns can be used alone (Matryoshka)."""
    normalize: bool = True
    """Scale every vector to length one."""


class WordLlamaEncoder:
    """v(text) = mean of the token vectors of the text, normalised.

    Source: the package wordllama, whose token table is distilled from the input embeddings of large language models; its
    weights are inside the wheel, so nothing is downloaded.

    Raises:
        MissingExtraError: the package is not installed.
    """

    Settings = WordLlamaSettings
    fitted = False

    def __init__(self, settings: WordLlamaSettings | None = None) -> None:
        self.settings = settings or WordLlamaSettings()
        try:
            import wordllama
        except ImportError:
            raise MissingExtraError("wordllama", "text", "the text encoder wordllama") from None
        # Without its own folder as cache the loader looks elsewhere, finds nothing and downloads.
        folder = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(cache_dir=folder, trunc_dim=self.settings.dim, disable_download=True)

    def identity(self) -> dict[str, Any]:
        """Return name, package version and settings."""
        version = importlib.metadata.version("wordllama")
        return {"name": "wordllama", "version": version, **self.settings.model_dump(mode="json")}

    def encode(self, texts: Sequence[str], task: Task | None = None) -> np.ndarray:
        """Return float32 (n, F); a text without a known token gives a row of zeros."""
        vectors = np.asarray(self._model.embed(list(texts), norm=False), dtype=np.float32).reshape(len(texts), -1)
        vectors = np.nan_to_num(vectors)  # a text without tokens is a mean over nothing
        if self.settings.normalize:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(lengths > 0, lengths, 1)
        if task is not None:
            task.advance(len(texts))
        return vectors.astype(np.float32, copy=False)
