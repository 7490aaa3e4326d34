"""GAT and GATv2: neighbour averaging with learned attention, several heads at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from graphrec.errors import ConfigError
from graphrec.nn.layer import RelationLayer, at_rows, few, linear, project
from graphrec.nn.stack import Stack, StackEncoder
from graphrec.ops import Relation, gat, gatv2
from graphrec.ops.index import check_integer
from graphrec.ops.neighbourhood import RowBlock
from graphrec.ops.spmm import scale_dtype
from graphrec.settings import Settings


class GATLayer(RelationLayer):
    """Y[r] = ‖_h Σ_c α(r, c, h) · W_h x_c + b, α = softmax over the neighbours c of r of LeakyReLU(aᵀ_h [W_h x_r ‖ W_h x_c]).

    ‖ puts the H heads side by side; "mean" averages them, as the paper does in its last layer. A node without edges gets b.
    With `rows` only the edges of those rows are visited.

    With `self_loops` r is among its own neighbours. A graph of one node type gets the edges for that which it lacks. Elsewhere,
    and so in a sample, r stands beside the columns: there it is weighed against degree / drawn times the edges drawn, so that
    the softmax is that of the whole graph where all edges are drawn, and nears it as more of them are.

    Args:
        src_dim: D of the source features.
        head_dim: F of each head.
        num_heads: H.
        dst_dim: D of the target features, which then have a projection of their own; None shares W.
        heads: "concat", out_dim = H · F, or "mean", out_dim = F.
        dropout: chance in [0, 1) that an edge is left out of a head's average, in training mode only.
        negative_slope: LeakyReLU's factor below 0; 0.2 is the paper's.
        self_loops: whether every node attends to itself too, as in the paper; targets must then be of the sources' kind.
        bias: whether there is a b.
        generator: source of the random start; None takes torch's own.

    **Source**: Veličković et al. 2018, "Graph Attention Networks", arXiv 1710.10903, equations 3 to 6, without the σ,
    which the stack applies. Equal to DGL's `GATConv`. Weighing a row against the edges drawn is ours.
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
        self_loops: bool = False,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(src_dim, dst_dim, _out_dim(type(self).__name__, head_dim, num_heads, heads, dropout))
        if self_loops and dst_dim is not None:
            raise ValueError(f"{type(self).__name__}: self_loops need targets of the sources' kind, got dst_dim = {dst_dim}; drop it")
        self.num_heads, self.head_dim, self.heads = num_heads, head_dim, heads
        self.dropout, self.negative_slope, self.self_loops = dropout, negative_slope, self_loops
        self._make_projections(generator, bias)

    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        if self.self_loops and src_x is dst_x:
            relation = relation.with_self_loops()
        part, own, beside = relation, at_rows(dst_x, rows), self.self_loops and src_x is not dst_x
        if few(relation, rows):  # most columns are out of reach then, and need no projection
            part = RowBlock.of(relation, rows)
            src_x = src_x.index_select(0, part.columns)
        elif rows is not None:
            part = relation.take_rows(rows)
        if beside:
            per_draw = relation.full_degree_dst / relation.degree_dst.clamp_min(1)
            y = self._attend_beside(part, src_x, own, at_rows(per_draw, rows))
        else:
            y = self._attend(part, src_x, own)
        return self._merged(self._with_bias(y))

    def _attend(self, relation: Relation, src_x: Tensor, dst_x: Tensor) -> Tensor:
        src, src_score, dst_score = self._projected(src_x, dst_x)
        return gat(relation, dst_score, src_score, src, self.negative_slope, *self._draw())

    def _attend_beside(self, relation: Relation, src_x: Tensor, dst_x: Tensor, edges_per_draw: Tensor) -> Tensor:
        """`_attend` where each row is one more source of its own, and counts 1 / edges_per_draw (U,) of what a column does."""
        src, dst, attention = self._pairwise(torch.cat([src_x, dst_x]), dst_x)
        # One more feature, with the attention -1, takes log edges_per_draw from the scores of rows: no LeakyReLU bends it.
        surplus = torch.cat([src.new_zeros(len(src_x)), edges_per_draw.clamp_min(1).log().to(src.dtype)])
        src = torch.cat([src, surplus.view(-1, 1, 1).expand(-1, self.num_heads, 1)], dim=2)
        dst, attention = pad(dst, (0, 1)), pad(attention, (0, 1), value=-1.0)
        y = gatv2(relation.with_targets(), dst, src, attention, self.negative_slope, *self._draw())
        return y[..., : self.head_dim]

    def _pairwise(self, src_x: Tensor, dst_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sources (I, H, F + 1), targets (U, H, F + 1) and attention (H, F + 1) with which `gatv2` is `gat`."""
        src, src_score, dst_score = self._projected(src_x, dst_x)
        scores = src_score.to(src.dtype).unsqueeze(2), dst_score.to(src.dtype).unsqueeze(2)
        attention = pad(src.new_zeros(src.shape[1:]), (0, 1), value=1.0)
        return torch.cat([src, scores[0]], dim=2), pad(scores[1], (self.head_dim, 0)), attention

    def _projected(self, src_x: Tensor, dst_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """W x_c (I, H, F), and the two halves of a score, (I, H) and (U, H)."""
        return (
            self._by_head(project(self.src_weight, src_x)),
            self._scores(src_x, self.src_weight, self.src_attention),
            self._scores(dst_x, self.dst_weight or self.src_weight, self.dst_attention),
        )

    def _with_bias(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias.view(self.num_heads, self.head_dim)

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
        src_dim, head_dim, num_heads, dst_dim, heads, dropout, negative_slope, self_loops, generator: as in `GATLayer`; targets
            always have a projection V of their own.
        bias: whether both projections add one.

    **Source**: Brody et al. 2022, "How Attentive are Graph Attention Networks?", arXiv 2105.14491, equation 7. Equal to
    DGL's `GATv2Conv`. A node without edges gets 0.
    """

    def _make_projections(self, generator: torch.Generator | None, bias: bool) -> None:
        width = self.num_heads * self.head_dim
        self.src_weight = linear(self.src_dim, width, generator, bias=bias)
        self.dst_weight = linear(self.dst_dim or self.src_dim, width, generator, bias=bias)
        self.attention = _attention_vectors(self.num_heads, self.head_dim, generator)

    def _attend(self, relation: Relation, src_x: Tensor, dst_x: Tensor) -> Tensor:
        src, dst, attention = self._pairwise(src_x, dst_x)
        return gatv2(relation, dst, src, attention, self.negative_slope, *self._draw())

    def _pairwise(self, src_x: Tensor, dst_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        src, dst = project(self.src_weight, src_x), project(self.dst_weight, dst_x)
        return self._by_head(src), self._by_head(dst), self.attention

    def _with_bias(self, y: Tensor) -> Tensor:
        return y  # the projections have it


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
    layer_type: type[GATLayer] = GATLayer

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
                self.layer_type(
                    *(layers[-1].out_dim if layers else dim, head_dim, chosen.num_heads),
                    heads=chosen.last_heads if position == chosen.num_layers - 1 else "concat",
                    dropout=chosen.attention_dropout,
                    negative_slope=chosen.negative_slope,
                    self_loops=chosen.self_loops,
                    generator=generator,
                )
            )
        return Stack(layers, activation="elu", dropout=chosen.dropout)


class GATv2Encoder(GATEncoder):
    """GATv2 layers over users and items as one graph, ELU between them and none at the end.

    **Source**: Brody et al. 2022, arXiv 2105.14491.
    """

    layer_type = GATv2Layer


def _attention_vectors(num_heads: int, head_dim: int, generator: torch.Generator | None) -> nn.Parameter:
    """One vector per head (H, F), Glorot uniform as a map from F to 1."""
    bound = (6.0 / (head_dim + 1)) ** 0.5
    return nn.Parameter(torch.empty(num_heads, head_dim).uniform_(-bound, bound, generator=generator))


def _out_dim(where: str, head_dim: int, num_heads: int, heads: str, dropout: float) -> int:
    for name, number in (("head_dim", head_dim), ("num_heads", num_heads)):
        check_integer(where, name, number, 1)
    if heads not in ("concat", "mean"):
        raise ValueError(f'{where}: heads must be "concat" or "mean", got {heads!r}')
    if not 0 <= dropout < 1:
        raise ValueError(f"{where}: dropout must be in [0, 1), got {dropout}")
    return head_dim * (num_heads if heads == "concat" else 1)
