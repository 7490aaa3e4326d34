"""Readable profiles: the words that set a text, or all texts of a user's history, apart from the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphrec.features.text_tfidf import Tfidf, TfidfSettings

_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "from",
        "has",
        "have",
        "he",
        "her",
        "his",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "she",
        "so",
        "such",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "you",
        "your",
    ]
)


def keywords(texts: Sequence[str], count: int = 8, fit_on: Sequence[str] | None = None) -> list[list[str]]:
    """Return the words of each text with the largest TF-IDF weights, best first.

    Args:
        texts: n texts; the profile of a user is the texts of the user's history, joined.
        count: words per text at most; ties go to the earlier word in the alphabet.
        fit_on: texts that weights are learned from, of the training side; None takes `texts`.

    Returns:
        n lists of at most `count` words; English function words and words of a single text are left out.

    Source: Salton and Buckley (1988); see `Tfidf`.
    """
    if count < 1:
        raise ValueError(f"keywords: count must be at least 1, got {count}")
    tfidf = Tfidf(texts if fit_on is None else fit_on, TfidfSettings(max_share=1.0))
    useful = np.array([word not in _STOP_WORDS for word in tfidf.words], dtype=bool)
    matrix = tfidf.matrix(texts)
    found = []
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        columns, weights = matrix.indices[start:stop], matrix.data[start:stop]
        keep = useful[columns]
        order = np.lexsort((columns[keep], -weights[keep]))[:count]
        found.append([str(word) for word in tfidf.words[columns[keep][order]]])
    return found
