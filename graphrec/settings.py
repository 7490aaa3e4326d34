"""The base class of every configuration model, and the one place where pydantic errors become readable ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from graphrec.errors import ConfigError, nearest

_ELSEWHERE = {
    "half_life_days": "[train] half_life_days lets any trained model draw old pairs less often, and [build] half_life_days lets "
    "the weights decay that models fitted in closed form read"
}
"""What to do with keys that only some components know, and that others are asked for."""

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """An immutable configuration model that refuses unknown keys.

    `search` names the fields that `graphrec tune` varies, and how: `{"low": ..., "high": ..., "log": ...}` or a list of choices,
    as in `graphrec.tuning.entries.Entry`. An auxiliary loss may name its `weight` too, which stands beside its settings.
    """

    search: ClassVar[Mapping[str, Any]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def parse(model: type[SettingsT], values: Mapping[str, Any], where: str | Callable[[str], str]) -> SettingsT:
    """Validate `values` against `model`.

    Args:
        model: a `Settings` subclass.
        values: the raw values, as read from TOML, JSON or keyword arguments.
        where: what to call the place in messages, for example `"graphrec.toml [train]"`; or a function that says it for a key
            with dots such as `"loss.name"`, `""` being a rule that joins several keys.

    Raises:
        ConfigError: one line per problem, each naming the key, the rule, the value received and, for an unknown
            key, the nearest known one.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = [(_key(problem), _describe(model, problem)) for problem in error.errors()]
    raise ConfigError("\n".join(f"{where(key) if callable(where) else where} {text}" for key, text in problems))


def resolved(
    model: type[SettingsT], settings: Settings | Mapping[str, Any] | None, overrides: Mapping[str, Any], where: str
) -> SettingsT:
    """Make the settings of a component from what its maker was given.

    Args:
        model: the component's own `Settings`.
        settings: an instance of it, a mapping of values, or None for the defaults.
        overrides: single settings that win over `settings`.
        where: as for `parse`.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    values = settings.model_dump() if isinstance(settings, Settings) else dict(settings or {})
    return parse(model, {**values, **overrides}, where)


def _key(problem: Any) -> str:
    return ".".join(str(part) for part in problem["loc"])  # empty for a rule that joins several keys


def _describe(model: type[BaseModel], problem: Any) -> str:
    key = _key(problem)
    if problem["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, problem["loc"][:-1]))
        mend = f"; {_ELSEWHERE[problem['loc'][-1]]}" if problem["loc"][-1] in _ELSEWHERE else ""
        return f"{key}: unknown key; the keys are {', '.join(known)}{nearest(problem['loc'][-1], known)}{mend}"
    if problem["type"] == "missing":
        return f"{key}: required but missing"
    rule = problem["msg"].removeprefix("Value error, ")
    rule = f"{rule[0].lower()}{rule[1:]}"
    if not key:  # joins several keys, and says itself what it got
        return rule if ", got " in rule else f"{rule}, got {problem['input']!r}"
    return f"{key}: {rule}, got {problem['input']!r}"


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return list(model.model_fields)
