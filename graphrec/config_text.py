"""The text of a fresh run file, written from the fields of the settings classes, so that it cannot drift from them.

Each key stands, commented out, with its default, its explanation above and the values it takes behind. Explanations
are the attribute docstrings of the fields, or the `Attributes:` part of the class docstring.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from graphrec.atomic import atomic_file, check_file
from graphrec.config import DEFAULT_MODEL, SECTIONS, model_settings_class
from graphrec.errors import ConfigError
from graphrec.registry import resolve
from graphrec.toml_text import toml_value

HEADER = """\
# Run file of graphrec: graphrec build, train, evaluate and export read it.
# Every key is listed with its default. Remove the # before a key to change it; leave the rest as it is.
# Paths start in the folder where graphrec is started, not in that of this file.
"""
DEMO_LOG = "datasets/demo/events.parquet"
SIDE_TABLES = ("users", "items", "social", "triples", "item_relations")
_RULE_COLUMN = 40
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "of length ≥ {}"}
_TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def run_file_text(values: Mapping[str, Mapping[str, Any]] | None = None, model: str = DEFAULT_MODEL) -> str:
    """Return a run file with every key commented out except those in `values`.

    Args:
        values: section to key to value: the keys that stand uncommented.
        model: the model whose settings `[model]` lists, a key of `graphrec.models.MODELS`.

    Raises:
        ConfigError: there is no such model.
    """
    values = values or {}
    parts = [HEADER]
    for section in SECTIONS:
        given = values.get(section, {})
        if section == "model":
            parts.append(_model_text(model, given))
        else:
            parts.append(_section_text(f"[{section}]", resolve("section", SECTIONS, section), given))
    return "\n".join(parts)


def write_run_file(
    path: str | os.PathLike[str],
    *,
    log: str | None = None,
    model: str = DEFAULT_MODEL,
    name: str = "demo",
    overwrite: bool = False,
) -> dict[str, dict[str, Any]]:
    """Write a run file to start from.

    Args:
        path: the file to write.
        log: the log it reads; None: the demo log. Side tables that lie beside a log file under their own names
            (`items.parquet`, `social.parquet`, ...) are entered too.
        model: a key of `graphrec.models.MODELS`.
        name: the last part of the store, run and export folders.
        overwrite: replace a file that is already there.

    Returns:
        The sections and keys that stand uncommented.

    Raises:
        ConfigError: the file is already there, or there is no such model.
    """
    check_file(path, ConfigError, overwrite)
    log = log or DEMO_LOG
    beside = {table: Path(log).parent / f"{table}.parquet" for table in SIDE_TABLES}
    values = {
        "paths": {"store": f"stores/{name}", "run": f"runs/{name}", "export": f"exports/{name}"},
        "log": {"path": log} | {table: str(file) for table, file in beside.items() if file.is_file()},
    }
    text = run_file_text(values, model)
    with atomic_file(path, ConfigError) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return values


def field_help(settings: type[BaseModel]) -> dict[str, str]:
    """Return the explanation of each field of a settings class that has one, as one line of text."""
    found: dict[str, str] = {}
    for parent in reversed(settings.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            found |= _attributes_part(inspect.cleandoc(parent.__doc__ or ""))
            found |= _attribute_docstrings(parent)
    found |= {name: field.description for name, field in settings.model_fields.items() if field.description}
    plain = {name: " ".join(text.split()) for name, text in found.items() if name in settings.model_fields}
    return {name: re.sub(r"\bNone\b", "not set", text) for name, text in plain.items()}  # TOML has no None


def _model_text(model: str, given: Mapping[str, Any]) -> str:
    from graphrec.models import MODELS

    head = _comment(
        f"The model. One of {', '.join(MODELS)}; each has its own keys, listed by: graphrec init --model NAME"
    )
    return _section_text("[model]", model_settings_class(model), given, [*head, f"name = {toml_value(model)}"])


def _section_text(
    title: str, settings: type[BaseModel], given: Mapping[str, Any], first: Sequence[str] = ()
) -> str:
    lines, tables = [title, *first], []
    explained = field_help(settings)
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            inner = f"{title[:-1]}.{name}]"
            tables.append(_section_text(inner, type(default), given.get(name, {}), _comment(explained.get(name, ""))))
            continue
        lines += _comment(explained.get(name, ""))
        lines.append(_key_line(name, field, given))
    return "\n".join([*lines, "", *tables])


def _key_line(name: str, field: FieldInfo, given: Mapping[str, Any]) -> str:
    rule, default = _rule(field), field.get_default(call_default_factory=True)
    if name in given:
        line = f"{name} = {toml_value(given[name])}"
    elif default is None or field.is_required():
        line, rule = f"#{name} =", f"{'required' if field.is_required() else 'not set'}; {rule}"
    else:
        line = f"#{name} = {toml_value(default)}"
    return f"{line:<{_RULE_COLUMN}}  # {rule}"


def _attributes_part(docstring: str) -> dict[str, str]:
    """Read the `name: text` entries under `Attributes:` of a Google-style docstring."""
    part = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)*)", docstring, flags=re.MULTILINE)
    if part is None:
        return {}
    entries = re.split(r"^(\w+)(?: \([^)]*\))?: ", textwrap.dedent(part.group(1)), flags=re.MULTILINE)
    return dict(zip(entries[1::2], entries[2::2], strict=True))


def _attribute_docstrings(settings: type[BaseModel]) -> dict[str, str]:
    """Read the string that stands under a field's definition."""
    body = ast.parse(textwrap.dedent(inspect.getsource(settings))).body[0]
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = str(text.value.value)
    return found


def _rule(field: FieldInfo) -> str:
    """Say which values a field takes: `whole number ≥ 1`, `one of "a", "b"`, `list of text`."""
    bounds = []
    for rule in field.metadata:
        limits = {name: getattr(rule, name, None) for name in _BOUNDS}
        bounds += [_BOUNDS[name].format(limit) for name, limit in limits.items() if limit is not None]
    return " ".join([_type_text(field.annotation), " and ".join(bounds)]).strip()


def _type_text(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        shorthand = any(isinstance(extra, BeforeValidator) for extra in arguments[1:])
        return ("text or " if shorthand else "") + _type_text(arguments[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(toml_value(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        named = [_type_text(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(dict.fromkeys(named))
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type_text(arguments[0])}"
    if origin is dict or annotation is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    return _TYPE_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
