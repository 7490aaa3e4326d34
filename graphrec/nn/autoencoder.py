"""Graph autoencoders: convolutions that end in one vector a node, or in a normal distribution to draw it from.

`GAE` and `VGAE` take one relation or DGL graph and a tuple of node tables: one table for a homogeneous graph, whose relation
is square and symmetric, or two for a bipartite one, users (rows) and items (columns). `GAEEncoder` and `VGAEEncoder` are the same
modules as encoders of a recommender.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.nn.encoder import Encoder
from graphrec.nn.gcn import GCNLayer
from graphrec.nn.layer import RelationLayer, check_dtype, check_rows, nodes_of, sides_of
from graphrec.nn.relations import RecencySettings
from graphrec.ops import Relation

Tables = tuple[Tensor, ...]
Rows = tuple[Tensor | None, ...]
MakeLayer = Callable[..., RelationLayer]

_LARGEST_LOG_STD = 10.0  # exp(20), the variance, still fits float32 with room for a sum


def convolution(in_dim: int, out_dim: int, generator: torch.Generator | None = None) -> GCNLayer:
    """The layer of Kipf and Welling 2017 with self-loops, arXiv:1609.02907, eq. 2 and 8; two tables share its weights."""
    return GCNLayer(in_dim, out_dim, self_loops=True, generator=generator)


@dataclass(frozen=True)
class Posterior:
    """Normal distributions with independent coordinates, one a node: q(z) = N(mean, diag(exp(log_std))^2).

    Attributes:
        mean, log_std: (n, D) each.
    """

    mean: Tensor
    log_std: Tensor

    def draw(self) -> Tensor:
        """z = mean + exp(log_std) * e with e ~ N(0, 1) from torch's own generator: (n, D), differentiable in both."""
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def divergence(self) -> Tensor:
        """KL(q(z) || N(0, I)) = 1/2 sum_d (mean_d^2 + std_d^2 - 1 - 2 log std_d), in nats a node: (n,).

        Source: Kingma and Welling 2014, arXiv:1312.6114, appendix B.
        """
        return 0.5 * (self.mean.square() + (2 * self.log_std).exp() - 1 - 2 * self.log_std).sum(-1)


class GAE(nn.Module):
    """Z = layer_L(... activation(layer_1(A, X)) ...): a vector a node, whose inner products are the logits of edges.

    Args:
        dims: D of the input, of every hidden layer, and of the output: L + 1 numbers.
        generator: source of the random start.
        activation: between layers; "none" makes the encoder linear (Salha et al. 2020, arXiv:2001.07614).
        dropout: share of the values in front of each layer that training sets to zero.
        make_layer: `make_layer(in_dim, out_dim, generator=...)`.

    Source: Kipf and Welling 2016, Variational graph auto-encoders, arXiv:1611.07308, section 2 (non-probabilistic).
    """

    def __init__(
        self,
        dims: Sequence[int],
        generator: torch.Generator | None = None,
        activation: Literal["relu", "none"] = "relu",
        dropout: float = 0.0,
        make_layer: MakeLayer = convolution,
    ) -> None:
        super().__init__()
        if isinstance(dims, str) or not hasattr(dims, "__len__") or len(dims) < 2:
            raise ValueError(
                f"{type(self).__name__}: dims must be a list of the columns of the input and of each layer, two at least, got {dims!r}; "
                "give them together, such as [8, 6, 4]"
            )
        if activation not in ("relu", "none"):
            raise ValueError(f'{type(self).__name__}: activation must be "relu" or "none", got {activation!r}')
        if not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout must be in [0, 1), a share of the values, got {dropout}")
        self.layers = nn.ModuleList(make_layer(*pair, generator=generator) for pair in itertools.pairwise(self._widths(dims)))
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, relation: Relation | Any, tables: Tables, rows: Rows | None = None) -> Tables:
        """Encode.

        Args:
            relation: square and symmetric for one table, users by items for two, which may be a sample; or a DGL graph of one
                edge type, homogeneous or between users and items, which is converted at every call.
            tables: (N, D) or (U, D) and (I, D): what the first layer starts from.
            rows: for each table int64 (b,), distinct, or None for all rows.

        Returns:
            As many tables, (n, D of the output) each.

        Raises:
            ConfigError: the DGL graph has several edge types or parallel edges.
            ValueError: tables do not fit the graph or the first layer, or are not finite, or rows are out of range or repeated;
                the message names them.
        """
        return self.propagate(self._relation_of(relation, tables, rows), tables, rows)

    def propagate(self, relation: Relation, tables: Tables, rows: Rows | None = None) -> Tables:
        """`forward` without its checks, on a relation only."""
        last = len(self.layers) - 1
        for index in range(last):
            tables = self.hop(index, relation.at_layer(index), tables)
        return self.hop(last, relation.at_layer(last), tables, rows)

    def _widths(self, dims: Sequence[int]) -> Sequence[int]:
        """D of the input and of what each layer gives."""
        return dims

    def _relation_of(self, graph: Relation | Any, tables: Tables, rows: Rows | None) -> Relation:
        name, dim = type(self).__name__, self.layers[0].src_dim
        if not isinstance(tables, tuple | list) or len(tables) not in (1, 2):
            got = type(tables).__name__ if isinstance(tables, Tensor) else f"{len(tables)} of them"
            raise ValueError(f"{name}: tables must be (x,) of one node type or (user_x, item_x) of two, got {got}")
        relation = nodes_of(graph, name, *tables, dim) if len(tables) == 1 else sides_of(graph, name, *tables, dim)
        check_dtype(self, name, "the tables", tables[0])
        if rows is not None and (not isinstance(rows, tuple | list) or len(rows) != len(tables)):
            got = type(rows).__name__ if isinstance(rows, Tensor) else f"{len(rows)} of them"
            raise ValueError(f"{name}: rows must be None or as many as there are tables, {len(tables)}, got {got}")
        for side, size in zip(rows or (), (relation.num_dst, relation.num_src), strict=False):
            check_rows(name, "rows", side, size)
        return relation

    def hop(self, index: int, relation: Relation, tables: Tables, rows: Rows | None = None) -> Tables:
        """Layer `index` with what stands before and behind it; arguments and result as for `propagate`."""
        layer = self.layers[index]
        tables = tuple(self.dropout(table) for table in tables)
        rows = rows or (None,) * len(tables)
        if len(tables) == 1:
            found = (layer.propagate(relation, tables[0], tables[0], rows[0]),)
        else:
            user, item = tables
            found = layer.propagate(relation, item, user, rows[0]), layer.propagate(relation.transpose(), user, item, rows[1])
        if index == len(self.layers) - 1 or self.activation == "none":
            return found
        return tuple(table.relu() for table in found)


class VGAE(GAE):
    """q(z | A, X) = N(mean, std^2) a node; z is drawn in training mode and is the mean in evaluation mode.

    The last layer is twice as wide: its first half is the mean, its second log std, so both share one pass over the graph.
    `posteriors` of the last pass are kept for the KL term.

    Args:
        dims, generator, activation, dropout, make_layer: as for `GAE`.
        start_log_std: added to log std; a small start lets reconstruction begin before the noise hides the means.

    Source: Kipf and Welling 2016, arXiv:1611.07308, eq. 1 and 2; the start of log std is ours, 0 is theirs.
    """

    def __init__(
        self,
        dims: Sequence[int],
        generator: torch.Generator | None = None,
        activation: Literal["relu", "none"] = "relu",
        dropout: float = 0.0,
        make_layer: MakeLayer = convolution,
        start_log_std: float = 0.0,
    ) -> None:
        super().__init__(dims, generator, activation, dropout, make_layer)
        self.start_log_std = start_log_std

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no posteriors: they belong to the last pass and cannot be copied with their gradients."""
        return {name: value for name, value in super().__getstate__().items() if name != "posteriors"}

    def encode(self, relation: Relation | Any, tables: Tables, rows: Rows | None = None) -> tuple[Posterior, ...]:
        """Return the distributions of each table's nodes; arguments as for `GAE.forward`."""
        return self._distributions(self._relation_of(relation, tables, rows), tables, rows)

    def propagate(self, relation: Relation, tables: Tables, rows: Rows | None = None) -> Tables:
        """Draw z in training mode, take the mean in evaluation mode; as `GAE.propagate`."""
        self.posteriors = self._distributions(relation, tables, rows)
        return tuple(one.draw() if self.training else one.mean for one in self.posteriors)

    def _widths(self, dims: Sequence[int]) -> Sequence[int]:
        return [*dims[:-1], 2 * dims[-1]]

    def _distributions(self, relation: Relation, tables: Tables, rows: Rows | None) -> tuple[Posterior, ...]:
        halves = [table.chunk(2, dim=-1) for table in super().propagate(relation, tables, rows)]
        shift, top = self.start_log_std, _LARGEST_LOG_STD
        return tuple(Posterior(mean, (log_std + shift).clamp_max(top)) for mean, log_std in halves)


class GAESettings(RecencySettings):
    """Settings of the `gae` encoder."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_layers": {"low": 1, "high": 3},
        "activation": ["relu", "none"],
        "dropout": [0.0, 0.1, 0.3, 0.5],
    }

    num_layers: int = Field(default=2, ge=1, le=8)
    """Convolutions; 2 is the choice of Kipf and Welling 2016, 1 makes the linear autoencoder of Salha et al. 2020."""
    hidden_dim: int | None = Field(default=None, ge=1)
    """Width between the layers; None takes the width of the inputs."""
    activation: Literal["relu", "none"] = "relu"
    """Between the layers."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values in front of each layer that training sets to zero; 0 is the choice of Kipf and Welling 2016."""


class GAEEncoder(Encoder):
    """`GAE` over the bipartite graph of users and items.

    Args:
        settings: see `GAESettings`.
        dim: D of the inputs and of what comes out.
        generator: source of the random start.

    Source: van den Berg et al. 2017, Graph convolutional matrix completion, arXiv:1706.02263, for autoencoders on a
    user-item graph; here one convolution for all edges and the formula of Kipf and Welling.
    """

    Settings = GAESettings
    reads_weights = True

    @property
    def hops(self) -> int:
        """How many layers read the relation."""
        return len(self.net.layers)

    def build(self, generator: torch.Generator | None) -> None:
        """Make the convolutions."""
        own, dim = self.settings, self.dim
        self.net = self._make([dim, *[own.hidden_dim or dim] * (own.num_layers - 1), dim], generator)

    def forward(
        self,
        relation: Relation | Any,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> Tables:
        """Encode.

        Args:
            relation: users as rows, items as columns, the whole graph or a sample; or a DGL graph between them
                (`graphrec.nn.layer.sides_of`).
            user_x, item_x: (U, D) and (I, D).
            users, items: int64, distinct: the rows wanted; None for all.

        Returns:
            The user and item vectors, (U, D) and (I, D), or only the rows asked for, in their order.

        Raises:
            ConfigError: the DGL graph has several edge types or parallel edges.
            ValueError: features do not fit the relation or the settings, or are not finite.
        """
        name = type(self).__name__
        relation = sides_of(relation, name, user_x, item_x, self.dim, users, items)
        check_dtype(self, name, "user_x", user_x)
        return self.net.propagate(relation, (user_x, item_x), (users, items))

    def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """Convolution `index` for some rows, or all for None, with the activation behind it; see `nn.layerwise`."""
        return self.net.hop(index, relation, (user_h, item_h), (users, items))

    def _make(self, dims: list[int], generator: torch.Generator | None) -> GAE:
        return GAE(dims, generator, self.settings.activation, self.settings.dropout)


class VGAESettings(GAESettings):
    """Settings of the `vgae` encoder."""

    start_log_std: float = Field(default=-2.0, ge=-10, le=2)
    """Where log std starts. Kipf and Welling 2016 start at 0; id embeddings start at 0.1, below that noise."""


class VGAEEncoder(GAEEncoder):
    """`VGAE` over the bipartite graph: rows are drawn in training mode and are means in evaluation mode.

    Source: Kipf and Welling 2016, arXiv:1611.07308. The KL term is the auxiliary loss "kl".
    """

    Settings = VGAESettings

    def forward(
        self,
        relation: Relation | Any,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> Tables:
        """Encode as `GAEEncoder.forward` does."""
        drawn = super().forward(relation, user_x, item_x, users, items)
        self._last = drawn, self.net.posteriors
        return drawn

    def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """As `GAEEncoder.layer`, the last convolution cut to the means."""
        states = super().layer(index, relation, user_h, item_h, user_x, item_x, users, items)
        return states if index < self.hops - 1 else tuple(state.chunk(2, dim=-1)[0] for state in states)

    def __getstate__(self) -> dict[str, Any]:
        """As `VGAE.__getstate__`."""
        return {name: value for name, value in super().__getstate__().items() if name != "_last"}

    def posteriors_of(self, user: Tensor, item: Tensor) -> tuple[Posterior, Posterior] | None:
        """Return the distributions that `user` and `item` were drawn from, or None where the last pass returned others."""
        (last_user, last_item), posteriors = self._last
        return posteriors if last_user is user and last_item is item else None

    def _make(self, dims: list[int], generator: torch.Generator | None) -> VGAE:
        at = self.settings
        return VGAE(dims, generator, at.activation, at.dropout, start_log_std=at.start_log_std)
