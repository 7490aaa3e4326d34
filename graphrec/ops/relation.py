"""`Relation`: one edge type in the form that the operators read."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
import torch

from graphrec.ops.index import check_counts, check_csr, check_integer


@dataclass(frozen=True, eq=False)
class Relation:
    """One edge type as CSR by destination (rows) and CSR by source (columns).

    An encoder that keeps four rules works on the whole graph and on sampled neighbourhoods (`SampledRelation`) alike:

    - Messages to rows go through `relation`, messages to columns through `relation.transpose()`. In a sample these are
      separate draws, so neither is the other's transpose; gradients through `spmm` and the like are right in both cases.
    - A sum over neighbours is scaled by `scale_dst` on the left and `scale_src` on the right *of the relation that is
      multiplied by*. In a sample they hold the degrees of the whole graph, and `scale_dst` makes up for edges not drawn.
      `reduce="mean"` and attention need nothing more, but attention of a row to itself, which is never a draw, is weighed
      against degree / drawn times the drawn edges (`graphrec.nn.gat.GATLayer`).
    - Layer l, counted from the inputs, works on `relation.at_layer(l)`.
    - The encoder says with `hops` how many layers read the relation.

    Attributes:
        indptr, indices: int64 (U + 1,) and int32 (E,): the sources of each destination, ascending.
        t_indptr, t_indices: int64 (I + 1,) and int32 (E,): the destinations of each source, ascending.
        num_dst, num_src: U and I.
        weight: float32 (E,), what each edge counts in every sum and degree, at least 0, in the order of `indices`; None for ones.
            They are constants: weights that learn go through `edge_weight` of `spmm`.

    The constructor's `trusted` leaves out its look at the values, for arrays that were made from those of a checked relation.

    Raises:
        ValueError: an array has another shape, dtype or device, an index is out of range or not in order, the two forms count the
            edges of a node differently, or a weight is negative or not finite.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    t_indptr: torch.Tensor
    t_indices: torch.Tensor
    num_dst: int
    num_src: int
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)
    weight: torch.Tensor | None = None
    trusted: InitVar[bool] = False

    def __post_init__(self, trusted: bool) -> None:
        for name, length, dtype in (
            ("indptr", self.num_dst + 1, torch.int64), ("indices", len(self.indices), torch.int32),
            ("t_indptr", self.num_src + 1, torch.int64), ("t_indices", len(self.indices), torch.int32),
        ):  # fmt: skip
            value = getattr(self, name)
            if value.shape != (length,) or value.dtype != dtype or not value.is_contiguous():
                raise ValueError(
                    f"Relation: {name} must be contiguous {dtype} ({length},), got {value.dtype} {tuple(value.shape)}; "
                    "build it with Relation.from_coo"
                )
            if value.device != self.device:
                raise ValueError(f"Relation: {name} must be where indices is, on {self.device}, got {value.device}; use .to()")
        if not trusted:
            check_csr("", self.indptr, self.indices, self.num_src)
            check_csr("t_", self.t_indptr, self.t_indices, self.num_dst)
            check_counts("", self.indices, self.t_indptr)
            check_counts("t_", self.t_indices, self.indptr)
            if self.weight is not None:
                _check_weight("Relation", self.weight, self.indices)

    @classmethod
    def from_scipy(cls, matrix: scipy.sparse.sparray | scipy.sparse.spmatrix) -> Relation:
        """Build from the non-zero pattern of a SciPy sparse matrix (U, I); duplicates merge, values are ignored.

        Raises:
            ValueError: a side has more than 2^31 - 1 nodes.
        """
        if max(matrix.shape) >= 2**31:
            raise ValueError(f"Relation: node indices are int32, got shape {matrix.shape}")
        by_dst = scipy.sparse.csr_matrix(matrix)
        if not by_dst.has_canonical_format:
            by_dst = by_dst.copy()
            by_dst.sum_duplicates()
        by_src = by_dst.T.tocsr()
        by_src.sort_indices()
        return cls(*_csr_tensors(by_dst), *_csr_tensors(by_src), *by_dst.shape, trusted=True)  # SciPy has put both in order

    @classmethod
    def from_coo(cls, dst: Any, src: Any, num_dst: int, num_src: int, weight: Any = None) -> Relation:
        """Build from edge lists: `dst` and `src` int (E,), and `weight` (E,) in their order, as arrays or tensors.

        An edge that occurs several times is one, whose weight is the sum.

        Raises:
            TypeError: a number of nodes is no integer.
            ValueError: the lists differ in length or are no integers, a number of nodes is negative, an index is out of range, or a
                weight is negative or not finite.
        """
        dst, src = np.asarray(dst), np.asarray(src)
        if dst.shape != src.shape or dst.ndim != 1:
            raise ValueError(
                f"Relation.from_coo: dst and src must be 1-d of equal length, got {dst.shape} and {src.shape}"
            )
        for name, index, size in (("dst", dst, num_dst), ("src", src, num_src)):
            check_integer("Relation.from_coo", f"num_{name}", size, 0)
            if index.size and index.dtype.kind not in "iu":
                raise ValueError(f"Relation.from_coo: {name} must be integers, got {index.dtype}")
            if index.size and (index.min() < 0 or index.max() >= size):
                raise ValueError(
                    f"Relation.from_coo: {name} must be in 0..{size - 1}, got {index.min()}..{index.max()}"
                )
        values = np.ones(len(dst), np.float32) if weight is None else np.asarray(torch.as_tensor(weight).detach().cpu(), np.float64)
        if values.shape != dst.shape:
            raise ValueError(f"Relation.from_coo: weight must be ({len(dst)},), one an edge, got {values.shape}")
        if len(values) and not (values.min() >= 0 and values.max() < np.inf):
            raise ValueError(f"Relation.from_coo: weight must be finite and at least 0, got {values.min():g}..{values.max():g}")
        matrix = scipy.sparse.coo_matrix((values, (dst, src)), shape=(num_dst, num_src)).tocsr()  # in the relation's order
        return cls.from_scipy(matrix).with_weight(None if weight is None else torch.from_numpy(matrix.data))

    @classmethod
    def from_dgl(cls, graph: Any, etype: Any) -> Relation:
        """Build from one edge type of a DGL graph, with the graph's *source* nodes as rows; parallel edges merge.

        For `(user, view, item)` the rows are users and the columns items, so that `spmm` of the relation carries
        item features to users, and its `transpose()` the other way. Layers of your own that should pass messages as DGL does, from
        source to destination, take `graphrec.nn.layer.relation_of(graph)`, the transpose of this.
        """
        left, _, right = graph.to_canonical_etype(etype)
        src, dst = graph.edges(etype=etype)
        return cls.from_coo(src.numpy(), dst.numpy(), graph.num_nodes(left), graph.num_nodes(right))

    @property
    def num_edges(self) -> int:
        """E."""
        return self.indices.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the index lives."""
        return self.indices.device

    @property
    def degree_dst(self) -> torch.Tensor:
        """Edges of each row, int64 (U,)."""
        return self.indptr.diff()

    @property
    def degree_src(self) -> torch.Tensor:
        """Edges of each column, int64 (I,)."""
        return self.t_indptr.diff()

    @property
    def t_edges(self) -> torch.Tensor:
        """Where the edges of `t_indices` are in `indices`, int64 (E,); kept after the first call.

        Edge weights (E,) are always in the order of `indices`; `weight[relation.t_edges]` is the transpose's order.
        """
        if "t_edges" not in self._kept:
            self._kept["t_edges"] = torch.argsort(self.indices, stable=True)
        return self._kept["t_edges"]

    @property
    def rows(self) -> torch.Tensor:
        """The destination of each edge, int64 (E,); kept after the first call."""
        if "rows" not in self._kept:
            self._kept["rows"] = torch.repeat_interleave(
                torch.arange(self.num_dst, device=self.device), self.degree_dst
            )
        return self._kept["rows"]

    @property
    def edge_keys(self) -> torch.Tensor:
        """row · num_src + column of each edge, int64 (E,), ascending; kept after the first call."""
        if "edge_keys" not in self._kept:
            self._kept["edge_keys"] = self.rows * self.num_src + self.indices
        return self._kept["edge_keys"]

    @property
    def strength_dst(self) -> torch.Tensor:
        """The sum of the weights of each row's edges, float64 (U,); `full_degree_dst` without weights."""
        return self._strength(self.weight, self.rows, self.num_dst) if self.weight is not None else self.full_degree_dst

    @property
    def strength_src(self) -> torch.Tensor:
        """The sum of the weights of each column's edges, float64 (I,); `full_degree_src` without weights."""
        return self._strength(self.weight, self.indices, self.num_src) if self.weight is not None else self.full_degree_src

    @property
    def full_degree_dst(self) -> torch.Tensor:
        """Edges of each row in the whole graph, int64 (U,); `degree_dst` where this is the whole graph."""
        return self.degree_dst

    @property
    def full_degree_src(self) -> torch.Tensor:
        """Edges of each column in the whole graph, int64 (I,)."""
        return self.degree_src

    def at_layer(self, index: int) -> Relation:
        """The edges that layer `index` of an encoder works on, counted from the inputs: all of them, in every layer."""
        return self

    def transpose(self) -> Relation:
        """The same edges with rows and columns exchanged; shares memory, and is kept after the first call."""
        if "transpose" not in self._kept:
            parts = self.t_indptr, self.t_indices, self.indptr, self.indices
            weight = None if self.weight is None else self.weight[self.t_edges]
            self._kept["transpose"] = Relation(*parts, self.num_src, self.num_dst, weight=weight, trusted=True)
        return self._kept["transpose"]

    def to(self, device: torch.device | str) -> Relation:
        """Copy to a device."""
        parts = (self.indptr, self.indices, self.t_indptr, self.t_indices)
        weight = None if self.weight is None else self.weight.to(device)
        return Relation(*(part.to(device) for part in parts), self.num_dst, self.num_src, weight=weight, trusted=True)

    def with_weight(self, weight: torch.Tensor | None) -> Relation:
        """The same edges, each counting `weight` (E,), in the order of `indices`, as float32; None for ones.

        The weights are copied, without their gradient: what is made of the relation keeps them, a transpose for instance. Weights
        that learn go through `edge_weight` of `spmm`.

        Raises:
            ValueError: the weights are not one for each edge, or one is negative or not finite.
        """
        if weight is not None:
            if weight.shape != self.indices.shape:
                raise ValueError(
                    f"Relation.with_weight: weight must be ({self.num_edges},), one an edge, got {tuple(weight.shape)}"
                )
            weight = weight.detach().to(self.device, torch.float32, copy=True).contiguous()
            _check_weight("Relation.with_weight", weight, self.indices)
        parts = (self.indptr, self.indices, self.t_indptr, self.t_indices)
        return Relation(*parts, self.num_dst, self.num_src, weight=weight, trusted=True)

    def weight_as(self, dtype: torch.dtype) -> torch.Tensor | None:
        """`weight` in another precision; kept after the first call."""
        if self.weight is None or self.weight.dtype == dtype:
            return self.weight
        if ("weight", dtype) not in self._kept:
            self._kept["weight", dtype] = self.weight.to(dtype)
        return self._kept["weight", dtype]

    def as_homogeneous(self) -> Relation:
        """Rows and columns as one node type: the symmetric relation (U + I, U + I) in which node U + i is column i.

        Its adjacency is [[0, A], [Aᵀ, 0]], so its degrees are those of both sides. Kept after the first call.
        """
        if "homogeneous" not in self._kept:
            indptr = torch.cat([self.indptr, self.t_indptr[1:] + self.num_edges])
            indices = torch.cat([self.indices + self.num_dst, self.t_indices])
            num_nodes = self.num_dst + self.num_src
            if num_nodes >= 2**31:
                raise ValueError(f"Relation: node indices are int32, got {num_nodes} nodes on both sides together")
            weight = None if self.weight is None else torch.cat([self.weight, self.weight[self.t_edges]])
            parts = indptr, indices, indptr, indices
            self._kept["homogeneous"] = Relation(*parts, num_nodes, num_nodes, weight=weight, trusted=True)
        return self._kept["homogeneous"]

    def with_self_loops(self) -> Relation:
        """The same square relation with exactly one edge from each node to itself, of weight 1 if it is new; kept after the
        first call.

        Raises:
            ValueError: rows and columns are of different number.
        """
        if self.num_dst != self.num_src:
            raise ValueError(
                "Relation.with_self_loops: rows and columns must be the same nodes, "
                f"got {self.num_dst} rows and {self.num_src} columns"
            )
        if "self_loops" not in self._kept:
            diagonal = torch.arange(self.num_dst, device=self.device)
            dst, src = torch.cat([self.rows, diagonal]), torch.cat([self.indices.long(), diagonal])
            parts = (*_sorted_csr(dst, src, self.num_dst), *_sorted_csr(src, dst, self.num_dst))
            made = Relation(*parts, self.num_dst, self.num_src, trusted=True)
            if self.weight is not None:
                weight = torch.ones(made.num_edges, device=self.device)
                weight[torch.searchsorted(made.edge_keys, self.edge_keys)] = self.weight
                made = made.with_weight(weight)
            self._kept["self_loops"] = made
        return self._kept["self_loops"]

    def with_targets(self) -> Relation:
        """The relation (U, I + U) in which each row r has one more edge, of weight 1, to column I + r: sources and then the rows."""
        own = torch.arange(self.num_dst, device=self.device)
        last = self.indptr[1:] + own  # each row's place for its own edge, behind the others
        indices = self.indices.new_empty(self.num_edges + self.num_dst)
        indices[last] = (own + self.num_src).int()
        others = torch.arange(self.num_edges, device=self.device) + self.rows
        indices[others] = self.indices
        weight = None
        if self.weight is not None:
            weight = self.weight.new_ones(len(indices))
            weight[others] = self.weight
        t_indptr, t_indices = torch.cat([self.t_indptr, self.num_edges + 1 + own]), torch.cat([self.t_indices, own.int()])
        parts = torch.cat([self.indptr[:1], last + 1]), indices, t_indptr, t_indices
        return Relation(*parts, self.num_dst, self.num_src + self.num_dst, weight=weight, trusted=True)

    def take_rows(self, rows: torch.Tensor) -> Relation:
        """The relation (B, I) of some rows, int64 (B,), distinct, in their order: row restriction for operators without it."""
        degree = self.degree_dst[rows]
        indptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        position = torch.repeat_interleave(torch.arange(len(rows), device=self.device), degree)
        edges = (self.indptr[rows] - indptr[:-1])[position] + torch.arange(len(position), device=self.device)
        indices = self.indices[edges]
        order = torch.argsort(indices, stable=True)
        counts = torch.bincount(indices, minlength=self.num_src)
        t_indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        kept = {"t_edges": order, "rows": position}
        weight = None if self.weight is None else self.weight[edges]
        parts = indptr, indices, t_indptr, position[order].int()
        return Relation(*parts, len(rows), self.num_src, kept, weight, trusted=True)

    def scale_dst(self, exponent: float, dtype: torch.dtype = torch.float32, loops: int = 0) -> torch.Tensor:
        """(strength_dst + loops) ** exponent (U,), with 0 for isolated rows; kept after the first call.

        `loops` counts edges of a node to itself that stand beside the relation.
        """
        return self._scale("dst", exponent, dtype, loops)

    def scale_src(self, exponent: float, dtype: torch.dtype = torch.float32, loops: int = 0) -> torch.Tensor:
        """(strength_src + loops) ** exponent (I,), with 0 for isolated columns; kept after the first call."""
        return self._scale("src", exponent, dtype, loops)

    def scale_edges(self, exponent: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """scale_src(exponent) of each edge's column times the edge's weight (E,), in the order of `indices`; kept after the first call.

        Reading it in order costs less than looking the columns' scales up.
        """
        key = ("edges", exponent, dtype)
        if key not in self._kept:
            scale = self.scale_src(exponent, dtype)[self.indices.long()]
            self._kept[key] = scale if self.weight is None else scale * self.weight_as(dtype)
        return self._kept[key]

    def _strength(self, weight: torch.Tensor, ends: torch.Tensor, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.float64, device=self.device).index_add_(0, ends.long(), weight.double())

    def _scale(self, side: str, exponent: float, dtype: torch.dtype, loops: int = 0) -> torch.Tensor:
        key = (side, exponent, dtype, loops)
        if key not in self._kept:
            degree = (self.strength_dst if side == "dst" else self.strength_src) + loops
            power = degree.to(torch.float64).pow(exponent)
            self._kept[key] = torch.where(degree > 0, power, torch.zeros_like(power)).to(dtype)
        return self._kept[key]


def check_unweighted(where: str, relation: Relation) -> None:
    """Make sure that a relation has no weights, for what would not read them.

    Raises:
        ValueError: it has.
    """
    if relation.weight is not None:
        raise ValueError(
            f"{where}: the relation must have no weights, which would not count here, got {tuple(relation.weight.shape)}; "
            "pass relation.with_weight(None), or use spmm, which reads them"
        )


def _check_weight(where: str, weight: torch.Tensor, indices: torch.Tensor) -> None:
    if weight.shape != indices.shape or weight.dtype != torch.float32 or not weight.is_contiguous() or weight.requires_grad:
        raise ValueError(
            f"{where}: weight must be contiguous torch.float32 {tuple(indices.shape)} without a gradient, got {weight.dtype} "
            f"{tuple(weight.shape)}{' that learns' if weight.requires_grad else ''}; use with_weight, or edge_weight of spmm"
        )
    if weight.device != indices.device:
        raise ValueError(f"{where}: weight must be where indices is, on {indices.device}, got {weight.device}; use .to()")
    if len(weight):
        low, high = (float(bound) for bound in weight.aminmax())
        if not (low >= 0 and high < np.inf):  # NaN, too, comes out of aminmax
            raise ValueError(f"{where}: weight must be finite and at least 0, got {low:g}..{high:g}")


def _sorted_csr(row: torch.Tensor, column: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """indptr and indices of a square pattern; duplicates merge."""
    keys = (row * size + column).unique()
    counts = torch.bincount(keys // max(size, 1), minlength=size)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), (keys % max(size, 1)).int()


def _csr_tensors(matrix: scipy.sparse.csr_matrix) -> tuple[torch.Tensor, torch.Tensor]:
    indptr = torch.from_numpy(matrix.indptr.astype(np.int64))
    return indptr, torch.from_numpy(matrix.indices.astype(np.int32))
