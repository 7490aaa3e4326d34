"""Plain values as TOML text, for the run files that graphrec writes itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def toml_value(value: Any) -> str:
    """Return `value` (text, number, truth value, list or table) as one line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        items = (f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


def toml_key(key: Any) -> str:
    """Return a key of a TOML table, quoted where it has to be."""
    return str(key) if re.fullmatch(r"[A-Za-z0-9_-]+", str(key)) else json.dumps(str(key))


def toml_sections(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return sections `{name: {key: value}}` as the text of a TOML file; None, which TOML does not have, is left out."""
    blocks = []
    for name, values in sections.items():
        lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in values.items() if value is not None]
        blocks.append("\n".join([f"[{toml_key(name)}]", *lines, ""]))
    return "\n".join(blocks)
