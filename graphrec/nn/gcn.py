"""GCN: neighbour averaging with symmetric normalisation and a learned linear map."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.layer import RelationLayer, at_rows, check_undirected, few, linear, project
from graphrec.nn.stack import Stack, StackEncoder
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype
from graphrec.settings import Settings


class GCNLayer(RelationLayer):
    """Y = D_dst^-1/2 · A · D_src^-1/2 · X · W + b, with the degrees of the relation on both sides.

    The product with W comes before the sum over neighbours where that makes the messages shorter and many rows are wanted. A node without edges gets
    b. The paper's Ã = A + I is either a graph with self-loops, `relation.with_self_loops()`, or `self_loops`, which adds the
    node's own features without an edge for them, Y = D̃_dst^-1/2 · (A · D̃_src^-1/2 · X + D̃_dst^-1/2 · X_dst) · W + b with D̃ =
    degree + 1: on a bipartite relation it is the same formula over both sides together, and on a sample the own features are
    exact. Over one node type that is A + I only where A is
    symmetric and has no loops; others are refused, on the CPU.

    Args:
        src_dim: D of the source features.
        out_dim: D of what comes out.
        self_loops: count every node as a neighbour of its own, beside the edges of the graph.
        bias: whether there is a b.
        generator: source of the random start; None takes torch's own.

    **Source**: Kipf and Welling 2017, "Semi-Supervised Classification with Graph Convolutional Networks",
    arXiv 1609.02907, equation 2 without its σ, which the stack applies. Equal to DGL's `GraphConv(norm="both")`.
    """

    def __init__(
        self,
        src_dim: int,
        out_dim: int,
        *,
        self_loops: bool = False,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(src_dim, None, out_dim)
        self.needs_targets = self.self_loops = self_loops
        self.weight = linear(src_dim, out_dim, generator, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None

    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        if self.self_loops and src_x is dst_x:
            check_undirected(type(self).__name__, relation)
        wide, loops = scale_dtype(src_x), int(self.self_loops)
        left, right = relation.scale_dst(-0.5, wide, loops), relation.scale_src(-0.5, wide, loops)
        if self.self_loops:  # summed before the product, which would otherwise be made of both sides' features twice
            degree = relation.full_degree_dst if relation.weight is None else relation.strength_dst
            own = (degree + 1).to(wide).reciprocal().unsqueeze(1)
            own = (at_rows(dst_x, rows) * at_rows(own, rows)).to(src_x.dtype)
            y = project(self.weight, spmm(relation, src_x, left, right, z=own, rows=rows))
        elif self.out_dim < self.src_dim and not few(relation, rows):
            y = spmm(relation, project(self.weight, src_x), left, right, rows=rows)
        else:
            y = project(self.weight, spmm(relation, src_x, left, right, rows=rows))
        return y if self.bias is None else y + self.bias


class GCNSettings(Settings):
    """Settings of the `gcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 4}, "dropout": [0.0, 0.1, 0.3, 0.5]}

    num_layers: int = Field(default=2, ge=1, le=16)
    """L, hops; 2 is the paper's choice."""
    hidden_dim: int | None = Field(default=None, ge=1)
    """D of every layer; None keeps that of the inputs."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that an entry of a layer's input is zeroed in training; the paper has 0.5 for classifying documents."""
    self_loops: bool = True
    """Whether every node is its own neighbour, as in the paper; a graph of one node type must then have no loops itself."""


class GCNEncoder(StackEncoder):
    """GCN layers over users and items as one graph, ReLU between them and none at the end.

    **Source**: Kipf and Welling 2017, arXiv 1609.02907, equation 9, with the last layer linear instead of a softmax.
    """

    Settings = GCNSettings

    def _stack(self, dim: int, generator: torch.Generator | None) -> Stack:
        chosen = self.settings
        dims = [dim] + [chosen.hidden_dim or dim] * chosen.num_layers
        layers = [GCNLayer(a, b, self_loops=chosen.self_loops, generator=generator) for a, b in pairwise(dims)]
        return Stack(layers, activation="relu", dropout=chosen.dropout)
