"""The edge types of a heterograph as the encoders read them: one `Relation` each, and the two ways to walk it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphrec.errors import ConfigError, nearest
from graphrec.graph.heterograph import EdgeType, reverse_name
from graphrec.ops import Relation

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore


@dataclass(frozen=True)
class Message:
    """One direction of one edge type: rows of type `target` gather from columns of type `source`.

    Attributes:
        etype: the edge type as the store has it.
        relation: rows are nodes of `target`, columns nodes of `source`.
        source, target: node types.
    """

    etype: EdgeType
    relation: Relation
    source: str
    target: str

    @property
    def name(self) -> str:
        """What reports call it: "view to item", "follows to user"."""
        return f"{self.etype[1]} to {self.target}"


@dataclass(frozen=True)
class Relations:
    """Every edge type of a store's training heterograph.

    Attributes:
        edges: by (source type, name, target type), a relation whose rows are sources and whose columns are targets, so
            that of `(user, view, item)` has users as rows. Edge types that only reverse a behaviour are not repeated.
        num_nodes: nodes by type.
        target: the edge type of the behaviour that recommendations are for.
    """

    edges: Mapping[EdgeType, Relation]
    num_nodes: Mapping[str, int]
    target: EdgeType

    @classmethod
    def from_store(cls, store: GraphStore) -> Relations:
        """Read the training heterograph of `store`.

        Raises:
            StoreError: the graph is damaged.
        """
        graph = store.graph()
        reversed_behaviors = {("item", reverse_name(name), "user") for name in store.behaviors}
        etypes = [etype for etype in graph.canonical_etypes if etype not in reversed_behaviors]
        return cls(
            {etype: Relation.from_dgl(graph, etype) for etype in etypes},
            {ntype: graph.num_nodes(ntype) for ntype in graph.ntypes},
            ("user", store.target_behavior, "item"),
        )

    def to(self, device: torch.device) -> Relations:
        """Copy to a device."""
        return Relations({e: relation.to(device) for e, relation in self.edges.items()}, self.num_nodes, self.target)

    @property
    def behaviors(self) -> list[str]:
        """Names of the edge types from users to items, the target last, the others from the most edges to the fewest."""
        found = [etype for etype in self.edges if (etype[0], etype[2]) == ("user", "item") and etype != self.target]
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
            return [etype for etype, relation in self.edges.items() if relation.num_edges]
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
            found += [etype for etype in matches if etype not in empty]
        return list(dict.fromkeys(found))

    def messages(self, names: Sequence[str] | None, where: str) -> list[Message]:
        """Both directions of the edge types named; a symmetric relation within one type has one direction.

        Raises:
            ConfigError: as `select`.
        """
        found = []
        for etype in self.select(names, where):
            relation, (left, _, right) = self.edges[etype], etype
            found.append(Message(etype, relation, source=right, target=left))
            if left != right or not is_symmetric(relation):
                found.append(Message(etype, relation.transpose(), source=left, target=right))
        return found

    def social(self, name: str, where: str) -> Relation:
        """The user to user relation of that name.

        Raises:
            ConfigError: as `select`, or the relation does not join users to users.
        """
        [etype, *_] = self.select([name], where)
        if (etype[0], etype[2]) != ("user", "user"):
            raise ConfigError(
                f"{where}: the relation {name!r} joins {etype[0]} to {etype[2]}, and links between users are needed; the "
                f"store has {self.describe()}"
            )
        return self.edges[etype]

    def of_behavior(self, name: str, where: str) -> Relation:
        """The user to item relation of a behaviour.

        Raises:
            ConfigError: as `select`, or the relation does not join users to items.
        """
        [etype, *_] = self.select([name], where)
        if (etype[0], etype[2]) != ("user", "item"):
            raise ConfigError(
                f"{where}: {name!r} joins {etype[0]} to {etype[2]}, and a behaviour joins users to items; the behaviours "
                f"are {', '.join(self.behaviors)}"
            )
        return self.edges[etype]

    def describe(self) -> str:
        """Every relation with its node types and edges, for messages."""
        return ", ".join(
            f"{name} ({source} to {target}, {relation.num_edges:,} edges)"
            for (source, name, target), relation in self.edges.items()
        )


def is_symmetric(relation: Relation) -> bool:
    """Whether every edge has its reverse."""
    square = relation.num_dst == relation.num_src
    return (
        square
        and torch.equal(relation.indptr, relation.t_indptr)
        and torch.equal(relation.indices, relation.t_indices)
    )
