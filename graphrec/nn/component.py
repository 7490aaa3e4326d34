"""How a run file names a part of a model: a registered name, or a table of a name and that part's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphrec.errors import ConfigError
from graphrec.registry import resolve
from graphrec.settings import Settings, parse


def as_table(value: Any, default_name: str) -> Any:
    """Turn `"bpr"` into `{"name": "bpr"}`, and give a table without a name the default one.

    Raises:
        ValueError: `value` is neither a name nor a table.
    """
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("name", default_name), str):
        return {"name": default_name, **value}
    raise ValueError("give a name, or a table with a name and settings")


def as_tables(value: Any) -> list[Any]:
    """Turn one part or a list of parts, each a name or a table, into a list of tables.

    Raises:
        ValueError: one of them is neither a name nor a table.
    """
    return [as_table(one, "") for one in ([value] if isinstance(value, str | Mapping) else value)]


def parse_component(kind: str, table: Mapping[str, str], spec: Mapping[str, Any], where: str) -> tuple[type, Settings]:
    """Find the class that `spec` names and validate its settings.

    Args:
        kind: what the table holds, for messages ("loss").
        table: the registry.
        spec: `{"name": ..., **settings}`.
        where: what to call the place in messages ("model lightgcn loss").

    Returns:
        The registered class and an instance of its `Settings`.

    Raises:
        ConfigError: the name is not registered, its class has no `Settings`, or a setting is unknown or out of range.
    """
    try:
        part = resolve(kind, table, spec["name"])
    except ConfigError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    if not hasattr(part, "Settings"):
        raise ConfigError(
            f"{where}: {spec['name']} ({table[spec['name']]}) says nothing of its settings; give it Settings, a subclass of "
            "graphrec.settings.Settings, if only an empty one"
        )
    return part, parse(part.Settings, {key: value for key, value in spec.items() if key != "name"}, where)
