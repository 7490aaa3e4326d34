"""NGCF: messages that carry the product of both ends, and all layers side by side in the end."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import dropout, leaky_relu

from graphrec.nn.layer import RelationLayer, at_rows, linear, project
from graphrec.nn.relations import RecencySettings
from graphrec.nn.stack import Stack, StackEncoder
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype


class NGCFLayer(RelationLayer):
    """Y[r] = LeakyReLU(W_1 (x_r + p_r) + W_2 (p_r ⊙ x_r) + b), p_r = Σ_c x_c / sqrt(degree(r) · degree(c)).

    The sum over messages W_1 x_c + W_2 (x_c ⊙ x_r) is taken before the matrices, so one product with the graph serves
    both. A node without edges keeps only W_1 x_r + b.

    Args:
        dim: D of sources and targets, which must agree.
        out_dim: D of what comes out.
        dropout: chance in [0, 1) that an entry of the result is zeroed in training mode: the paper's message dropout.
        edge_dropout: chance in [0, 1) that an edge is left out in training mode; the others count 1 / (1 - edge_dropout).
            The public code's "node dropout", which draws the edges once for all layers and not anew in each.
        bias: whether there is a b, as in the public code; the paper's equations have none.
        negative_slope: LeakyReLU's factor below 0; 0.2 is that of the public code.
        generator: source of the random start; None takes torch's own.

    **Source**: Wang et al. 2019, "Neural Graph Collaborative Filtering", arXiv 1905.08108, equations 3 to 8. DGL has no
    such layer.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
        bias: bool = True,
        negative_slope: float = 0.2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, None, out_dim)
        for name, chance in (("dropout", dropout), ("edge_dropout", edge_dropout)):
            if not 0 <= chance < 1:
                raise ValueError(f"NGCFLayer: {name} must be in [0, 1), got {chance}")
        self.dropout, self.edge_dropout, self.negative_slope = dropout, edge_dropout, negative_slope
        self.sum_weight = linear(dim, out_dim, generator, bias=bias)
        self.product_weight = linear(dim, out_dim, generator, bias=False)

    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        wide = scale_dtype(src_x)
        left, right = relation.scale_dst(-0.5, wide), relation.scale_src(-0.5, wide)
        p = spmm(relation, src_x, left, right, rows=rows, edge_weight=self._kept_edges(relation, src_x))
        own = at_rows(dst_x, rows)
        y = project(self.sum_weight, own + p) + project(self.product_weight, own * p)
        return dropout(leaky_relu(y, self.negative_slope), self.dropout, self.training)

    def _kept_edges(self, relation: Relation, x: Tensor) -> Tensor | None:
        if not self.training or not self.edge_dropout:
            return None
        return dropout(torch.ones(relation.num_edges, dtype=scale_dtype(x), device=x.device), self.edge_dropout, True)


class NGCFSettings(RecencySettings):
    """Settings of the `ngcf` encoder."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_layers": {"low": 1, "high": 4},
        "dropout": [0.0, 0.1, 0.3, 0.5],
        "edge_dropout": [0.0, 0.1, 0.3, 0.5],
    }

    num_layers: int = Field(default=3, ge=1, le=16)
    """L, hops; 3 is the paper's choice."""
    hidden_dim: int | None = Field(default=None, ge=1)
    """D of every layer; None keeps that of the inputs, as the paper does (64)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Message dropout in training: chance that an entry of a layer's result is zeroed; 0.1 is the public code's value."""
    edge_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Chance that an edge is left out of a layer in training; 0.1 is the public code's value, there called node dropout."""
    normalize: bool = True
    """Whether the layers' vectors have length one where they are put side by side: the public code's choice; the paper's
    equation 9 takes them as they are."""


class NGCFEncoder(StackEncoder):
    """e = [x ‖ e_1 ‖ … ‖ e_L] over users and items as one graph; out_dim is the inputs' D plus L times the layers'.

    **Source**: Wang et al. 2019, arXiv 1905.08108, equations 7 to 9.
    """

    Settings = NGCFSettings
    reads_weights = True

    def _stack(self, dim: int, generator: torch.Generator | None) -> Stack:
        chosen = self.settings
        dims = [dim] + [chosen.hidden_dim or dim] * chosen.num_layers
        layers = [
            NGCFLayer(a, b, dropout=chosen.dropout, edge_dropout=chosen.edge_dropout, generator=generator)
            for a, b in pairwise(dims)
        ]
        return Stack(layers, activation="none", combine="concat", normalize=chosen.normalize)
