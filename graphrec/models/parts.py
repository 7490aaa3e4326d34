"""The parts of a trained model as the run file names them: found in their registries, validated, ready to be made."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphrec.errors import ConfigError
from graphrec.losses import AUXILIARY, LOSSES
from graphrec.nn import ENCODERS, HEADS, INPUTS
from graphrec.nn.component import parse_component
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings

if TYPE_CHECKING:
    import torch

    from graphrec.graph.store import GraphStore

ROLES = {"inputs": INPUTS, "encoder": ENCODERS, "head": HEADS, "loss": LOSSES}


@dataclass(frozen=True)
class Part:
    """A registered class with its validated settings.

    Attributes:
        name: in its registry.
        part: the class.
        settings: an instance of `part.Settings`.
        weight: of an auxiliary loss; 1 for the others.
    """

    name: str
    part: type
    settings: Settings
    weight: float | None = None

    @property
    def resolved(self) -> dict[str, Any]:
        """The table that names this part with every default filled in."""
        weight = {} if self.weight is None else {"weight": self.weight}
        return {"name": self.name, **weight, **self.settings.model_dump(mode="json")}

    def make(self, *arguments: Any) -> Any:
        """Make the part from its settings and what its kind takes besides: nothing for losses, dimension and generator for
        encoders and heads."""
        return self.part(self.settings, *arguments)

    def make_inputs(
        self, store: GraphStore, dim: int, generator: torch.Generator, start: Any, progress: Reporter = SILENT
    ) -> Any:
        """Make inputs: from the store's features where they are made of these, else from the sizes of the graph and a start."""
        if hasattr(self.part, "from_store"):
            return self.part.from_store(store, dim, self.settings, generator, progress)
        return self.part(store.num_users, store.num_items, dim, self.settings, generator, start=start)


def parse_parts(specs: Mapping[str, Mapping[str, Any] | Part], where: str) -> dict[str, Part]:
    """Find and validate the four parts of a composition.

    Args:
        specs: role to `{"name": ..., **settings}`, or to a part that is no registered one and stays as it is; the roles
            are the keys of `ROLES`.
        where: what to call the place in messages ("model lightgcn").

    Raises:
        ConfigError: a name is not registered, or a setting is unknown or out of range.
    """
    found = {}
    for role, table in ROLES.items():
        if isinstance(specs[role], Part):
            found[role] = specs[role]
            continue
        part, settings = parse_component(role, table, specs[role], f"{where} {role}")
        found[role] = Part(specs[role]["name"], part, settings)
    return found


def parse_auxiliary(specs: Sequence[Mapping[str, Any]], where: str) -> list[Part]:
    """Find and validate auxiliary losses: `{"name": ..., "weight": ..., **settings}` each.

    Raises:
        ConfigError: a name is not registered or comes twice, the weight is missing, not positive or not finite, or a setting is unknown
            or out of range.
    """
    found: list[Part] = []
    for spec in specs:
        own = {key: value for key, value in spec.items() if key != "weight"}
        part, settings = parse_component("auxiliary loss", AUXILIARY, own, f"{where} auxiliary")
        weight = spec.get("weight")
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight <= sys.float_info.max:
            raise ConfigError(f"{where} auxiliary {spec['name']}: weight must be a finite number above 0, got {weight!r}")
        if any(other.name == spec["name"] for other in found):
            raise ConfigError(f"{where} auxiliary: {spec['name']!r} is given twice; give it once, with one weight")
        found.append(Part(spec["name"], part, settings, float(weight)))
    return found
