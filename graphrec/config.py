"""The run file `graphrec.toml`: one section per room, each validated by the settings class of the room that owns it.

    [paths]     where the store, the run and the export go
    [log]       what is read                    graphrec.logs.source.LogSettings
    [build]     cleaning, split, graph          graphrec.graph.build.BuildSettings
    [features]  vectors of text and media       graphrec.features.settings.FeaturesSettings
    [model]     name, and that model's settings the `Settings` of the class registered in graphrec.models.MODELS
    [train]     the training loop               graphrec.training.settings.TrainSettings
    [rank]      the second stage                graphrec.training.rank_settings.RankSettings
    [evaluate]  metrics and lists               graphrec.evaluation.settings.EvaluateSettings
    [export]    formats and index               graphrec.retrieval.vectors.ExportSettings
    [tune]      the search for settings         graphrec.tuning.settings.TuneSettings

Every section and key may be left out. All sections are checked before anything runs, so that a typing error in
`[export]` shows at once and not after an hour of training.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from graphrec.errors import ConfigError, nearest, seen_from, shell_word
from graphrec.registry import resolve
from graphrec.settings import Settings, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from graphrec.evaluation.settings import EvaluateSettings
    from graphrec.features.settings import FeaturesSettings
    from graphrec.graph.build import BuildSettings
    from graphrec.logs.source import LogSettings
    from graphrec.retrieval.vectors import ExportSettings
    from graphrec.training.rank_settings import RankSettings
    from graphrec.training.settings import TrainSettings
    from graphrec.tuning.settings import TuneSettings

DEFAULT_PATH = "graphrec.toml"
DEFAULT_MODEL = "lightgcn"

SECTIONS = {
    "paths": "graphrec.config:Paths",
    "log": "graphrec.logs.source:LogSettings",
    "build": "graphrec.graph.build:BuildSettings",
    "features": "graphrec.features.settings:FeaturesSettings",
    "model": "graphrec.config:ModelChoice",
    "train": "graphrec.training.settings:TrainSettings",
    "rank": "graphrec.training.rank_settings:RankSettings",
    "evaluate": "graphrec.evaluation.settings:EvaluateSettings",
    "export": "graphrec.retrieval.vectors:ExportSettings",
    "tune": "graphrec.tuning.settings:TuneSettings",
}


class Paths(Settings):
    """Section `[paths]`: the folders that are written, relative to the working directory."""

    store: str = Field("stores/default", min_length=1)
    """The graph store that `graphrec build` writes and the other commands read."""
    run: str = Field("runs/default", min_length=1)
    """The run that `graphrec train` writes, and `evaluate` and `export` read where none is named; `recommend` and `similar` are
    always given theirs."""
    export: str = Field("exports/default", min_length=1)
    """The folder that `graphrec export` writes."""


@dataclass(frozen=True)
class ModelChoice:
    """Section `[model]`: a registered model and its own settings.

    Attributes:
        name: a key of `graphrec.models.MODELS`.
        settings: validated by that model's `Settings` class.
    """

    name: str
    settings: Settings


@dataclass(frozen=True)
class RunConfig:
    """A validated run file; sections that the file leaves out hold their defaults.

    Attributes:
        source: the file it was read from, None for the built-in defaults.
    """

    paths: Paths
    log: LogSettings
    build: BuildSettings
    features: FeaturesSettings
    model: ModelChoice
    train: TrainSettings
    rank: RankSettings
    evaluate: EvaluateSettings
    export: ExportSettings
    tune: TuneSettings
    source: Path | None = None


def load_config(
    path: str | os.PathLike[str] | None = None, assignments: Sequence[str] = (), *, model: str | None = None
) -> RunConfig:
    """Read and validate a run file.

    Args:
        path: the file; None takes `graphrec.toml` of the working directory if it is there, else the defaults.
        assignments: `"section.key=value"` strings that win over the file, see `assign`.
        model: a model that wins over the file's; the file's settings of another model are then left aside.

    Raises:
        ConfigError: the file is missing, unreadable or no TOML (with the line), or it has an unknown section or key, a
            value of the wrong type or out of range. The message names the file, section, key, rule and value.
    """
    if path is None and Path(DEFAULT_PATH).is_file():
        path = DEFAULT_PATH
    source = None if path is None else Path(path)
    tables = {} if source is None else _read_toml(source)
    section = tables.get("model", {})
    if model is not None and isinstance(section, Mapping) and section.get("name", DEFAULT_MODEL) != model:
        tables["model"] = {"name": model}
    given = [assignment.partition("=")[0].strip() for assignment in assignments]
    return parse_config(assign(tables, assignments), source, given if model is None else [*given, "model.name"])


def assign(tables: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `tables` with single keys replaced, as `--set` on the command line does.

    Args:
        tables: section name to its keys and values; tables may be nested.
        assignments: strings such as `"train.epochs=20"`, `"model.name=bpr-mf"` or `"model.loss.temperature=0.2"`. The value
            is read as TOML, and as plain text where it is none. A later one wins. A name that stands where a table is
            needed (`loss = "bpr"`) becomes that table's `name`.

    Raises:
        ConfigError: an assignment is not of the form section.key=value.
    """
    result = copy.deepcopy(dict(tables))
    for assignment in assignments:
        keys, separator, text = assignment.partition("=")
        *path, last = keys.strip().split(".")
        if not separator or not path or not all([*path, last]):
            raise ConfigError(f"--set takes section.key=value, such as train.epochs=20, got {assignment!r}")
        table = result
        for key in path:
            inner = table.get(key, {})
            table[key] = {"name": inner} if isinstance(inner, str) else inner
            table = table[key]
        if not isinstance(table, dict):
            raise ConfigError(f"--set {assignment}: {'.'.join(path)} is {table!r}, which has no keys")
        table[last] = _toml_value(text.strip())
    return result


def check_assigned(assignments: Sequence[str], sections: Sequence[str], command: str) -> None:
    """Refuse assignments to sections that a command does not read, where they would change nothing without a word.

    Args:
        assignments: as for `assign`.
        sections: those that the command reads.
        command: what to call it in the message.

    Raises:
        ConfigError: one names another section of the run file.
    """
    for assignment in assignments:
        section = assignment.partition(".")[0].strip()
        if section in SECTIONS and section not in sections:
            rule = f"{command} reads {', '.join(f'[{name}]' for name in sections)} and not [{section}]"
            raise ConfigError(f"--set {assignment}: {rule}, so this would change nothing; leave it out")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_config(tables: Mapping[str, Any], source: Path | None = None, given: Sequence[str] = ()) -> RunConfig:
    """Validate the content of a run file.

    Args:
        tables: section name to its keys and values.
        source: the file they come from, for messages.
        given: the keys, such as "train.epochs", that come from the command line instead, for messages.

    Raises:
        ConfigError: as in `load_config`.
    """
    where = str(source) if source else "run file"
    problems, sections = [], {}
    for name in tables:
        if name not in SECTIONS:
            problems.append(
                f"{where} [{name}]: unknown section; the sections are {', '.join(SECTIONS)}{nearest(name, SECTIONS)}"
            )
        elif not isinstance(tables[name], Mapping):
            problems.append(f"{where} {name}: must be a section [{name}] with keys, got {tables[name]!r}")
    for name in SECTIONS:
        values = tables.get(name, {})
        try:
            if isinstance(values, Mapping):
                sections[name] = parse_section(name, values, where, given)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return RunConfig(source=source, **sections)


def _place(where: str, section: str, given: Sequence[str]) -> Callable[[str], str]:
    """Say for a key of a section whether its value comes from the file or, being one of `given`, from the command line."""

    def place(key: str) -> str:
        full = f"{section}.{key}."
        said = any(full.startswith(f"{one}.") or f"{one}.".startswith(full) for one in given)
        return f"{'command line' if said else where} [{section}]"

    return place


def parse_section(name: str, values: Mapping[str, Any], where: str = "run file", given: Sequence[str] = ()) -> Any:
    """Validate one section with the settings class of the room that owns it.

    Args:
        name: a key of `SECTIONS`.
        values: the keys and values of the section.
        where: the file, for messages.
        given: as for `parse_config`.

    Raises:
        ConfigError: a key is unknown or a value is out of range.
    """
    place = _place(where, name, given)
    if name == "model":
        return _parse_model(values, place)
    return parse(resolve("section", SECTIONS, name), values, place)


def model_settings_class(name: str) -> type[Settings]:
    """Return the settings class of the model registered as `name`.

    Raises:
        ConfigError: there is no such model.
    """
    from graphrec.models import model_class

    return model_class(name).Settings


def _parse_model(values: Mapping[str, Any], place: Callable[[str], str]) -> ModelChoice:
    values = dict(values)
    name = values.pop("name", DEFAULT_MODEL)
    try:
        settings_class = model_settings_class(name)
    except ConfigError as error:
        raise ConfigError(f"{place('name')} name: {error}") from None
    return ModelChoice(name, parse(settings_class, values, place))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as handle:
            return tomllib.load(handle)
    except FileNotFoundError:
        raise ConfigError(f"there is no run file {path}{seen_from(path)}; write one with: graphrec init {shell_word(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, not a run file; give the file, such as {path / DEFAULT_PATH}") from None
    except PermissionError:
        raise ConfigError(f"the run file {path} may not be read; change its permissions") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        mend = "text values need quotes, sections stand in [brackets]"
        raise ConfigError(f"{path} is not valid TOML: {error}; {mend}") from None
