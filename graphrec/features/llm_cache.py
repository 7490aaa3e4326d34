"""Answers of language models, kept by the hash of all that they depend on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from graphrec.errors import LanguageModelError

_AT_ONCE = 500  # keys in one query; SQLite allows 999 parameters


class AnswerCache:
    """Keeps answers in an SQLite file, each as soon as it is put, or in memory.

    Several processes may share the file.

    Args:
        path: the file, made if missing; None keeps answers in memory.

    Raises:
        LanguageModelError: the file cannot be written, or is no cache of answers.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path or ":memory:"
        try:
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
        except (sqlite3.Error, OSError) as problem:
            raise self._failure(problem) from problem

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the answers that are there, by key.

        Raises:
            LanguageModelError: the file is damaged.
        """
        wanted = list(dict.fromkeys(keys))
        found: dict[str, str] = {}
        try:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                query = f"SELECT key, answer FROM answers WHERE key IN ({','.join('?' * len(part))})"
                found.update(self._connection.execute(query, part))
        except sqlite3.Error as problem:
            raise self._failure(problem) from problem
        return found

    def put(self, key: str, answer: str) -> None:
        """Keep an answer.

        Raises:
            LanguageModelError: the disk is full or the file is damaged.
        """
        try:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))
        except sqlite3.Error as problem:
            raise self._failure(problem) from problem

    def _failure(self, problem: Exception) -> LanguageModelError:
        return LanguageModelError(
            f"the cache of answers {self._path} cannot be used ({problem}); choose another file, or remove it"
        )
