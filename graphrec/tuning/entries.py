"""One searched field: a range or a list of choices, as run files and settings classes write it, and its place in the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from graphrec.errors import ConfigError
from graphrec.settings import Settings, parse

if TYPE_CHECKING:
    from typing_extensions import Self

WHERE = "tune space"

Tables = dict[str, dict[str, Any]]


class Entry(Settings):
    """One field that is searched: a range, or choices."""

    low: int | float | None = None
    """The smallest value."""
    high: int | float | None = None
    """The largest value."""
    log: bool = False
    """Draw the logarithm evenly; for quantities whose order of magnitude is open."""
    choices: list[bool | int | float | str] | None = Field(default=None, min_length=1)
    """The values to choose from."""

    @model_validator(mode="after")
    def _is_range_or_choices(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either choices or low and high, not both")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("give low and high with low < high, or a list of choices")
        elif self.log and self.low <= 0:
            raise ValueError("log needs low > 0")
        return self

    def ends(self) -> list[Any]:
        """The values that show whether the field takes them: both ends, or all choices."""
        return [self.low, self.high] if self.choices is None else list(self.choices)


def parse_entries(value: Any, prefix: str = "") -> dict[str, Entry | bool]:
    """Read `{"section.field": entry}`, where tables may be nested instead of dotted and a list stands for its choices.

    Raises:
        ConfigError: an entry is neither a range nor choices nor false.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{WHERE}: must be a table of section.field = {{low = .., high = ..}}, got {value!r}")
    found: dict[str, Entry | bool] = {}
    for name, item in value.items():
        key = f"{prefix}{name}"
        if isinstance(item, Entry) or item is False:
            found[key] = item
        elif isinstance(item, list | tuple):
            found[key] = parse(Entry, {"choices": list(item)}, f"{WHERE} {key}:")
        elif isinstance(item, Mapping) and not item.keys() & Entry.model_fields.keys():
            found |= parse_entries(item, f"{key}.")
        elif isinstance(item, Mapping):
            found[key] = parse(Entry, {k: v for k, v in item.items() if v is not None}, f"{WHERE} {key}:")
        else:
            raise ConfigError(f"{WHERE} {key}: give {{low = .., high = ..}}, a list of choices or false, got {item!r}")
    return found


def put(tables: Tables, key: str, value: Any) -> None:
    """Set `section.field`, `section.part.field` or `section.list.name.field` in `tables`.

    A part given by its name becomes a table, and a part that is named again keeps its own settings. In a list of tables the
    next word of the key is the name of the one that is meant.
    """
    *path, last = key.split(".")
    table: Any = tables
    for name in path:
        if isinstance(table, list):
            table = next(one for one in table if one["name"] == name)
            continue
        inner = table.get(name, {})
        if isinstance(inner, list):
            table[name] = [dict(one) for one in inner]
        else:
            table[name] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
        table = table[name]
    current = table.get(last)
    if isinstance(current, Mapping) and isinstance(value, str) and current.get("name") == value:
        return
    table[last] = value
