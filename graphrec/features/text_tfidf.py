"""TF-IDF, as it is for key words, or condensed by a truncated SVD to vectors: the plain baseline for text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from scipy.sparse.linalg import svds

from graphrec.progress import Task
from graphrec.settings import Settings

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)


class TfidfSettings(Settings):
    """Settings of the `tfidf` encoder."""

    dim: int = Field(128, ge=1)
    """F; 100 to 300 is customary for latent semantic analysis (Deerwester et al. 1990)."""
    min_texts: int = Field(2, ge=1)
    """A word in fewer texts is left out: it links nothing to anything."""
    max_share: float = Field(0.5, gt=0, le=1)
    """A word in a larger share of the texts is left out: it tells nothing apart."""
    max_words: int = Field(50_000, ge=1)
    """Vocabulary; the words in the most texts stay."""


class Tfidf:
    """A fitted vocabulary with weights.

    w(t, d) = (1 + log tf(t, d)) * (log((1 + n) / (1 + df(t))) + 1), rows scaled to length one.

    Source: Salton and Buckley (1988), "Term-weighting approaches in automatic text retrieval"; the smoothed idf is the one
    scikit-learn uses, with which a word of every text keeps the weight one.
    """

    def __init__(self, texts: Sequence[str], settings: TfidfSettings) -> None:
        counts = Counter(word for text in texts for word in set(words(text)))
        written = sum(1 for text in texts if text.strip())
        bound = max(settings.max_share * written, settings.min_texts)
        kept = [(-count, word) for word, count in counts.items() if settings.min_texts <= count <= bound]
        chosen = sorted(word for _, word in sorted(kept)[: settings.max_words])
        self.words = np.array(chosen, dtype=object)
        self._column = {word: column for column, word in enumerate(chosen)}
        frequency = np.array([counts[word] for word in chosen], dtype=np.float64)
        self.idf = np.log((1 + written) / (1 + frequency)) + 1

    def matrix(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return the weights of the texts, float32 (n, V)."""
        indptr, indices, data = [0], [], []
        for text in texts:
            counted = Counter(word for word in words(text) if word in self._column)
            columns = sorted((self._column[word], count) for word, count in counted.items())
            values = np.array([(1 + np.log(count)) * self.idf[column] for column, count in columns])
            data.append(values / max(float(np.linalg.norm(values)), 1e-12))
            indices += [column for column, _ in columns]
            indptr.append(len(indices))
        flat = np.concatenate(data) if data else np.empty(0)
        shape = (len(texts), len(self.words))
        return sp.csr_matrix((flat.astype(np.float32), np.array(indices, np.int32), indptr), shape=shape)


class TfidfEncoder:
    """v(text) = w(text) V, with V the leading right singular vectors of the fitted TF-IDF matrix, scaled to length one.

    `fit` sees the training side's texts only; the same texts give the same vectors, so nothing fitted needs to be kept.

    Source: Deerwester et al. (1990), "Indexing by latent semantic analysis".
    """

    Settings = TfidfSettings
    fitted = True

    def __init__(self, settings: TfidfSettings | None = None) -> None:
        self.settings = settings or TfidfSettings()
        self._tfidf: Tfidf | None = None

    def identity(self) -> dict[str, Any]:
        """Return name and settings."""
        return {"name": "tfidf", **self.settings.model_dump(mode="json")}

    def fit(self, texts: Sequence[str]) -> TfidfEncoder:
        """Learn words, weights and directions from texts; returns the encoder."""
        self._tfidf = Tfidf(texts, self.settings)
        matrix = self._tfidf.matrix(texts)
        rank = min(self.settings.dim, *matrix.shape)
        if rank == 0:
            self._directions = np.zeros((matrix.shape[1], 1), dtype=np.float32)
            return self
        if rank == min(matrix.shape):  # svds wants fewer directions than there are
            _, _, right = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
        else:
            start = np.random.default_rng(0).standard_normal(min(matrix.shape))
            _, values, right = svds(matrix.astype(np.float64), k=rank, v0=start)
            right = right[np.argsort(-values, kind="stable")]
        signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
        self._directions = (right * signs[:, None]).T.astype(np.float32)  # (V, F)
        return self

    def encode(self, texts: Sequence[str], task: Task | None = None) -> np.ndarray:
        """Return float32 (n, F); a text without a known word gives a row of zeros.

        Raises:
            ValueError: `fit` has not been called.
        """
        if self._tfidf is None:
            raise ValueError("TfidfEncoder: fit(texts) comes first; the words and weights are learned from all texts")
        vectors = self._tfidf.matrix(texts) @ self._directions
        if task is not None:
            task.advance(len(texts))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths > 1e-6, lengths, 1) * (lengths > 1e-6)).astype(np.float32)


def words(text: str) -> list[str]:
    """Cut a text into lower-case words of two characters or more, in any script that separates words."""
    return [word for word in _WORD.findall(text.lower()) if len(word) > 1]
