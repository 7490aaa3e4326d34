"""GraphSAGE: a node's own features beside the mean or the maximum of its neighbours'."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import relu

from graphrec.nn.layer import RelationLayer, at_rows, few, linear, project
from graphrec.nn.stack import Stack, StackEncoder
from graphrec.ops import Relation, spmm
from graphrec.settings import Settings

_POOL = {"max": "pool"}  # the paper says max where it describes its pooling


class SAGELayer(RelationLayer):
    """Y[r] = W_self · x_r + b + W_neigh · aggregate over the neighbours c of r.

    "mean": the mean of x_c; "pool": the largest of ReLU(W_pool x_c + b_pool), column by column. A relation's weights count: the
    mean divides by their sum, and the largest is that of the weighted ones. Without edges the aggregate is 0. The two matrices
    side by side are the paper's one matrix on the concatenation.

    Args:
        src_dim: D of the source features.
        out_dim: D of what comes out.
        dst_dim: D of the target features; None means `src_dim`.
        aggregate: "mean" or "pool", which "max" is another name for.
        bias: whether there is a b.
        generator: source of the random start; None takes torch's own.

    **Source**: Hamilton et al. 2017, "Inductive Representation Learning on Large Graphs", arXiv 1706.02216, algorithm 1,
    lines 4 and 5, and equation 3, over all neighbours instead of a sample, without the σ, which the stack applies, and
    without the scaling to length one (line 7), which a cosine head does. Equal to DGL's `SAGEConv`.
    """

    def __init__(
        self,
        src_dim: int,
        out_dim: int,
        *,
        dst_dim: int | None = None,
        aggregate: Literal["mean", "pool", "max"] = "mean",
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(src_dim, dst_dim, out_dim)
        aggregate = _POOL.get(aggregate, aggregate)
        if aggregate not in ("mean", "pool"):
            raise ValueError(f'SAGELayer: aggregate must be "mean" or "pool" ("max" is another name for it), got {aggregate!r}')
        self.aggregate = aggregate
        self.self_weight = linear(dst_dim or src_dim, out_dim, generator, bias=bias)
        self.neighbor_weight = linear(src_dim, out_dim, generator, bias=False)
        self.pool_weight = linear(src_dim, src_dim, generator) if aggregate == "pool" else None

    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        own = project(self.self_weight, at_rows(dst_x, rows))
        if self.pool_weight is not None:
            largest = spmm(relation, relu(project(self.pool_weight, src_x)), rows=rows, reduce="max")
            return own + project(self.neighbor_weight, largest)
        if self.out_dim < self.src_dim and not few(relation, rows):  # shorter messages
            return spmm(relation, project(self.neighbor_weight, src_x), z=own, rows=rows, reduce="mean")
        return own + project(self.neighbor_weight, spmm(relation, src_x, rows=rows, reduce="mean"))


class SAGESettings(Settings):
    """Settings of the `sage` encoder."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_layers": {"low": 1, "high": 4},
        "dropout": [0.0, 0.1, 0.3, 0.5],
        "aggregate": ["mean", "pool"],
    }

    num_layers: int = Field(default=2, ge=1, le=16)
    """K, hops; 2 is the paper's choice."""
    hidden_dim: int | None = Field(default=None, ge=1)
    """D of every layer; None keeps that of the inputs."""
    aggregate: Literal["mean", "pool"] = "mean"
    """How neighbours are joined: their mean, or the maximum after a learned map, which may also be called "max"."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that an entry of a layer's input is zeroed in training; the paper has none."""

    @field_validator("aggregate", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return _POOL.get(value, value) if isinstance(value, str) else value


class SAGEEncoder(StackEncoder):
    """GraphSAGE layers over users and items as one graph, ReLU between them and none at the end.

    **Source**: Hamilton et al. 2017, arXiv 1706.02216, algorithm 1.
    """

    Settings = SAGESettings

    def _stack(self, dim: int, generator: torch.Generator | None) -> Stack:
        chosen = self.settings
        dims = [dim] + [chosen.hidden_dim or dim] * chosen.num_layers
        layers = [SAGELayer(a, b, aggregate=chosen.aggregate, generator=generator) for a, b in pairwise(dims)]
        return Stack(layers, activation="relu", dropout=chosen.dropout)
