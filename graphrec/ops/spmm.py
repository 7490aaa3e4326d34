"""Sparse-times-dense product over a `Relation`: the message passing of GCN-like layers.

U rows (destinations), I columns (sources), E edges, D embedding, B restricted rows.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import check_constant, check_distinct, check_index, check_numbers, check_shaped, check_tensor
from graphrec.ops.once import once_differentiable
from graphrec.ops.registration import register
from graphrec.ops.relation import Relation


def spmm(
    relation: Relation,
    x: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    alpha: float = 1.0,
    z: Tensor | None = None,
    beta: float = 1.0,
    rows: Tensor | None = None,
    *,
    edge_weight: Tensor | None = None,
    reduce: Literal["sum", "mean", "max"] = "sum",
) -> Tensor:
    """Reduce the neighbours' features: Y = α · diag(left) · A · diag(right) · X + β · Z, A holding the edge weights or ones.

    Differentiable in X, Z and the edge weights, any number of times but for "max", which is once. With left =
    D_dst^-1/2 and right = D_src^-1/2 (`Relation.scale_dst`, `scale_src`) this is the symmetric normalisation of
    LightGCN and GCN, with no edge values stored or read; the backward pass is then the same operator on the transpose
    and saves no activations. "mean" divides a row by the sum of the relation's own weights, its number of edges where it
    has none; `edge_weight`, which may learn, multiplies messages only and does not count in the divisor, a constant.
    "max" takes the largest weighted message of each column of X, NaN where one is, and its first edge the gradient. A row
    without edges gives β · Z. With β = 0 nothing of Z is read, NaN or not. Sums are kept in float32 at least. Moves about
    E·(4 + D·b) + U·D·b bytes for b-byte values; edge weights add 4·E.

    Args:
        relation: A, (U, I).
        x: float32, float64 or bfloat16 (I, D).
        left, right: (U,) and (I,), constants, or None for ones; float64 where x is, else float32.
        alpha, beta: factors of the reduction and of Z.
        z: (U, D), or (B, D) with `rows`; None for zero; same dtype as x.
        rows: int64 (B,), distinct; only these rows of Y are computed, in this order (row restriction, exact).
        edge_weight: (E,), in the order of `relation.indices`, dtype as `left`, beside the relation's own weights; None for ones.
        reduce: "sum", "mean" or "max".

    Returns:
        (U, D), or (B, D) with `rows`.

    Raises:
        ValueError: a shape, dtype, device, row index or `reduce` does not fit, rows repeat, a factor is not finite, or a scale
            or factor requires a gradient; the message names it.
    """
    if reduce not in ("sum", "mean", "max"):
        raise ValueError(f'spmm: reduce must be "sum", "mean" or "max", got {reduce!r}')
    _check_spmm("spmm", relation, x, left, right, alpha, z, beta, rows, edge_weight)
    if reduce == "mean":
        share = relation.scale_dst(-1.0, scale_dtype(x))
        left = share if left is None else left * share
    if relation.weight is not None:
        own = relation.weight_as(scale_dtype(x))
        edge_weight = own if edge_weight is None else edge_weight * own
    maximum = reduce == "max"
    edges = relation.t_edges if maximum or edge_weight is not None else None
    y, _ = _SPMM(
        *(relation.indptr, relation.indices, relation.t_indptr, relation.t_indices, edges),
        *(x, edge_weight, left, right, alpha, z, beta, rows, maximum),
    )
    return y


def spmm_compact(
    relation: Relation,
    x: Tensor,
    columns: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    alpha: float = 1.0,
) -> Tensor:
    """Y = α · diag(left) · A[:, columns] · diag(right[columns]) · X for compact X (B, D): the transpose of row restriction.

    Args:
        columns: int64 (B,), distinct: which columns of A the rows of X stand for. The others count as zero rows.

    Returns:
        (U, D). Not differentiable: it is the backward pass of `spmm`.

    Raises:
        ValueError: a shape, dtype or device does not fit, or, on the CPU, a column, or columns repeat; the message names it.
    """
    check_index("spmm_compact", "columns", columns, relation.num_src, wait=False)
    check_distinct("spmm_compact", "columns", columns, relation.num_src, wait=False)
    _check_values("spmm_compact", relation, x, (len(columns), "a row for each column"), left, right)
    parts = {"edge_weight": relation.weight_as(scale_dtype(x)), "columns": columns, "num_columns": relation.num_src}
    return product(relation.indptr, relation.indices, x, left, right, alpha, **parts)[0]


def spmm_forward(
    relation: Relation,
    x: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    alpha: float,
    z: Tensor | None,
    beta: float,
    rows: Tensor | None,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """`spmm` without autograd, for layers that write their own backward pass.

    Args:
        edge_weight: (E,), in place of the relation's own weights, as `Relation.scale_edges` gives them; None for these.

    Raises:
        ValueError: as of `spmm`, but rows on a GPU are not looked at, which would wait for it.
    """
    _check_spmm("spmm_forward", relation, x, left, right, alpha, z, beta, rows, edge_weight, wait=False)
    weight = relation.weight_as(scale_dtype(x)) if edge_weight is None else edge_weight
    return product(relation.indptr, relation.indices, x, left, right, alpha, z, beta, rows, edge_weight=weight)[0]


def normalised_forward(
    relation: Relation, x: Tensor, factor: float = 1.0, z: Tensor | None = None, rows: Tensor | None = None
) -> Tensor:
    """factor · (D_dst^-1/2 · A · D_src^-1/2 · X + Z), without autograd and with the errors of `spmm_forward`.

    An edge reads its column's scale in the order of the edges, which takes less time than a lookup.
    """
    dtype = scale_dtype(x)
    left, weight = relation.scale_dst(-0.5, dtype), relation.scale_edges(-0.5, dtype)
    return spmm_forward(relation, x, left, None, factor, z, factor, rows, weight)


def scale_dtype(x: Tensor) -> torch.dtype:
    """The dtype that scales and edge weights for `x` have: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def product(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    alpha: float = 1.0,
    z: Tensor | None = None,
    beta: float = 1.0,
    rows: Tensor | None = None,
    *,
    edge_weight: Tensor | None = None,
    edge_ids: Tensor | None = None,
    columns: Tensor | None = None,
    num_columns: int = 0,
    maximum: bool = False,
) -> tuple[Tensor, Tensor]:
    """One product; `columns` says which columns x stands for, `edge_ids` where an edge's weight is. Returns Y and argmax."""
    z = None if beta == 0 else z  # as in BLAS: 0 times NaN would be NaN
    if _kernels.kind(x) is None:
        if columns is not None:
            x = x.new_zeros(num_columns, x.shape[1]).index_copy_(0, columns, x)
            if right is not None:  # an infinite scale of a column that is left out does not count
                right = torch.zeros_like(right).index_copy_(0, columns, right[columns])
        return _spmm_reference(indptr, indices, x, left, right, alpha, z, beta, rows, edge_weight, edge_ids, maximum)
    num_rows = len(indptr) - 1 if rows is None else len(rows)
    x, rows = x.contiguous(), contiguous(rows)
    y = x.new_empty(num_rows, x.shape[1])
    argmax = torch.empty(y.shape if maximum else 0, dtype=torch.int64, device=x.device)
    if y.numel():
        positions = None if columns is None else positions_of(columns, num_columns)
        _kernels.call(
            *("spmm", x, _kernels.DTYPES[x.dtype], int(maximum), num_rows, x.shape[1], indptr, indices, rows, positions),
            *(contiguous(edge_weight), edge_ids, x, contiguous(left), contiguous(right), float(alpha)),
            *(contiguous(z), float(beta), y, argmax if maximum else None),
        )
    return y, argmax


def positions_of(columns: Tensor, num_columns: int) -> Tensor:
    """Where each column is in `columns`, which are distinct, int32 (num_columns,), -1 where it is not."""
    positions = torch.full((num_columns,), -1, dtype=torch.int32, device=columns.device)
    positions[columns] = torch.arange(len(columns), dtype=torch.int32, device=columns.device)
    return positions


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """The tensor with dense rows, or None."""
    return None if tensor is None else tensor.contiguous()


def _compute(indptr, indices, t_indptr, t_indices, edges, x, edge_weight, left, right, alpha, z, beta, rows, maximum):  # type: ignore[no-untyped-def]
    return product(indptr, indices, x, left, right, alpha, z, beta, rows, edge_weight=edge_weight, maximum=maximum)


def _fake(indptr, indices, t_indptr, t_indices, edges, x, edge_weight, left, right, alpha, z, beta, rows, maximum):  # type: ignore[no-untyped-def]
    y = x.new_empty(len(indptr) - 1 if rows is None else len(rows), x.shape[1])
    return y, torch.empty(y.shape if maximum else 0, dtype=torch.int64, device=x.device)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    indptr, indices, t_indptr, t_indices, edges, x, edge_weight, left, right, alpha, _, beta, rows, maximum = inputs
    ctx.scalars = alpha, beta, maximum
    x = x if edge_weight is not None and ctx.needs_input_grad[6] else None
    argmax = output[1] if maximum else None
    ctx.save_for_backward(indptr, indices, t_indptr, t_indices, edges, x, edge_weight, left, right, rows, argmax)


def _backward(ctx, gradient, _):  # type: ignore[no-untyped-def]
    _, beta, maximum = ctx.scalars
    x_gradient, weight_gradient = (_max_gradients if maximum else _gradients)(ctx, gradient)
    z_gradient = beta * gradient if ctx.needs_input_grad[10] else None
    return (*[None] * 5, x_gradient, weight_gradient, None, None, None, z_gradient, None, None, None)


def _gradients(ctx, gradient):  # type: ignore[no-untyped-def]
    """By X and by the edge weights, with operators that are differentiable in turn where there is no maximum."""
    *index, x, edge_weight, left, right, rows, argmax = ctx.saved_tensors
    alpha, _, maximum = ctx.scalars
    x_gradient = weight_gradient = None
    if ctx.needs_input_grad[5]:
        transpose = (*index, gradient, edge_weight, left, right, alpha, rows)
        x_gradient = _MAX_TRANSPOSE(*transpose, argmax) if maximum else _TRANSPOSE(*transpose)
    if ctx.needs_input_grad[6]:
        weight_gradient = torch.ops.graphrec.sddmm(*index, gradient, x, left, right, alpha, rows, argmax)
    return x_gradient, weight_gradient


_max_gradients = once_differentiable('spmm with reduce="max"')(_gradients)


def _transpose(indptr, indices, t_indptr, t_indices, edges, gradient, edge_weight, left, right, alpha, rows):  # type: ignore[no-untyped-def]
    """The gradient by X: scales change place, and restricted rows become the columns that the gradient stands for."""
    y, _ = product(
        *(t_indptr, t_indices, gradient, right, left, alpha),
        edge_weight=edge_weight,
        edge_ids=edges,
        columns=rows,
        num_columns=len(indptr) - 1,
    )
    return y


def _setup_transpose(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *index, gradient, edge_weight, left, right, ctx.alpha, rows = inputs
    gradient = gradient if edge_weight is not None and ctx.needs_input_grad[6] else None
    ctx.save_for_backward(*index, gradient, edge_weight, left, right, rows)


def _transpose_backward(ctx, second):  # type: ignore[no-untyped-def]
    """The transpose's transpose is the product itself."""
    *index, gradient, edge_weight, left, right, rows = ctx.saved_tensors
    by_gradient = by_weight = None
    if ctx.needs_input_grad[5]:
        by_gradient, _ = _SPMM(*index, second, edge_weight, left, right, ctx.alpha, None, 1.0, rows, False)
    if ctx.needs_input_grad[6]:
        by_weight = torch.ops.graphrec.sddmm(*index, gradient, second, left, right, ctx.alpha, rows, None)
    return (*[None] * 5, by_gradient, by_weight, None, None, None, None)


def _max_transpose(indptr, indices, t_indptr, t_indices, edges, gradient, edge_weight, left, right, alpha, rows, argmax):  # type: ignore[no-untyped-def]
    """The gradient by X of the max: each entry of the gradient goes to the edge that won."""
    num_dst = len(indptr) - 1
    if _kernels.kind(gradient) is None:
        return _max_transpose_reference(
            *(t_indptr, t_indices, edges, gradient, edge_weight, left, right, alpha, rows, argmax, num_dst)
        )
    gradient = gradient.contiguous()
    out = gradient.new_empty(len(t_indptr) - 1, gradient.shape[1])
    if out.numel():
        _kernels.call(
            *("spmm_max_backward", gradient, _kernels.DTYPES[gradient.dtype], len(out), out.shape[1], t_indptr, t_indices),
            *(None if rows is None else positions_of(rows, num_dst), contiguous(edge_weight), edges, gradient),
            *(contiguous(left), contiguous(right), float(alpha), argmax, out),
        )
    return out


def _fake_transpose(indptr, indices, t_indptr, t_indices, edges, gradient, *_):  # type: ignore[no-untyped-def]
    return gradient.new_empty(len(t_indptr) - 1, gradient.shape[1])


_INDEX = "Tensor indptr, Tensor indices, Tensor t_indptr, Tensor t_indices, Tensor? t_edges, "
_SPMM = register(
    f"spmm({_INDEX}Tensor x, Tensor? edge_weight, Tensor? left, Tensor? right, float alpha, Tensor? z, float beta, "
    "Tensor? rows, bool maximum) -> (Tensor, Tensor)",
    _compute,
    _fake,
    _setup_context,
    _backward,
)
_TRANSPOSE_ARGUMENTS = (
    f"{_INDEX}Tensor gradient, Tensor? edge_weight, Tensor? left, Tensor? right, float alpha, Tensor? rows"
)
_TRANSPOSE = register(
    f"spmm_transpose({_TRANSPOSE_ARGUMENTS}) -> Tensor", _transpose, _fake_transpose, _setup_transpose, _transpose_backward
)
_MAX_TRANSPOSE = register(
    f"spmm_max_transpose({_TRANSPOSE_ARGUMENTS}, Tensor argmax) -> Tensor", _max_transpose, _fake_transpose
)


def _spmm_reference(indptr, indices, x, left, right, alpha, z, beta, rows, edge_weight, edge_ids, maximum):  # type: ignore[no-untyped-def]
    dtype, wide = x.dtype, scale_dtype(x)
    x = x.to(wide) if right is None else x.to(wide) * right[:, None]
    argmax = torch.empty(0, dtype=torch.int64, device=x.device)
    if edge_weight is not None and edge_ids is not None:
        edge_weight = edge_weight[edge_ids]
    if rows is None and not maximum:
        values = x.new_ones(len(indices)) if edge_weight is None else edge_weight
        with warnings.catch_warnings(), torch.autocast(x.device.type, enabled=False):  # there is no bfloat16 sparse product
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # torch says so once per process
            shape = (len(indptr) - 1, len(x))
            y = torch.sparse_csr_tensor(indptr, indices.long(), values, shape, check_invariants=False) @ x
    else:
        target, edge = edges_of_rows(indptr, rows)
        message = x[indices[edge]]
        if edge_weight is not None:
            message = message * edge_weight[edge, None]
        num_rows = len(indptr) - 1 if rows is None else len(rows)
        if maximum:
            y, argmax = _largest(target, edge if edge_ids is None else edge_ids[edge], message, num_rows)
        else:
            y = x.new_zeros(num_rows, x.shape[1]).index_add_(0, target, message)
    if left is not None:
        y = y * (left if rows is None else left[rows])[:, None]
    y = alpha * y
    return (y if z is None else y + beta * z.to(wide)).to(dtype), argmax


def edges_of_rows(indptr: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """The edges of some rows, one row after the other: their position in `rows` and their edge, both int64."""
    begin = indptr[:-1] if rows is None else indptr[rows]
    degree = (indptr[1:] if rows is None else indptr[rows + 1]) - begin
    target = torch.repeat_interleave(torch.arange(len(degree), device=indptr.device), degree)
    offset = torch.arange(len(target), device=indptr.device) - (degree.cumsum(0) - degree)[target]
    return target, begin[target] + offset


def _largest(target: Tensor, edge: Tensor, message: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """The largest message of each row and column, NaN if one is, and the first edge that has it; 0 and -1 without edges."""
    index = target[:, None].expand_as(message)
    shape = (num_rows, message.shape[1])
    largest = message.new_full(shape, -torch.inf).scatter_reduce_(0, index, message, "amax")
    none = torch.iinfo(torch.int64).max
    wins = (message == largest[target]) | (message.isnan() & largest[target].isnan())
    winner = torch.where(wins, edge[:, None], none)
    argmax = torch.full(shape, none, device=edge.device).scatter_reduce_(0, index, winner, "amin")
    empty = argmax == none
    return largest.masked_fill(empty, 0.0), argmax.masked_fill(empty, -1)


def _max_transpose_reference(t_indptr, t_indices, edges, gradient, edge_weight, left, right, alpha, rows, argmax, num_dst):  # type: ignore[no-untyped-def]
    source, edge = edges_of_rows(t_indptr, None)
    target = t_indices[edge].long()
    place = target if rows is None else positions_of(rows, num_dst)[target].long()
    source, edge, target, place = (part[place >= 0] for part in (source, edge, target, place))
    factor = gradient.new_full((len(edge),), alpha, dtype=scale_dtype(gradient))
    for scale in (None if left is None else left[target], None if edge_weight is None else edge_weight[edges[edge]]):
        factor = factor if scale is None else factor * scale
    part = torch.where(argmax[place] == edges[edge, None], gradient[place] * factor[:, None], 0.0)
    out = part.new_zeros(len(t_indptr) - 1, gradient.shape[1]).index_add_(0, source, part)
    return (out if right is None else out * right[:, None]).to(gradient.dtype)


def _check_spmm(where, relation, x, left, right, alpha, z, beta, rows, edge_weight=None, wait=True) -> None:  # type: ignore[no-untyped-def]
    _check_values(where, relation, x, (relation.num_src, "num_src"), left, right, edge_weight)
    check_numbers(where, "multiply x, z or the result by it", alpha=alpha, beta=beta)
    if z is not None:
        check_shaped(where, "z", z, (relation.num_dst if rows is None else len(rows), x.shape[1]), x.dtype)
    if rows is not None:
        check_index(where, "rows", rows, relation.num_dst, wait)
        check_distinct(where, "rows", rows, relation.num_dst, wait)


def _check_values(where, relation, x, size, left, right, edge_weight=None) -> None:  # type: ignore[no-untyped-def]
    count, why = size
    check_tensor(where, "x", x)
    check_constant(where, "scale x or the result by it, or give edge_weight, which learns", left=left, right=right)
    if x.ndim != 2 or x.shape[0] != count:
        raise ValueError(f"{where}: x must be ({why} = {count}, D), got {tuple(x.shape)}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"{where}: x must be floating point, got {x.dtype}")
    if x.device != relation.device:
        raise ValueError(f"{where}: x must be where the relation is, on {relation.device}, got {x.device}; move one with .to()")
    for name, value, length in (
        ("left", left, relation.num_dst), ("right", right, relation.num_src), ("edge_weight", edge_weight, relation.num_edges),
    ):  # fmt: skip
        if value is not None:
            check_shaped(where, name, value, (length,), scale_dtype(x))
