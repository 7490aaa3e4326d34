"""What all plain layers share: one call for a `Relation` or a DGL graph, the checks, and start values from a generator.

U destinations, I sources, E edges, D features, B restricted rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.ops import Relation
from graphrec.ops.index import check_distinct, check_index, check_integer, check_tensor

_FEW = 50  # rows that 1 in 50 is wanted of: with some ten edges a row most columns are out of reach


class RelationLayer(nn.Module, ABC):
    """One layer of message passing from the columns of a relation to its rows.

    A new layer is one subclass that fills in `propagate`.

    Args:
        src_dim: D of the source features.
        dst_dim: D of the target features; None means that targets are nodes of the same kind as sources.
        out_dim: D of what comes out.
    """

    needs_targets = True
    """Whether a row's own features enter its result."""

    def __init__(self, src_dim: int, dst_dim: int | None, out_dim: int) -> None:
        super().__init__()
        for name, dim in (("src_dim", src_dim), ("dst_dim", dst_dim), ("out_dim", out_dim)):
            if dim is not None:
                check_integer(type(self).__name__, name, dim, 1)
        self.src_dim, self.dst_dim, self.out_dim = src_dim, dst_dim, out_dim

    def forward(
        self, graph: Relation | Any, src_x: Tensor, dst_x: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Pass messages from sources to destinations.

        Args:
            graph: a relation whose rows are the destinations (U, I), or a DGL graph of one edge type, whose messages go
                from source to destination as in DGL. A DGL graph is converted at every call: where a layer is called often,
                convert it once with `relation_of`.
            src_x: float32, float64 or bfloat16 (I, src_dim), as the layer's weights.
            dst_x: (U, dst_dim), same dtype; None takes `src_x` where destinations and sources are the same nodes.
            rows: int64 (B,), distinct destinations: only these are computed, in this order; None for all.

        Returns:
            (U, out_dim), or (B, out_dim) with `rows`.

        Raises:
            ConfigError: the DGL graph has several edge types or parallel edges.
            TypeError: the graph or the features are of another type.
            ValueError: features have the wrong shape or dtype or are not finite, or a row is out of range or occurs twice; the
                message names them. Or `propagate` gave other rows than it was asked for.
        """
        name = type(self).__name__
        if isinstance(src_x, tuple | list):
            raise TypeError(
                f"{name}: src_x must be a tensor, the features of the sources, got a {type(src_x).__name__} of {len(src_x)}; "
                "give those of the destinations apart, as dst_x="
            )
        check_tensor(name, "src_x", src_x)
        relation = relation_of(graph, name, src_x.device)
        check_features(name, "src_x", src_x, relation.num_src, self.src_dim)
        check_dtype(self, name, "src_x", src_x)
        if self.needs_targets:
            if dst_x is None and (self.dst_dim is not None or not _same_nodes(graph, relation)):
                raise ValueError(
                    f"{name}: dst_x is needed where destinations are not the sources, got None for "
                    f"{relation.num_dst} destinations and {relation.num_src} sources; pass (num_dst, D) features"
                )
            if dst_x is not None:
                check_tensor(name, "dst_x", dst_x)
                dst_dim = self.src_dim if self.dst_dim is None else self.dst_dim
                check_features(name, "dst_x", dst_x, relation.num_dst, dst_dim)
                check_dtype(self, name, "dst_x", dst_x)
        check_rows(name, "rows", rows, relation.num_dst)
        y = self.propagate(relation, src_x, src_x if dst_x is None else dst_x, rows)
        check_result(name, "rows", y, relation.num_dst if rows is None else len(rows), self.out_dim)
        return y

    @abstractmethod
    def propagate(self, relation: Relation, src_x: Tensor, dst_x: Tensor, rows: Tensor | None = None) -> Tensor:
        """`forward` without its checks, on a relation only: for stacks and encoders, which have checked once."""


def relation_of(
    graph: Relation | Any,
    where: str = "relation_of",
    device: torch.device | str = "cpu",
    weight: Tensor | None = None,
) -> Relation:
    """Return a `Relation` as it is, or make one of a DGL graph, with the graph's destinations as rows.

    Features of a DGL graph's edges do not enter: a relation orders its edges anew. `weight=graph.edata["w"]` brings one along.

    Args:
        graph: a relation, or a DGL graph (homogeneous, or of one edge type, or a sampled block of one).
        where: what to call the caller in messages.
        device: of a relation that is made.
        weight: (E,), what each edge of a DGL graph counts, in the graph's order; a relation has its own.

    Raises:
        ConfigError: the graph has several edge types, or parallel edges, which a relation would merge.
        ValueError: weights beside a relation, not one for each edge, negative or not finite.
    """
    if isinstance(graph, Relation):
        if weight is not None:
            raise ValueError(f"{where}: weight goes with a DGL graph, got it beside a relation; use relation.with_weight")
        return graph
    if not hasattr(graph, "canonical_etypes"):
        raise TypeError(f"{where}: graph must be a Relation or a DGL graph, got {type(graph).__name__}")
    types = graph.canonical_etypes
    if len(types) != 1:
        listed = ", ".join(map(str, types)) or "none"
        raise ConfigError(
            f"{where}: a DGL graph must have one edge type, got {len(types)} ({listed}); pass the slice of one, graph[edge type]"
        )
    source, _, target = types[0]
    src, dst = (index.cpu().numpy() for index in graph.edges())
    relation = Relation.from_coo(dst, src, graph.num_dst_nodes(target), graph.num_src_nodes(source), weight)
    if relation.num_edges != len(src):
        raise ConfigError(
            f"{where}: a DGL graph must have no parallel edges, got {len(src) - relation.num_edges} of {len(src)} that repeat "
            "another; pass dgl.to_simple(graph)"
        )
    return relation.to(device)


def nodes_of(graph: Relation | Any, where: str, x: Tensor, dim: int) -> Relation:
    """`relation_of` a homogeneous graph whose nodes have the features x (N, dim).

    Raises:
        ConfigError: as of `relation_of`.
        ValueError: the relation is not square, or the features do not fit it.
    """
    check_tensor(where, "x", x)
    relation = relation_of(graph, where, x.device)
    if not _same_nodes(graph, relation):
        raise ValueError(
            f"{where}: destinations and sources must be the same nodes, got {relation.num_dst} destinations and "
            f"{relation.num_src} sources; make one node type of them with relation.as_homogeneous()"
        )
    check_features(where, "x", x, relation.num_src, dim)
    return relation


def sides_of(
    graph: Relation | Any,
    where: str,
    user_x: Tensor,
    item_x: Tensor,
    dim: int = 0,
    users: Tensor | None = None,
    items: Tensor | None = None,
) -> Relation:
    """`relation_of` a graph between users and items, with users as rows, whose nodes have these features.

    Of a DGL graph the nodes of the type "user" are the rows, or, where none or both ends have that name, the sources.

    Args:
        graph: a relation, whole or sampled, with users as rows, or a DGL graph of one edge type.
        where: what to call the caller in messages.
        user_x, item_x: (U, dim) and (I, dim).
        dim: 0 for any that both sides have.
        users, items: int64, distinct: the rows wanted of each side; None for all.

    Raises:
        ConfigError: as of `relation_of`.
        ValueError: rows are out of range or repeated, or the features do not fit the graph or each other, or are not finite. Values that are learned (require a
            gradient) are not looked at: that would be a pass over all of them in every step, and there the loss tells.
    """
    check_tensor(where, "user_x", user_x)
    check_tensor(where, "item_x", item_x)
    relation = bipartite_of(graph, where, user_x.device)
    dim = dim or user_x.shape[-1:].numel()
    for name, x, size in (("user_x", user_x, relation.num_dst), ("item_x", item_x, relation.num_src)):
        check_features(where, name, x, size, dim, finite=not x.requires_grad)
    if user_x.dtype != item_x.dtype or user_x.device != item_x.device:
        raise ValueError(
            f"{where}: user_x and item_x must agree in dtype and device, got {user_x.dtype} on {user_x.device} and "
            f"{item_x.dtype} on {item_x.device}"
        )
    check_rows(where, "users", users, relation.num_dst)
    check_rows(where, "items", items, relation.num_src)
    return relation


def bipartite_of(graph: Relation | Any, where: str, device: torch.device | str = "cpu") -> Relation:
    """`relation_of` with users as rows; see `sides_of` for which end of a DGL graph they are."""
    relation = relation_of(graph, where, device)
    if isinstance(graph, Relation):
        return relation
    source, _, target = graph.canonical_etypes[0]
    return relation if target == "user" != source else relation.transpose()


def _same_nodes(graph: Relation | Any, relation: Relation) -> bool:
    """Whether destinations and sources may be the same nodes: a relation tells by their number only, a DGL graph by their type."""
    if relation.num_dst != relation.num_src:
        return False
    return isinstance(graph, Relation) or (graph.canonical_etypes[0][0] == graph.canonical_etypes[0][2] and not graph.is_block)


def check_rows(where: str, name: str, rows: Tensor | None, size: int) -> None:
    """Make sure that rows are None or int64 (B,), distinct and below `size`, where looking does not wait for a GPU.

    Raises:
        ValueError: they are not; the message names them.
    """
    if rows is not None:
        check_index(where, name, rows, size, wait=False)
        check_distinct(where, name, rows, size, wait=False)


def check_result(where: str, asked: str, y: Tensor, num_rows: int, dim: int) -> None:
    """Make sure that a layer or an encoder gave the rows that it was asked for.

    Args:
        where: what to call it in messages.
        asked: the argument that names the rows.
        y: what it gave.
        num_rows, dim: what its shape must be.

    Raises:
        ValueError: the shape is another one.
    """
    if tuple(y.shape) != (num_rows, dim):
        gave = f"{len(y):,} of {y.shape[1]}" if y.ndim == 2 else f"the shape {tuple(y.shape)}"
        raise ValueError(
            f"{where}: asked for {num_rows:,} {asked} of {dim} values each, gave {gave}; take only `{asked}` where they are given "
            "(graphrec.nn.layer.at_rows), and let out_dim say how long a row is"
        )


def check_undirected(where: str, relation: Relation) -> None:
    """Make sure that a relation on the CPU, of one node type, has each edge both ways and none from a node to itself.

    Raises:
        ValueError: it has not; the message says how to mend it.
    """
    if torch.compiler.is_compiling() or relation.device.type != "cpu" or "undirected" in relation._kept:
        return
    symmetric = relation.indptr is relation.t_indptr or (
        torch.equal(relation.indptr, relation.t_indptr) and torch.equal(relation.indices, relation.t_indices)
    )
    own = torch.repeat_interleave(torch.arange(relation.num_dst, dtype=torch.int32), relation.degree_dst)
    got = None
    if not symmetric:
        got = "edges that go one way only"
    elif bool((relation.indices == own).any()):
        got = "edges from a node to itself"
    elif relation.weight is not None and not torch.equal(relation.weight, relation.weight[relation.t_edges]):
        got = "edges whose weights differ between the two ways"
    if got is not None:
        raise ValueError(
            f"{where}: self-loops beside the edges need a graph with each edge both ways, of one weight, and none from a node to "
            f"itself, got {got}; make it so (of a DGL graph: dgl.to_bidirected, dgl.remove_self_loop), or use a layer without "
            "self_loops, GCNLayer(..., self_loops=False), on relation.with_self_loops()"
        )
    relation._kept["undirected"] = True


def check_dtype(module: nn.Module, where: str, name: str, x: Tensor) -> None:
    """Make sure that features have the dtype of a module's weights, or that autocast casts them.

    Raises:
        ValueError: they do not; the message names them.
    """
    weight = next(module.parameters(), None)
    if weight is not None and x.dtype != weight.dtype and not _is_cast(x):
        raise ValueError(
            f"{where}: {name} must be {weight.dtype}, as the weights, got {x.dtype}; cast it, or the weights with .to({x.dtype})"
        )


def _is_cast(x: Tensor) -> bool:
    """Whether autocast brings x and the weights to one dtype: it leaves float64 alone."""
    return torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64


def check_features(where: str, name: str, x: Tensor, num_nodes: int, dim: int, finite: bool = True) -> None:
    """Make sure that features are (num_nodes, dim), floating point and, where looking does not wait for a GPU, finite.

    Args:
        where, name: what to call the caller and the features in messages.
        x: the features.
        num_nodes, dim: what their shape must be.
        finite: whether to look at the values, one pass over them.

    Raises:
        ValueError: they are not; the message gives the rule, what was received and the mend.
    """
    if x.ndim != 2 or tuple(x.shape) != (num_nodes, dim) or not x.dtype.is_floating_point:
        raise ValueError(
            f"{where}: {name} must be floating point ({num_nodes}, {dim}), a row for each node of the graph, "
            f"got {x.dtype} {tuple(x.shape)}; {_mend_of(x, num_nodes, dim)}"
        )
    if torch.compiler.is_compiling():
        return  # a compiled graph cannot branch on values
    if finite and x.device.type == "cpu" and not torch.isfinite(x.detach().sum()):  # the sum alone is one cheap pass
        bad = torch.nonzero(~torch.isfinite(x.detach()).all(1))[:, 0]
        if len(bad):
            raise ValueError(
                f"{where}: {name} must be finite, got NaN or infinity in {len(bad)} of {num_nodes} rows, the first "
                f"being row {int(bad[0])}; fill missing features before the layer"
            )


def _mend_of(x: Tensor, num_nodes: int, dim: int) -> str:
    """What to do about features that are not floating point (num_nodes, dim)."""
    if not x.dtype.is_floating_point:
        return "cast them with .float()"
    if x.ndim != 2:
        return "bring them to two dimensions with .reshape"
    if len(x) != num_nodes:
        return f"add or take away rows, or make the graph with {len(x)} nodes on that side"
    return f"map them to {dim} columns, or make the module for {x.shape[1]}"


def linear(in_dim: int, out_dim: int, generator: torch.Generator | None, bias: bool = True) -> nn.Linear:
    """Make a linear map with Glorot uniform weights drawn from `generator` and a zero bias."""
    made = nn.utils.skip_init(nn.Linear, in_dim, out_dim, bias=bias)  # its own start would draw from the global stream
    nn.init.xavier_uniform_(made.weight, generator=generator)
    if bias:
        nn.init.zeros_(made.bias)
    return made


def project(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear map and keep the dtype: under bfloat16 autocast only the matrix product itself is bfloat16."""
    return module(x).to(x.dtype)


def few(relation: Relation, rows: Tensor | None) -> bool:
    """Whether so few rows of a whole relation are wanted that most of its columns are not read."""
    return rows is not None and type(relation) is Relation and _FEW * len(rows) < relation.num_dst


def at_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """The rows (B, D) of x, or all of it for None."""
    return x if rows is None else x.index_select(0, rows)
