"""Dot products along the edges of a `Relation`: scores of pairs, and the edge-weight gradient of `spmm`.

U rows (destinations), I columns (sources), E edges, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import check_tensor
from graphrec.ops.registration import register
from graphrec.ops.relation import Relation
from graphrec.ops.spmm import contiguous, edges_of_rows, scale_dtype


def sddmm(relation: Relation, dst_x: Tensor, src_x: Tensor) -> Tensor:
    """Score every edge by the dot product of its ends: out[e] = Σ_d dst_x[row(e), d] · src_x[column(e), d].

    Differentiable in both, any number of times; the gradients are `spmm` with the edge gradients as weights. Moves about
    E·(4 + D·b + 4) + U·D·b bytes for b-byte values.

    Args:
        relation: (U, I), of which only the pairs count: weights that it has do not enter the scores.
        dst_x: float32, float64 or bfloat16 (U, D).
        src_x: (I, D), same dtype.

    Returns:
        (E,) in the order of `relation.indices`; float64 for float64, else float32.

    Raises:
        ValueError: a shape or dtype does not fit.
    """
    for name, value, size in (("dst_x", dst_x, relation.num_dst), ("src_x", src_x, relation.num_src)):
        check_tensor("sddmm", name, value)
        if value.ndim != 2 or value.shape[0] != size or not value.dtype.is_floating_point:
            raise ValueError(f"sddmm: {name} must be floating point ({size}, D), got {value.dtype} {tuple(value.shape)}")
    if dst_x.shape[1] != src_x.shape[1] or dst_x.dtype != src_x.dtype:
        raise ValueError(
            f"sddmm: dst_x and src_x must agree in D and dtype, got {dst_x.dtype} {tuple(dst_x.shape)} and "
            f"{src_x.dtype} {tuple(src_x.shape)}"
        )
    index = relation.indptr, relation.indices, relation.t_indptr, relation.t_indices, relation.t_edges
    return _SDDMM(*index, dst_x, src_x, None, None, 1.0, None, None)


def sddmm_forward(
    indptr: Tensor,
    indices: Tensor,
    a: Tensor,
    b: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    alpha: float = 1.0,
    rows: Tensor | None = None,
    argmax: Tensor | None = None,
) -> Tensor:
    """α · left[R] · right[c] · <a[r], b[c]> for the edges (R, c) of the restricted rows, 0 for all others; no autograd.

    Args:
        a: (U, D), or (B, D) with `rows`; b: (I, D). left, right, alpha, rows: as in `spmm`.
        argmax: int64, shape of a: count a column only where it names the edge; the edge-weight gradient of a max.

    Returns:
        (E,) in the scale dtype.
    """
    if _kernels.kind(a) is None:
        return _sddmm_reference(indptr, indices, a, b, left, right, alpha, rows, argmax)
    a, b, left, right, rows = map(contiguous, (a, b, left, right, rows))
    make = torch.empty if rows is None else torch.zeros
    out = make(len(indices), dtype=scale_dtype(a), device=a.device)
    if a.numel() and len(indices):
        _kernels.call(
            *("sddmm", a, _kernels.DTYPES[a.dtype], len(a), a.shape[1], indptr, indices, rows, a, b, left, right),
            *(float(alpha), argmax, out),
        )
    return out if a.shape[1] else out.zero_()


def _sddmm_reference(indptr, indices, a, b, left, right, alpha, rows, argmax):  # type: ignore[no-untyped-def]
    target, edge = edges_of_rows(indptr, rows)
    column = indices[edge].long()
    wide = scale_dtype(a)
    product = a[target].to(wide) * b[column].to(wide)
    if argmax is not None:
        product = torch.where(argmax[target] == edge[:, None], product, 0.0)
    value = alpha * product.sum(1)
    if left is not None:
        value = value * left[target if rows is None else rows[target]]
    if right is not None:
        value = value * right[column]
    return torch.zeros(len(indices), dtype=wide, device=a.device).index_copy_(0, edge, value)


def _compute(indptr, indices, t_indptr, t_indices, t_edges, a, b, left, right, alpha, rows, argmax):  # type: ignore[no-untyped-def]
    return sddmm_forward(indptr, indices, a, b, left, right, alpha, rows, argmax)


def _fake(indptr, indices, t_indptr, t_indices, t_edges, a, *_):  # type: ignore[no-untyped-def]
    return torch.empty(len(indices), dtype=scale_dtype(a), device=a.device)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.alpha, rows, argmax = inputs
    ctx.maximum = argmax is not None
    ctx.save_for_backward(*tensors, rows)


def _backward(ctx, gradient):  # type: ignore[no-untyped-def]
    if ctx.maximum:
        raise RuntimeError("sddmm: with argmax it is the gradient of a maximum, which is differentiable once")
    *index, a, b, left, right, rows = ctx.saved_tensors
    a_gradient = b_gradient = None  # each is a product with the edge gradients as weights
    if ctx.needs_input_grad[5]:
        a_gradient, _ = torch.ops.graphrec.spmm(*index, b, gradient, left, right, ctx.alpha, None, 1.0, rows, False)
    if ctx.needs_input_grad[6]:
        b_gradient = torch.ops.graphrec.spmm_transpose(*index, a, gradient, left, right, ctx.alpha, rows)
    return (*[None] * 5, a_gradient, b_gradient, *[None] * 5)


_SDDMM = register(
    "sddmm(Tensor indptr, Tensor indices, Tensor t_indptr, Tensor t_indices, Tensor? t_edges, Tensor a, Tensor b, Tensor? left, "
    "Tensor? right, float alpha, Tensor? rows, Tensor? argmax) -> Tensor",
    _compute,
    _fake,
    _setup_context,
    _backward,
)
