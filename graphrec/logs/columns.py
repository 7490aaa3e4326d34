"""Which source column holds what: the user's mapping first, usual names second."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from graphrec.errors import LogError, nearest
from graphrec.logs.source import Column

_ID_STEMS = "item movie product book artist song track article news video business poi location game asin parentasin"
ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": ("userid", "user", "uid", "visitorid", "customerid", "memberid", "reviewerid"),
    "item_id": (
        *(f"{stem}id" for stem in _ID_STEMS.split()),
        *("item", "iid", "asin", "parentasin", "product", "movie", "book", "artist", "game"),
    ),
    "behavior": ("behavior", "behaviour", "event", "eventtype", "action", "actiontype", "behaviortype", "interaction"),
    "timestamp": (
        "timestamp",
        "time",
        "ts",
        "unixtime",
        "unixreviewtime",
        "eventtime",
        "datetime",
        "date",
        "createdat",
    ),
    "weight": ("weight", "rating", "score", "stars", "overall", "count", "playcount", "value"),
    "split": ("split",),
}
"""Usual names of each canonical column, lower case without punctuation, the more telling first."""


def plain(name: str) -> str:
    """`UserID`, `user-id` and `user_id` are one name: `userid`."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


def find_columns(names: Sequence[str], mapping: Mapping[str, Column | None], where: str) -> dict[str, int]:
    """Positions of the canonical columns among a header's `names`.

    Args:
        names: the source's column names in order.
        mapping: canonical name to source name or position, None where the usual names are to be tried.
        where: the file, for messages.

    Raises:
        LogError: a named column is missing or occurs twice, or there is no column for user_id or item_id.
    """
    found: dict[str, int] = {}
    for canonical, column in mapping.items():
        if isinstance(column, int):
            if column >= len(names):
                raise LogError(f"{where}: column {column} for {canonical} is beyond the last, {len(names) - 1}")
            found[canonical] = column
        elif column is not None:
            found[canonical] = _position(names, column, canonical, where)
    taken = set(found.values())
    for canonical in mapping:
        if canonical in found:
            continue
        for alias in (canonical, *ALIASES[canonical]):
            matches = [name for name in names if plain(name) == plain(alias)]
            if matches:
                position = _position(names, matches[0] if canonical not in names else canonical, canonical, where)
                if position not in taken:
                    found[canonical] = position
                    taken.add(position)
                    break
    for canonical in ("user_id", "item_id"):
        if canonical in mapping and canonical not in found:
            raise LogError(
                f"{where}: no column for {canonical}; the columns are {', '.join(names)}{_hint(canonical, names)}; "
                f'name it with columns = {{ {canonical} = "..." }}, on the command line --column {canonical}=... (or set header = false '
                "if the first line is data)"
            )
    return found


def _position(names: Sequence[str], name: str, canonical: str, where: str) -> int:
    matches = [position for position, other in enumerate(names) if other == name]
    if not matches:
        raise LogError(
            f"{where}: no column {name!r} for {canonical}; the columns are {', '.join(names)}{_hint(name, names)}"
        )
    if len(matches) > 1:
        raise LogError(
            f"{where}: the column name {name!r} occurs {len(matches)} times; rename one, or map {canonical} to a position "
            f"such as {matches[0]}"
        )
    return matches[0]


def _hint(name: str, names: Sequence[str]) -> str:
    if any("\ufffd" in other for other in names):
        return '; some are no UTF-8: set encoding, for example "latin-1" or "cp1252"'
    return nearest(name, names)
