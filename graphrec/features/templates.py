"""Texts of nodes from the columns of their table, and of users from what they have chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from graphrec.errors import ConfigError, nearest

_USUAL = ("title", "name", "author", "authors", "artist", "creator", "brand", "category", "categories", "genre", "genres",
          "tags", "keywords", "description", "text", "summary", "bio", "profile")  # fmt: skip
_PLACE = re.compile(r"\{([^{}]+)\}")
_CLOSING = ")]}\"'”’»"
HISTORY = "history"


def default_template(columns: Sequence[str], where: str) -> str:
    """Return a template of the columns that usually hold text, in the order of what identifies an item best.

    Raises:
        ConfigError: there is no such column.
    """
    lower = {name.lower(): name for name in columns}
    found = [lower[name] for name in _USUAL if name in lower]
    if not found:
        raise ConfigError(
            f"{where}: none of the columns {', '.join(columns) or '(none)'} is known to hold text; "
            'name them with columns = ["..."] or a template = "{...}"'
        )
    return template_of(found)


def template_of(columns: Sequence[str]) -> str:
    """Return the template that joins columns by full stops: `"{title}. {author}"`."""
    return ". ".join(f"{{{column}}}" for column in columns)


def places(template: str) -> list[str]:
    """Return the names in the braces of a template."""
    return _PLACE.findall(template)


def fill(template: str, table: pl.DataFrame, where: str, history: Sequence[str] | None = None) -> list[str]:
    """Write a text for every row of a table.

    A template is text with names of columns in braces, `"{title} by {author}. Tags: {tags}"`. The words before a name belong
    to it: where a row has no value for the column, both are left out. Lists are joined by commas. `{history}` stands for the
    texts of a user's history.

    Args:
        template: names in braces, at least one.
        table: the columns, row i for node i.
        where: for messages.
        history: a text per row for `{history}`, or None where there is none.

    Returns:
        n texts; a row without any value has an empty one.

    Raises:
        ConfigError: the template names no column, or one that the table does not have.
    """
    names = places(template)
    known = [*table.columns, *([HISTORY] if history is not None else [])]
    if not names:
        raise ConfigError(f"{where}: the template must name a column in braces, got {template!r}; try {{{known[0]}}}")
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{where}: the template {template!r} names the column {name!r}, and the columns are "
                f"{', '.join(known)}{nearest(name, known)}"
            )
    pieces = _PLACE.split(template)  # literal, name, literal, name, ..., literal
    closing = [""] * len(names)  # what closes a bracket goes with the value inside it
    for number in range(len(names)):
        literal = pieces[2 * number + 2]
        pieces[2 * number + 2] = literal.lstrip(_CLOSING)
        closing[number] = literal[: len(literal) - len(pieces[2 * number + 2])]
    values = [history if name == HISTORY and history is not None else _as_text(table[name]) for name in names]
    tail, texts = pieces[-1], []
    for row in zip(*values, strict=True):
        parts = [
            before + value + after for before, value, after in zip(pieces[0:-1:2], row, closing, strict=True) if value
        ]
        joined = "".join(parts)
        if parts and not row[0]:  # the first value is missing: no punctuation in front of the next
            joined = joined.lstrip(" .,;:-–|/")
        texts.append(joined + tail if parts else "")
    return texts


def histories(train: sp.csr_matrix, item_texts: Sequence[str], longest: int) -> list[str]:
    """Join the texts of the items of every user, on the training side: the heaviest first, at most `longest` of them.

    Args:
        train: training weights (U, I).
        item_texts: a text per item (I,).
        longest: items per user at most.
    """
    texts = []
    for start, stop in zip(train.indptr[:-1], train.indptr[1:], strict=True):
        items, weights = train.indices[start:stop], train.data[start:stop]
        order = np.argsort(-weights, kind="stable")[:longest]
        texts.append("; ".join(item_texts[item] for item in items[order] if item_texts[item]))
    return texts


def _as_text(column: pl.Series) -> list[str]:
    if isinstance(column.dtype, pl.List):
        return [
            ", ".join(str(part) for part in value if part is not None) if value is not None else "" for value in column
        ]
    return [_value(value) for value in column]


def _value(value: Any) -> str:
    return "" if value is None else str(value).strip()
