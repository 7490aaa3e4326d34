"""Sparse-times-dense product over a `Relation`: the message passing of GCN-like layers.

U rows (destinations), I columns (sources), E edges, D embedding, B restricted rows.
"""

from __future__ import annotations

import warnings

import torch

from graphrec import _kernels
from graphrec.ops.relation import Relation


def spmm(
    relation: Relation,
    x: torch.Tensor,
    left: torch.Tensor | None = None,
    right: torch.Tensor | None = None,
    alpha: float = 1.0,
    z: torch.Tensor | None = None,
    beta: float = 1.0,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum the neighbours' features: Y = α · diag(left) · A · diag(right) · X + β · Z, differentiable in X and Z.

    With left = D_dst^-1/2 and right = D_src^-1/2 (`Relation.scale_dst`, `scale_src`) this is the symmetric
    normalisation of LightGCN and GCN, with no edge values stored or read. The backward pass is the same operator on
    the transpose and saves no activations. Moves about E·(4 + D·b) + U·D·b bytes for b-byte values.

    Args:
        relation: A, (U, I).
        x: float32 or float64 (I, D).
        left, right: (U,) and (I,), same dtype as x, or None for ones.
        alpha, beta: factors of the sum and of Z.
        z: (U, D), or (B, D) with `rows`; None for zero.
        rows: int64 (B,), distinct; only these rows of Y are computed, in this order (row restriction, exact).

    Returns:
        (U, D), or (B, D) with `rows`.

    Raises:
        ValueError: a shape, dtype or row index does not fit; the message names it.
    """
    _check_spmm(relation, x, left, right, z, rows)
    return _Spmm.apply(relation, x, left, right, alpha, z, beta, rows)


def spmm_compact(
    relation: Relation,
    x: torch.Tensor,
    columns: torch.Tensor,
    left: torch.Tensor | None = None,
    right: torch.Tensor | None = None,
    alpha: float = 1.0,
) -> torch.Tensor:
    """Y = α · diag(left) · A[:, columns] · diag(right[columns]) · X for compact X (B, D): the transpose of row restriction.

    Args:
        columns: int64 (B,), distinct: which columns of A the rows of X stand for. The others count as zero rows.

    Returns:
        (U, D). Not differentiable: it is the backward pass of `spmm`.
    """
    if not _kernels.supports(x):
        dense = x.new_zeros(relation.num_src, x.shape[1])
        dense[columns] = x
        return _spmm_reference(relation, dense, left, right, alpha, None, 0.0, None)
    positions = torch.full((relation.num_src,), -1, dtype=torch.int32)
    positions[columns] = torch.arange(len(columns), dtype=torch.int32)
    return _kernels.spmm(
        relation.num_dst, relation.indptr, relation.indices, x.contiguous(), None, positions, left, right, alpha, None, 0.0
    )


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, relation, x, left, right, alpha, z, beta, rows):  # type: ignore[no-untyped-def]
        ctx.parameters = relation, left, right, alpha, beta, rows
        return spmm_forward(relation, x, left, right, alpha, z, beta, rows)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        relation, left, right, alpha, beta, rows = ctx.parameters
        x_gradient = z_gradient = None
        if ctx.needs_input_grad[1]:
            transpose = relation.transpose()
            if rows is None:
                x_gradient = spmm_forward(transpose, gradient, right, left, alpha, None, 0.0, None)
            else:
                x_gradient = spmm_compact(transpose, gradient, rows, right, left, alpha)
        if ctx.needs_input_grad[5]:
            z_gradient = beta * gradient
        return None, x_gradient, None, None, None, z_gradient, None, None


def spmm_forward(
    relation: Relation,
    x: torch.Tensor,
    left: torch.Tensor | None,
    right: torch.Tensor | None,
    alpha: float,
    z: torch.Tensor | None,
    beta: float,
    rows: torch.Tensor | None,
) -> torch.Tensor:
    """`spmm` without checks and without autograd, for layers that write their own backward pass."""
    if not _kernels.supports(x):
        return _spmm_reference(relation, x, left, right, alpha, z, beta, rows)
    num_rows = relation.num_dst if rows is None else len(rows)
    z = None if z is None else z.contiguous()
    return _kernels.spmm(
        num_rows, relation.indptr, relation.indices, x.contiguous(), rows, None, left, right, alpha, z, beta
    )


def _spmm_reference(relation, x, left, right, alpha, z, beta, rows):  # type: ignore[no-untyped-def]
    if right is not None:
        x = x * right[:, None]
    if rows is None:
        shape = (relation.num_dst, relation.num_src)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # torch says so once per process
            ones = x.new_ones(relation.num_edges)
            y = torch.sparse_csr_tensor(relation.indptr, relation.indices.long(), ones, shape, check_invariants=False) @ x
    else:
        degree = relation.indptr[rows + 1] - relation.indptr[rows]
        target = torch.repeat_interleave(torch.arange(len(rows), device=x.device), degree)
        offset = torch.arange(len(target), device=x.device) - (degree.cumsum(0) - degree)[target]
        source = relation.indices[relation.indptr[rows][target] + offset]
        y = x.new_zeros(len(rows), x.shape[1]).index_add_(0, target, x[source])
    if left is not None:
        y = y * (left if rows is None else left[rows])[:, None]
    y = alpha * y
    return y if z is None else y + beta * z


def _check_spmm(relation, x, left, right, z, rows) -> None:  # type: ignore[no-untyped-def]
    if x.ndim != 2 or x.shape[0] != relation.num_src:
        raise ValueError(f"spmm: x must be (num_src = {relation.num_src}, D), got {tuple(x.shape)}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"spmm: x must be floating point, got {x.dtype}")
    num_rows = relation.num_dst if rows is None else len(rows)
    for name, value, shape in (
        ("left", left, (relation.num_dst,)),
        ("right", right, (relation.num_src,)),
        ("z", z, (num_rows, x.shape[1])),
    ):
        if value is not None and (tuple(value.shape) != shape or value.dtype != x.dtype):
            raise ValueError(f"spmm: {name} must be {x.dtype} {shape}, got {value.dtype} {tuple(value.shape)}")
    if rows is not None and len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= relation.num_dst):
        raise ValueError(f"spmm: rows must be in 0..{relation.num_dst - 1}, got {int(rows.min())}..{int(rows.max())}")
