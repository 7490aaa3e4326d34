"""Explicit registries: a table from a name to `"module:attribute"`, imported only when asked for.

Keeping the tables as text lets `graphrec --help` list every model, reader or exporter without importing torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from graphrec.errors import unknown_name


def resolve(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Import and return the object registered as `name` in `table`.

    Args:
        kind: what the table holds, for messages ("model", "log format").
        table: name to `"package.module:attribute"`.
        name: the name to look up.

    Raises:
        ConfigError: the name is not registered; the message lists the choices and the nearest one.
    """
    if name not in table:
        raise unknown_name(kind, name, table)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
