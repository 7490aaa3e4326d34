"""The edge types of a heterograph as the encoders read them: one `Relation` each, and the two ways to walk it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from graphrec.errors import ConfigError, nearest
from graphrec.graph.heterograph import EdgeType, reverse_name
from graphrec.graph.split import NO_TIME
from graphrec.ops import Relation
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


class RecencySettings(Settings):
    """What encoders and models that let old edges count less share."""

    half_life_days: float | None = Field(default=None, gt=0)
    """Days after which an edge that has a time counts half, in every hop or in the attention, age counting back from the
    latest edge; left out: all count alike. Which pairs are learned from is [train] half_life_days."""


@dataclass(frozen=True)
class Message:
    """One direction of one edge type: rows of type `target` gather from columns of type `source`.

    Attributes:
        etype: the edge type as the store has it.
        relation: rows are nodes of `target`, columns nodes of `source`.
        source, target: node types.
        weight: float32 (E,) of the edges, in the order of `relation.indices`; None for ones.
    """

    etype: EdgeType
    relation: Relation
    source: str
    target: str
    weight: Tensor | None = None

    @property
    def name(self) -> str:
        """What reports call it: "view to item", "follows to user"."""
        return f"{self.etype[1]} to {self.target}"

    def degree(self, dtype: torch.dtype) -> Tensor:
        """The sum of the weights of each row's edges, (n,)."""
        if self.weight is None:
            return self.relation.degree_dst.to(dtype)
        zeros = torch.zeros(self.relation.num_dst, dtype=dtype, device=self.weight.device)
        return zeros.index_add_(0, self.relation.rows, self.weight.to(dtype))

    def mean_scale(self, dtype: torch.dtype) -> Tensor:
        """1 / degree, with 0 for rows without edges, (n,)."""
        if self.weight is None:
            return self.relation.scale_dst(-1.0, dtype)
        degree = self.degree(dtype)
        return torch.where(degree > 0, 1 / degree.clamp(min=torch.finfo(dtype).tiny), torch.zeros_like(degree))


@dataclass(frozen=True)
class Relations:
    """Every edge type of a store's training heterograph.

    Attributes:
        edges: by (source type, name, target type), a relation whose rows are sources and whose columns are targets, so
            that of `(user, view, item)` has users as rows. Edge types that only reverse a behaviour are not repeated. Links
            between users carry their weights, where these differ, scaled to a mean of 1.
        num_nodes: nodes by type.
        target: the edge type of the behaviour that recommendations are for.
        times: int64 µs (E,) by edge type, in the order of the relation's `indices`, for those that have times; the latest of
            edges that occur more than once.
        dropped: names of relations that are left out, as `without` says.
    """

    edges: Mapping[EdgeType, Relation]
    num_nodes: Mapping[str, int]
    target: EdgeType
    times: Mapping[EdgeType, Tensor] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    @classmethod
    def from_store(cls, store: GraphStore) -> Relations:
        """Read the training heterograph of `store`.

        Raises:
            StoreError: the graph is damaged.
            ConfigError: a link between users has a weight below 0.
        """
        graph = store.graph()
        reversed_behaviors = {("item", reverse_name(name), "user") for name in store.behaviors}
        etypes = [etype for etype in graph.canonical_etypes if etype not in reversed_behaviors]
        return cls(
            {etype: _with_link_weights(Relation.from_dgl(graph, etype), graph, etype) for etype in etypes},
            {ntype: graph.num_nodes(ntype) for ntype in graph.ntypes},
            ("user", store.target_behavior, "item"),
            {etype: _times(graph, etype) for etype in etypes if "timestamp" in graph.edges[etype].data},
        )

    def to(self, device: torch.device) -> Relations:
        """Copy to a device."""
        edges, times = ({e: one.to(device) for e, one in parts.items()} for parts in (self.edges, self.times))
        return replace(self, edges=edges, times=times)

    def without(self, names: Sequence[str], where: str) -> Relations:
        """Leave relations out: none of the encoders' ways to ask for edges then gives theirs, and links between users are none.

        Args:
            names: as of `select`.
            where: what asks, for messages.

        Raises:
            ConfigError: as `select`.
        """
        return replace(self, dropped=self.dropped | {etype[1] for etype in self.select(names, where)}) if names else self

    def weighted(self, half_life_days: float | None, where: str) -> Relations:
        """The same with every edge that has a time weighed by 0.5^(age / half-life), as `messages` does; None changes nothing.

        Raises:
            ConfigError: no edge has a time.
        """
        weights = {} if half_life_days is None else self._recency(half_life_days, where)
        return replace(self, edges={e: one.with_weight(weights[e]) if e in weights else one for e, one in self.edges.items()})

    @property
    def behaviors(self) -> list[str]:
        """Names of the edge types from users to items, the target last, the others from the most edges to the fewest."""
        found = [etype for etype in self.edges if (etype[0], etype[2]) == ("user", "item") and etype != self.target]
        found = [etype for etype in found if etype[1] not in self.dropped]
        return [etype[1] for etype in sorted(found, key=lambda e: (-self.edges[e].num_edges, e))] + [self.target[1]]

    def select(self, names: Sequence[str] | None, where: str) -> list[EdgeType]:
        """Find edge types by name; a name that joins several pairs of node types stands for all of them.

        Args:
            names: names of relations, "target" for the behaviour that recommendations are for; None for all with edges.
            where: what asks, for messages ("social-lightgcn").

        Raises:
            ConfigError: the store has no relation of that name, or it has no edges; the message lists what there is.
        """
        if names is None:
            return [e for e, relation in self.edges.items() if relation.num_edges and e[1] not in self.dropped]
        found = []
        for name in dict.fromkeys(names):
            matches = [etype for etype in self.edges if etype[1] == name]
            matches = matches or [self.target] * (name == "target")
            if not matches:
                known = {etype[1] for etype in self.edges}
                raise ConfigError(
                    f"{where} needs the relation {name!r}, which the store lacks; it has {self.describe()}"
                    f"{nearest(name, known)}; add its table to the log ([log] social, triples or item_relations, or "
                    "events of that behaviour) and build the store again, or name another relation"
                )
            empty = [etype for etype in matches if not self.edges[etype].num_edges]
            if len(empty) == len(matches):
                raise ConfigError(
                    f"{where}: the relation {name!r} ({' to '.join(empty[0][::2])}) has no edges in training; the store has "
                    f"{self.describe()}; rows that did not fit are in the store's rejected.parquet, with reasons"
                )
            found += [etype for etype in matches if etype not in empty and etype[1] not in self.dropped]
        return list(dict.fromkeys(found))

    def messages(
        self, names: Sequence[str] | None, where: str, half_life_days: float | None = None
    ) -> list[Message]:
        """Both directions of the edge types named; a symmetric relation within one type has one direction.

        Args:
            names, where: as `select`.
            half_life_days: weigh every edge that has a time by 0.5^(age / half-life), age counting back from the latest edge
                of all; None weighs all alike.

        Raises:
            ConfigError: as `select`, or a half-life is given and no edge has a time.
        """
        found, weights = [], {} if half_life_days is None else self._recency(half_life_days, where)
        for etype in self.select(names, where):
            relation, (left, _, right) = self.edges[etype], etype
            weight = weights.get(etype, relation.weight)
            other = None if weight is None else weight[relation.t_edges]
            relation = relation if relation.weight is None else relation.with_weight(None)  # a message has its own
            found.append(Message(etype, relation, right, left, weight))
            if left != right or not is_symmetric(relation) or (weight is not None and not torch.equal(weight, other)):
                found.append(Message(etype, relation.transpose(), left, right, other))
        if not found:
            raise ConfigError(f"{where}: no relation is left once {', '.join(sorted(self.dropped))} is left out; leave out fewer")
        return found

    def _recency(self, half_life_days: float, where: str) -> dict[EdgeType, Tensor]:
        known = {etype: times[times != NO_TIME] for etype, times in self.times.items()}
        latest = max((int(times.max()) for times in known.values() if len(times)), default=None)
        if latest is None:
            raise ConfigError(
                f"{where}: half_life_days needs timestamps, and no edge of the store has one; leave it out, or build from a log "
                "with times"
            )
        found = {}
        for etype, times in self.times.items():
            age = torch.where(times != NO_TIME, latest - times, torch.zeros_like(times)).double() / 86_400e6  # µs in a day
            found[etype] = torch.exp2(-age / half_life_days).float()
        return found

    @property
    def has_link_weights(self) -> bool:
        """Whether links between users weigh differently."""
        return any(relation.weight is not None for (left, _, right), relation in self.edges.items() if left == right == "user")

    def social(self, name: str, where: str) -> Relation:
        """The user to user relation of that name; one without edges where it is left out.

        Raises:
            ConfigError: as `select`, or the relation does not join users to users.
        """
        if name in self.dropped:
            users, none = self.num_nodes["user"], np.empty(0, dtype=np.int64)
            return Relation.from_coo(none, none, users, users).to(self.edges[self.target].device)
        found = self.select([name], where)
        if (links := ("user", name, "user")) not in found:
            source, _, target = found[0]
            raise ConfigError(
                f"{where}: the relation {name!r} joins {source} to {target}, and links between users are needed; the "
                f"store has {self.describe()}"
            )
        return self.edges[links]

    def knowledge(self, names: Sequence[str] | None, where: str, bare: bool = False) -> list[str]:
        """The names of the relations of the knowledge graph: those that join items and entities among themselves.

        Args:
            names: of those wanted; None for all that have edges.
            where: as `select`.
            bare: give none where all of them are left out.

        Raises:
            ConfigError: as `select`, a relation joins other nodes, or there is none.
        """
        found = self.select(names, where)
        inside = [etype for etype in found if "user" not in (etype[0], etype[2])]
        if names is not None and len(inside) < len(found):
            other = next(etype for etype in found if etype not in inside)
            raise ConfigError(
                f"{where}: relations must join items and entities, and {other[1]!r} joins {other[0]} to {other[2]}; the store "
                f"has {self.describe()}"
            )
        if not inside and self.dropped and replace(self, dropped=frozenset()).knowledge(names, where):
            if bare:
                return []
            gone = ", ".join(sorted(self.dropped))
            raise ConfigError(f"{where} needs triples, and none are left once {gone} is left out; leave out fewer")
        if not inside:
            raise ConfigError(
                f"{where} needs triples, and the store has none, but {self.describe()}; add a table of head, relation and tail "
                "to the log ([log] triples), or make them from columns of the item table ([build] attribute_triples = "
                '["genre"]), and build the store again'
            )
        return list(dict.fromkeys(etype[1] for etype in inside))

    def of_behavior(self, name: str, where: str) -> Relation:
        """The user to item relation of a behaviour.

        Raises:
            ConfigError: as `select`, or the relation does not join users to items.
        """
        found = self.select([name], where)
        behavior = self.target if name == "target" and self.target in found else ("user", name, "item")
        if behavior not in found:
            source, _, target = found[0]
            raise ConfigError(
                f"{where}: {name!r} joins {source} to {target}, and a behaviour joins users to items; the behaviours "
                f"are {', '.join(self.behaviors)}"
            )
        return self.edges[behavior]

    def linked_users(self, names: Sequence[str]) -> np.ndarray:
        """Whether each user has an edge of the relations named, out of the user or into it: bool (U,)."""
        found = torch.zeros(self.num_nodes["user"], dtype=torch.bool)
        for (source, name, target), relation in self.edges.items():
            if name in names and source == "user":
                found |= (relation.degree_dst > 0).cpu()
            if name in names and target == "user":
                found |= (relation.degree_src > 0).cpu()
        return found.numpy()

    def describe(self) -> str:
        """Every relation with its node types and edges, for messages."""
        return ", ".join(
            f"{name} ({source} to {target}, {relation.num_edges:,} edges)"
            for (source, name, target), relation in self.edges.items()
        )


def _times(graph: Any, etype: EdgeType) -> Tensor:
    """The latest time of each distinct edge, in the order of `Relation.from_dgl(graph, etype).indices`."""
    source, target = (end.numpy().astype(np.int64) for end in graph.edges(etype=etype))
    times = graph.edges[etype].data["timestamp"].numpy()
    key = source * graph.num_nodes(etype[2]) + target
    order = np.lexsort((times, key))
    last = np.flatnonzero(np.append(np.diff(key[order]) > 0, True)) if len(key) else order
    return torch.from_numpy(times[order[last]])


def _with_link_weights(relation: Relation, graph: Any, etype: EdgeType) -> Relation:
    """The relation of links between users with their weights, scaled to a mean of 1, where these differ; any other as it is."""
    weight = graph.edges[etype].data.get("weight") if etype[0] == etype[2] == "user" else None
    if weight is None or not len(weight) or bool((weight == weight[0]).all()):
        return relation
    if bool((weight < 0).any()):
        raise ConfigError(
            f"the links {etype[1]!r} must have weights of at least 0, got {float(weight.min()):g}; build the store again, which "
            "sets such links aside"
        )
    source, target = (end.numpy() for end in graph.edges(etype=etype))
    weight = weight[torch.from_numpy(np.lexsort((target, source)))].double()
    return relation.with_weight(weight / weight.mean())


def is_symmetric(relation: Relation) -> bool:
    """Whether every edge has its reverse."""
    square = relation.num_dst == relation.num_src
    return (
        square
        and torch.equal(relation.indptr, relation.t_indptr)
        and torch.equal(relation.indices, relation.t_indices)
    )
