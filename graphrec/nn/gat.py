"""GAT and GATv2: neighbour averaging with learned attention, several heads at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.nn.layer import RelationLayer, at_rows, linear, project
from graphrec.nn.stack import Stack, StackEncoder
from graphrec.ops import Relation, gat, gatv2
from graphrec.ops.spmm import scale_dtype
from graphrec.settings import Settings


class GATLayer(RelationLayer):
    """Y[r] = ‖_h Σ_c α(r, c, h) · W_h x_c + b, α = softmax over the neighbours c of r of LeakyReLU(aᵀ_h [W_h x_r ‖ W_h x_c]).

    ‖ puts the H heads side by side; "mean" averages them, as the paper does in its last layer. A node without edges gets b.
    With `rows` only the edges of those rows are visited.

    Args:
        src_dim: D of the source features.
        head_dim: F of each head.
        num_heads: H.
        dst_dim: D of the target features, which then have a projection of their own; None shares W.
        heads: "concat", out_dim = H · F, or "mean", out_dim = F.
        dropout: chance in [0, 1) that an edge is left out of a head's average, in training mode only.
        negative_slope: LeakyReLU's factor below 0; 0.2 is the paper's.
        bias: whether there is a b.
        generator: source of the random start; None takes torch's own.

    **Source**: Veličković et al. 2018, "Graph Attention Networks", arXiv 1710.10903, equations 3 to 6, without the σ,
    which the stack applies. Equal to DGL's `GATConv`. The paper's self-attention needs self-loops in the graph.
    """

    def __init__(
        self,
        src_dim: int,
        head_dim: int,
        num_heads: int = 1,
        *,
        dst_dim: int | None = None,
        heads: Literal["concat", "mean"] = "concat",
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(src_dim, dst_dim, _out_dim(type(self).__name__, head_dim, num_heads, heads, dropout))
        self.num_heads, self.head_dim, self.heads = num_heads, head_dim, heads
        self.dropout, self.negative_slope = dropout, negative_slope
        self._make_projections(generator, bias)

    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        relation = relation if rows is None else relation.take_rows(rows)
        src = self._by_head(project(self.src_weight, src_x))
        src_score = self._scores(src_x, self.src_weight, self.src_attention)
        dst_score = self._scores(at_rows(dst_x, rows), self.dst_weight or self.src_weight, self.dst_attention)
        y = gat(relation, dst_score, src_score, src, self.negative_slope, *self._draw())
        return self._merged(y if self.bias is None else y + self.bias.view(self.num_heads, self.head_dim))

    def _make_projections(self, generator: torch.Generator | None, bias: bool) -> None:
        width = self.num_heads * self.head_dim
        self.src_weight = linear(self.src_dim, width, generator, bias=False)
        self.dst_weight = None if self.dst_dim is None else linear(self.dst_dim, width, generator, bias=False)
        self.src_attention = _attention_vectors(self.num_heads, self.head_dim, generator)
        self.dst_attention = _attention_vectors(self.num_heads, self.head_dim, generator)
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def _scores(self, x: Tensor, weight: nn.Linear, attention: Tensor) -> Tensor:
        """<a_h, W_h x> as <W_hᵀ a_h, x>, (n, H): so targets need no projection at all."""
        per_head = torch.einsum("hf,hfd->dh", attention, weight.weight.unflatten(0, (self.num_heads, -1)))
        return (x @ per_head).to(scale_dtype(x))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(-1, self.num_heads, self.head_dim)  # (n, H * F) -> (n, H, F)

    def _merged(self, y: Tensor) -> Tensor:
        return y.flatten(1) if self.heads == "concat" else y.mean(1)

    def _draw(self) -> tuple[float, int]:
        """Dropout and its seed, which in training mode comes from torch's own generator."""
        if not self.training or not self.dropout:
            return 0.0, 0
        return self.dropout, int(torch.randint(2**62, ()))


class GATv2Layer(GATLayer):
    """As `GATLayer`, with the scores aᵀ_h LeakyReLU(V_h x_r + W_h x_c), which rank neighbours differently for each r.

    Args:
        src_dim, head_dim, num_heads, dst_dim, heads, dropout, negative_slope, generator: as in `GATLayer`; targets always
            have a projection V of their own.
        bias: whether both projections add one.

    **Source**: Brody et al. 2022, "How Attentive are Graph Attention Networks?", arXiv 2105.14491, equation 7. Equal to
    DGL's `GATv2Conv`. A node without edges gets 0.
    """

    def _make_projections(self, generator: torch.Generator | None, bias: bool) -> None:
        width = self.num_heads * self.head_dim
        self.src_weight = linear(self.src_dim, width, generator, bias=bias)
        self.dst_weight = linear(self.dst_dim or self.src_dim, width, generator, bias=bias)
        self.attention = _attention_vectors(self.num_heads, self.head_dim, generator)

    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        relation = relation if rows is None else relation.take_rows(rows)
        src = self._by_head(project(self.src_weight, src_x))
        dst = self._by_head(project(self.dst_weight, at_rows(dst_x, rows)))
        return self._merged(gatv2(relation, dst, src, self.attention, self.negative_slope, *self._draw()))


class GATSettings(Settings):
    """Settings of the `gat` and `gatv2` encoders."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_layers": {"low": 1, "high": 3},
        "dropout": [0.0, 0.1, 0.3, 0.5],
        "attention_dropout": [0.0, 0.1, 0.3, 0.5],
    }

    num_layers: int = Field(default=2, ge=1, le=16)
    """L, hops; 2 is the paper's choice for one large graph."""
    num_heads: int = Field(default=4, ge=1, le=64)
    """H of each layer; the paper has 8 for citation graphs and 4 for proteins."""
    head_dim: int | None = Field(default=None, ge=1)
    """F of each head; None divides D of the inputs by H, so that every layer keeps D."""
    last_heads: Literal["concat", "mean"] = "concat"
    """How the last layer joins its heads; the paper averages them where they end in a classifier."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that an entry of a layer's input is zeroed in training; the paper has 0.6 on small citation graphs."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that an edge is left out of a head's average in training; the paper has 0.6 on small citation graphs."""
    negative_slope: float = Field(default=0.2, ge=0, le=1)
    """LeakyReLU's factor below 0 in the scores; the paper's value."""
    self_loops: bool = True
    """Whether every node attends to itself too, as in the paper."""


class GATEncoder(StackEncoder):
    """GAT layers over users and items as one graph, ELU between them and none at the end.

    **Source**: Veličković et al. 2018, arXiv 1710.10903, section 3.3, with the last layer linear instead of a softmax.
    """

    Settings = GATSettings
    layer: type[GATLayer] = GATLayer

    def _stack(self, dim: int, generator: torch.Generator | None) -> Stack:
        chosen = self.settings
        if chosen.head_dim is None and dim % chosen.num_heads:
            raise ConfigError(
                f"{type(self).__name__}: num_heads must divide the inputs' dimension, got {chosen.num_heads} and {dim}; "
                "set head_dim or another num_heads"
            )
        head_dim = chosen.head_dim or dim // chosen.num_heads
        layers: list[GATLayer] = []
        for position in range(chosen.num_layers):
            layers.append(
                self.layer(
                    *(layers[-1].out_dim if layers else dim, head_dim, chosen.num_heads),
                    heads=chosen.last_heads if position == chosen.num_layers - 1 else "concat",
                    dropout=chosen.attention_dropout,
                    negative_slope=chosen.negative_slope,
                    generator=generator,
                )
            )
        return Stack(layers, activation="elu", dropout=chosen.dropout, self_loops=chosen.self_loops)


class GATv2Encoder(GATEncoder):
    """GATv2 layers over users and items as one graph, ELU between them and none at the end.

    **Source**: Brody et al. 2022, arXiv 2105.14491.
    """

    layer = GATv2Layer


def _attention_vectors(num_heads: int, head_dim: int, generator: torch.Generator | None) -> nn.Parameter:
    """One vector per head (H, F), Glorot uniform as a map from F to 1."""
    bound = (6.0 / (head_dim + 1)) ** 0.5
    return nn.Parameter(torch.empty(num_heads, head_dim).uniform_(-bound, bound, generator=generator))


def _out_dim(where: str, head_dim: int, num_heads: int, heads: str, dropout: float) -> int:
    if num_heads < 1:
        raise ValueError(f"{where}: num_heads must be at least 1, got {num_heads}")
    if heads not in ("concat", "mean"):
        raise ValueError(f'{where}: heads must be "concat" or "mean", got {heads!r}')
    if not 0 <= dropout < 1:
        raise ValueError(f"{where}: dropout must be in [0, 1), got {dropout}")
    return head_dim * (num_heads if heads == "concat" else 1)
