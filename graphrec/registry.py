"""Explicit registries: a table from a name to `"module:attribute"`, imported only when asked for.

Keeping the tables as text lets `graphrec --help` list every model, reader or exporter without importing torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from graphrec.errors import ConfigError, nearest, unknown_name


def resolve(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Import and return the object registered as `name` in `table`.

    Args:
        kind: what the table holds, for messages ("model", "log format").
        table: name to `"package.module:attribute"`.
        name: the name to look up.

    Raises:
        ConfigError: the name is not registered, and the message lists the choices and the nearest one; or it is registered as
            what is not there.
    """
    if name not in table:
        raise unknown_name(kind, name, table)
    target = table[name]
    where = f"the {kind} {name!r} is registered as {target!r}"
    module, _, attribute = target.partition(":") if isinstance(target, str) else ("", "", "")
    if not (module and attribute):
        raise ConfigError(f'{where}, which is no text of the form "package.module:attribute"; register it as one')
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{module}.".startswith(f"{problem.name}."):
            raise  # something that the module itself imports
        raise ConfigError(f"{where}, and there is no module {problem.name} on the path; correct the registry") from None
    if not hasattr(found, attribute):
        raise ConfigError(f"{where}, and {module} has no {attribute}{nearest(attribute, dir(found))}; correct the registry")
    return getattr(found, attribute)
