"""Layers one after the other over a graph of one node type, and the encoders made of them.

    stack = Stack([GCNLayer(64, 32), GCNLayer(32, 16)], activation="relu", self_loops=True)
    h = stack(relation, x)                      # relation: square, or a homogeneous DGL graph; x (N, 64), h (N, 16)

Users and items of a bipartite relation become one node type with `relation.as_homogeneous()`, users first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphrec.errors import ConfigError
from graphrec.nn.layer import RelationLayer, at_rows, check_dtype, check_result, check_rows, nodes_of, sides_of
from graphrec.ops import Relation
from graphrec.ops.neighbourhood import RowBlock, SampledRelation
from graphrec.settings import Settings

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": functional.relu,
    "elu": functional.elu,
    "leaky-relu": lambda x: functional.leaky_relu(x, 0.2),
}


class Stack(nn.Module):
    """h_0 = x, h_l = σ(layer_l(graph, dropout(h_{l-1}))) for l = 1..L, with no σ after the last layer.

    Args:
        layers: each takes what the one before it gives.
        activation: σ between the layers: a key of `ACTIVATIONS`; "leaky-relu" has the slope 0.2 below 0.
        dropout: chance in [0, 1) that an entry of a layer's input is zeroed, in training mode only.
        combine: what comes out: "last", h_L; or "concat", [h_0 ‖ h_1 ‖ … ‖ h_L].
        normalize: with "concat", h_1 to h_L are scaled to length one in the result, not on the way to the next layer.
        self_loops: give every node exactly one edge to itself.

    Raises:
        ValueError: no layers, layers that do not fit each other, or an unknown activation or `combine`.
    """

    def __init__(
        self,
        layers: Sequence[RelationLayer],
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        combine: Literal["last", "concat"] = "last",
        normalize: bool = False,
        self_loops: bool = False,
    ) -> None:
        super().__init__()
        if not layers:
            raise ValueError("Stack: needs at least one layer, got none")
        for before, after in pairwise(layers):
            if before.out_dim != after.src_dim:
                raise ValueError(f"Stack: a layer of src_dim {after.src_dim} follows one of out_dim {before.out_dim}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"Stack: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        if combine not in ("last", "concat"):
            raise ValueError(f'Stack: combine must be "last" or "concat", got {combine!r}')
        if not 0 <= dropout < 1:
            raise ValueError(f"Stack: dropout must be in [0, 1), got {dropout}")
        self.layers = nn.ModuleList(layers)
        self.activation, self.dropout, self.combine = activation, dropout, combine
        self.normalize, self.self_loops = normalize, self_loops
        self.in_dim = layers[0].src_dim
        last = layers[-1].out_dim
        self.out_dim = last if combine == "last" else self.in_dim + sum(layer.out_dim for layer in layers)

    def forward(self, graph: Relation | Any, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Encode the nodes of a homogeneous graph.

        Args:
            graph: a square relation, rows and columns being the same nodes, or a homogeneous DGL graph. DGL graphs are
                converted, and self-loops added, at every call; for many calls convert once with
                `graphrec.nn.layer.relation_of`, which also keeps the graph with self-loops.
            x: float32 or float64 (N, D).
            rows: int64 (B,), distinct nodes: the last layer is computed only for them, in this order; None for all.

        Returns:
            (N, out_dim), or (B, out_dim) with `rows`.

        Raises:
            ConfigError: the DGL graph has several edge types or parallel edges.
            ValueError: the relation is not square, the features have the wrong shape or dtype or are not finite, or a row is
                out of range or occurs twice.
        """
        relation = nodes_of(graph, "Stack", x, self.in_dim)
        check_dtype(self, "Stack", "x", x)
        check_rows("Stack", "rows", rows, relation.num_dst)
        y = self.propagate(relation, x, rows)
        check_result("Stack", "rows", y, relation.num_dst if rows is None else len(rows), self.out_dim)
        return y

    def propagate(self, relation: Relation, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """`forward` without its checks, on a square relation only."""
        if self.self_loops:
            relation = relation.with_self_loops()
        kept, h = [at_rows(x, rows)], x
        for layer in self.layers:
            is_last = layer is self.layers[-1]
            h = functional.dropout(h, self.dropout, self.training)
            h = layer.propagate(relation, h, h, rows if is_last else None)
            h = h if is_last else ACTIVATIONS[self.activation](h)
            if self.combine == "concat":
                part = h if is_last else at_rows(h, rows)
                kept.append(functional.normalize(part, dim=1) if self.normalize else part)
        return h if self.combine == "last" else torch.cat(kept, dim=1)

    def propagate_sides(
        self, relation: Relation, user_x: Tensor, item_x: Tensor, users: Tensor | None, items: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`propagate` of users and items as two node types, layer l on `relation.at_layer(l)`, which may be a sample.

        Without self-loops it is the same as one pass over `relation.as_homogeneous()`.
        """
        states, asked = [user_x, item_x], (users, items)
        kept = [[at_rows(state, rows)] for state, rows in zip(states, asked, strict=True)]
        for index, layer in enumerate(self.layers):
            is_last = layer is self.layers[-1]
            part = relation.at_layer(index)
            sides = part, part.transpose()
            inputs = [functional.dropout(state, self.dropout, self.training) for state in states]
            states = [
                layer.propagate(sides[side], inputs[1 - side], inputs[side], asked[side] if is_last else None)
                for side in (0, 1)
            ]
            if not is_last:
                states = [ACTIVATIONS[self.activation](state) for state in states]
            for side in (0, 1):
                rows = states[side] if is_last else at_rows(states[side], asked[side])
                kept[side].append(functional.normalize(rows, dim=1) if self.normalize else rows)
        if self.combine == "last":
            return states[0], states[1]
        return torch.cat(kept[0], dim=1), torch.cat(kept[1], dim=1)

    def propagate_rows(self, index: int, relation: Relation, src_state: Tensor, dst_state: Tensor, rows: Tensor) -> Tensor:
        """The state of some rows after layer `index`, in evaluation mode; see `graphrec.nn.layerwise`.

        A state ends in what a layer gave, after σ; with "concat" all that came before stands in front of it.

        Args:
            relation: the whole of it, towards the rows.
            src_state, dst_state: the states of all columns and of all rows after the layer before; x for the first layer.
            rows: int64 (B,), distinct.
        """
        layer, is_last = self.layers[index], index == len(self.layers) - 1
        block, before = RowBlock.of(relation, rows), dst_state.index_select(0, rows)
        x = src_state[:, -layer.src_dim :].index_select(0, block.columns)
        h = layer.propagate(block, x, before[:, -layer.src_dim :].contiguous())
        h = h if is_last else ACTIVATIONS[self.activation](h)
        if self.combine == "last":
            return h
        state = torch.cat([before, h], dim=1)
        if not (is_last and self.normalize):
            return state
        x, *parts = state.split([self.in_dim, *(one.out_dim for one in self.layers)], dim=1)
        return torch.cat([x, *(functional.normalize(part, dim=1) for part in parts)], dim=1)


class StackEncoder(nn.Module, ABC):
    """A stack of layers over users and items as nodes of one graph, in the form that trained models want.

    Both sides share the layers' weights, as the layers' papers have it for graphs of one node type. On a homogeneous graph
    use `encoder.stack(relation, x)`, the same weights and settings.

    Args:
        settings: an instance of the class's `Settings`; None takes the defaults.
        dim: D of the inputs.
        generator: source of the random start.
    """

    Settings: ClassVar[type[Settings]]

    def __init__(
        self, settings: Settings | None = None, dim: int = 64, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or self.Settings()
        self.stack = self._stack(dim, generator)
        self.out_dim = self.stack.out_dim

    @property
    def hops(self) -> int:
        """How many layers read the relation.

        Raises:
            ConfigError: the stack has self-loops, edges of one node type, which neither samples nor blocks of rows have.
        """
        if self.stack.self_loops:
            raise ConfigError(
                f"{type(self).__name__}: samples and blocks of rows have no edges for self_loops = True of the stack; give "
                "self_loops to its layers (GCNLayer, GATLayer) instead"
            )
        return len(self.stack.layers)

    def forward(
        self,
        relation: Relation | Any,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            relation: users as rows, items as columns, or a DGL graph between them (`graphrec.nn.layer.sides_of`).
            user_x, item_x: float32 or float64 (U, D) and (I, D).
            users, items: int64, distinct: the rows wanted, both or neither; None for all. The last layer is computed only
                for them.

        Returns:
            The encoded users and items, (U, out_dim) and (I, out_dim), or only the rows asked for, in their order.

        Raises:
            ConfigError: the DGL graph has several edge types or parallel edges.
            ValueError: rows of one side only, out of range or repeated, or features that do not fit the relation or the
                settings, or are not finite.
        """
        name = type(self).__name__
        if (users is None) != (items is None):
            raise ValueError(f"{name}: give both users and items, or neither")
        relation = sides_of(relation, name, user_x, item_x, self.stack.in_dim, users, items)
        check_dtype(self, name, "user_x", user_x)
        if isinstance(relation, SampledRelation):
            return self.stack.propagate_sides(relation, user_x, item_x, users, items)
        rows = None if users is None else torch.cat([users, items + relation.num_dst])
        y = self.stack.propagate(relation.as_homogeneous(), torch.cat([user_x, item_x]), rows)
        num_users = relation.num_dst if users is None else len(users)
        return y[:num_users], y[num_users:]

    def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """Layer `index` for some rows of the whole graph; see `nn.layerwise`. States are those of `Stack.propagate_rows`."""
        return (
            self.stack.propagate_rows(index, relation, item_h, user_h, users),
            self.stack.propagate_rows(index, relation.transpose(), user_h, item_h, items),
        )

    @abstractmethod
    def _stack(self, dim: int, generator: torch.Generator | None) -> Stack:
        """Make the layers from `self.settings`."""
