"""What is searched: from `section.field` to a range or a list of choices, checked against the settings that own the fields."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from graphrec.errors import ConfigError, nearest
from graphrec.losses import AUXILIARY
from graphrec.models import create, model_class
from graphrec.models.parts import ROLES
from graphrec.models.trained import TrainedRecommender
from graphrec.nn.component import as_tables
from graphrec.registry import resolve
from graphrec.settings import Settings, parse
from graphrec.training.settings import TrainSettings
from graphrec.tuning.entries import WHERE, Entry, Tables, parse_entries, put

_AUXILIARY = "model.auxiliary."
_FIXED = {
    "train.seed": "a lucky seed is no better setting",
    "train.metric": "trials must be measured alike",
    "train.valid_users": "trials must be measured alike",
    "train.device": "it does not change the result",
    "train.checkpoint_every": "it does not change the result",
}


class Space:
    """The fields that a study varies around fixed settings of one model.

    Fields are `train.X`, `model.X`, those of a part `model.loss.X` (or inputs, encoder, head), and those of an auxiliary loss
    by its name, `model.auxiliary.simgcl.X`, its `weight` among them.

    Args:
        model: a key of `graphrec.models.MODELS`.
        model_settings, train_settings: the values that were given; they stay as they are unless an entry names them.
        entries: what to search, wins over the defaults.
        defaults: start from the `search` of the model's, its parts' and the training's settings.

    Raises:
        ConfigError: the model or a field is unknown, a field does not take a value of its entry, or there is nothing to search.
    """

    def __init__(
        self,
        model: str,
        model_settings: Mapping[str, Any],
        train_settings: Mapping[str, Any],
        entries: Mapping[str, Entry | bool],
        defaults: bool = True,
    ) -> None:
        self.model, self._class = model, model_class(model)
        self.trained = issubclass(self._class, TrainedRecommender)
        self.fixed: Tables = {"model": dict(model_settings), "train": dict(train_settings)}
        own = self._own_entries(entries) if defaults else {}
        self.entries: dict[str, Entry] = {k: e for k, e in {**own, **entries}.items() if isinstance(e, Entry)}
        for key in entries:
            self._check_field(key)
        if not self.entries:
            known = ", ".join(sorted(self._fields()))
            mend = f"name fields in [tune.space]; {model} knows {known}" if known else "it has no settings, so choose another model"
            raise ConfigError(f"{model} has nothing to search; {mend}")
        self._check_values()

    def draw(self, trial: Any) -> Tables:
        """Let an Optuna trial choose a value of each entry and return the tables of the setting.

        A field of a part (`model.loss.temperature`) is drawn only where the part that was chosen has it.
        """
        tables = self._start()
        for key in sorted(self.entries, key=lambda key: key.count(".")):
            if self._applies(key, tables):
                put(tables, key, self._suggest(trial, key))
        return tables

    def tables(self, params: Mapping[str, Any]) -> Tables:
        """Return the tables of a setting whose drawn values are known."""
        tables = self._start()
        for key in sorted(params, key=lambda key: key.count(".")):
            put(tables, key, params[key])
        return tables

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as plain values, sorted by name."""
        return {key: self.entries[key].model_dump(exclude_none=True) for key in sorted(self.entries)}

    def _own_entries(self, given: Mapping[str, Entry | bool]) -> dict[str, Entry]:
        """The entries that the settings classes bring along, without fields whose value was given."""
        plain = {f"model.{name}": entry for name, entry in self._class.Settings.search.items()}
        for role in ROLES if self.trained else ():
            for _, part in self._parts(role, given):
                plain |= {f"model.{role}.{name}": entry for name, entry in part.search.items()}
        for name, part in self._auxiliary():
            plain |= {f"{_AUXILIARY}{name}.{field}": entry for field, entry in part.search.items()}
        if self.trained:
            plain |= {f"train.{name}": entry for name, entry in TrainSettings.search.items()}
        return {key: entry for key, entry in parse_entries(plain).items() if not self._is_given(key)}

    def _parts(self, role: str, entries: Mapping[str, Entry | bool]) -> Iterator[tuple[str, type[Settings]]]:
        """The components that may fill a role, by name, with their settings; none for a role that the model fixes itself."""
        if role not in self._class.Settings.model_fields:
            return
        entry = entries.get(f"model.{role}")
        names = entry.choices if isinstance(entry, Entry) and entry.choices else [self._part_name(role, self.fixed)]
        for name in names:
            try:
                yield str(name), resolve(role, ROLES[role], str(name)).Settings
            except ConfigError as problem:
                raise ConfigError(f"{WHERE} model.{role}: {problem}" if entry else f"[model] {role}: {problem}") from None

    def _auxiliary_tables(self) -> list[dict[str, Any]]:
        """The auxiliary losses that were given, or those that the model has anyway; none where it cannot have any."""
        field = self._class.Settings.model_fields.get("auxiliary")
        if field is None:
            return []
        try:
            return as_tables(self.fixed["model"].get("auxiliary", field.get_default(call_default_factory=True)))
        except ValueError as problem:
            raise ConfigError(f"[model] auxiliary: {problem}") from None

    def _auxiliary(self) -> Iterator[tuple[str, type[Settings]]]:
        """The auxiliary losses by name, with their settings, in which the weight of a loss is no field."""
        for table in self._auxiliary_tables():
            yield table["name"], resolve("auxiliary loss", AUXILIARY, table["name"]).Settings

    def _start(self) -> Tables:
        """The fixed settings, with the auxiliary losses spelt out where something of theirs is searched."""
        tables = copy.deepcopy(self.fixed)
        if any(key.startswith(_AUXILIARY) for key in self.entries):
            tables["model"]["auxiliary"] = copy.deepcopy(self._auxiliary_tables())
        return tables

    def _part_name(self, role: str, tables: Tables) -> str:
        default = self._class.Settings.model_fields[role].default["name"]
        value = tables["model"].get(role, default)
        return value if isinstance(value, str) else value.get("name", default)

    def _is_given(self, key: str) -> bool:
        section, *path = key.split(".")
        value: Any = self.fixed[section]
        for name in path:
            if key.startswith(_AUXILIARY) and name == "auxiliary" and name in value:
                value = {one["name"]: one for one in as_tables(value[name])}
                continue
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return True

    def _fields(self) -> dict[str, Any]:
        """Everything that may be searched: name to annotation."""
        found = {f"model.{name}": f.annotation for name, f in self._class.Settings.model_fields.items()}
        if self.trained:
            train = {f"train.{name}": f.annotation for name, f in TrainSettings.model_fields.items()}
            found |= {key: annotation for key, annotation in train.items() if key not in _FIXED}
        for role in ROLES if self.trained else ():
            for _, part in self._parts(role, self.entries):
                found |= {f"model.{role}.{name}": f.annotation for name, f in part.model_fields.items()}
        for name, part in self._auxiliary():
            found |= {f"{_AUXILIARY}{name}.{field}": f.annotation for field, f in part.model_fields.items()}
            found[f"{_AUXILIARY}{name}.weight"] = float
        return found

    def _check_field(self, key: str) -> None:
        if key in _FIXED:
            raise ConfigError(f"{WHERE} {key}: cannot be searched, for {_FIXED[key]}; leave it out")
        known = self._fields()
        parent = ".".join(key.split(".")[:2])
        is_table = parent in known and parent.partition(".")[2] not in (*ROLES, "auxiliary")
        if key in known or (is_table and key.count(".") > 1):
            return
        if key.startswith("train.") and not self.trained:
            raise ConfigError(f"{WHERE} {key}: {self.model} is fitted in closed form, without [train]; leave it out")
        hint = nearest(key, known) or ";"  # first, for there are some forty fields
        raise ConfigError(f"{WHERE} {key}: unknown field{hint} {self.model} knows {', '.join(sorted(known))}")

    def _check_values(self) -> None:
        """Make the model and the training settings with each end of each entry, so that a wrong one shows before any trial."""
        for key, entry in self.entries.items():
            for value in entry.ends():
                tables = self._start()
                role = key.split(".")[1]
                if key.count(".") > 1 and role in ROLES:  # under a part that has the field
                    field = key.split(".")[2]
                    name = next(name for name, part in self._parts(role, self.entries) if field in part.model_fields)
                    if name != self._part_name(role, tables):
                        tables["model"][role] = name
                put(tables, key, self._typed(key, value))
                try:
                    parse(self._class.Settings, tables["model"], "[model]")
                    if self.trained and not key.startswith("train.") and f"model.{role}" not in self.entries:
                        create(self.model, tables["model"])
                    parse(TrainSettings, tables["train"], "[train]")
                except ConfigError as problem:
                    raise ConfigError(f"{WHERE} {key}: {value!r} does not do: {problem}") from None

    def _applies(self, key: str, tables: Tables) -> bool:
        _, role, *rest = key.split(".")
        if not rest or role not in ROLES or not key.startswith("model."):
            return True
        name = self._part_name(role, tables)
        return rest[0] in resolve(role, ROLES[role], name).Settings.model_fields

    def _suggest(self, trial: Any, key: str) -> Any:
        entry = self.entries[key]
        if entry.choices is not None:
            return trial.suggest_categorical(key, entry.choices)
        low, high = self._typed(key, entry.low), self._typed(key, entry.high)
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(key, low, high, log=entry.log)
        return trial.suggest_float(key, low, high, log=entry.log)

    def _typed(self, key: str, value: Any) -> Any:
        """`value` as the field has it: `low = 0` for a field of real numbers is 0.0, or its draws would be whole."""
        kinds = {kind for kind in (self._fields().get(key), *get_args(self._fields().get(key))) if kind in (int, float)}
        if isinstance(value, int) and not isinstance(value, bool) and kinds == {float}:
            return float(value)
        whole = isinstance(value, float) and value.is_integer() and kinds == {int}
        return int(value) if whole else value
