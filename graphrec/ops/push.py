"""Signals pushed from the rows of a `Relation` to its columns, where most of a signal is zero: histories, seeds of a walk.

U rows, I columns, E edges, B signals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import check_constant, check_numbers, check_shaped, check_tensor
from graphrec.ops.registration import register
from graphrec.ops.relation import Relation, check_unweighted
from graphrec.ops.spmm import contiguous, edges_of_rows


def push(relation: Relation, x: Tensor, left: Tensor | None = None, right: Tensor | None = None, alpha: float = 1.0) -> Tensor:
    """Push signals over the edges: Y = α · X · diag(left) · A · diag(right), A holding ones.

    The same as α · `spmm` of the transpose on X^T, but it walks the edges of X's non-zero entries alone, so it is the quicker one
    by far where a signal reaches a small part of the graph. Differentiable in X, any number of times. Moves about B·(U + 2·I)·b bytes for b-byte
    values, and 4 + 2·b for each edge of a non-zero entry.

    Args:
        relation: A, (U, I), without weights.
        x: float32 or float64 (B, U).
        left, right: (U,) and (I,), dtype as x, constants, or None for ones.
        alpha: factor.

    Returns:
        (B, I), dtype as x.

    Raises:
        ValueError: a shape or dtype does not fit, the relation has weights, alpha is not finite, or a scale or alpha requires a
            gradient; the message names it.
    """
    check_unweighted("push", relation)
    check_tensor("push", "x", x)
    check_constant("push", "scale x or the result by it", left=left, right=right)
    check_numbers("push", "multiply x or the result by it", alpha=alpha)
    if x.ndim != 2 or x.shape[1] != relation.num_dst:
        raise ValueError(f"push: x must be (B, num_dst = {relation.num_dst}), got {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"push: x must be float32 or float64, got {x.dtype}")
    for name, value, size in (("left", left, relation.num_dst), ("right", right, relation.num_src)):
        if value is not None:
            check_shaped("push", name, value, (size,), x.dtype)
    index = relation.indptr, relation.indices, relation.t_indptr, relation.t_indices
    return _PUSH(*index, x, left, right, float(alpha))


def _compute(indptr, indices, t_indptr, t_indices, x, left, right, alpha):  # type: ignore[no-untyped-def]
    num_columns = len(t_indptr) - 1
    if _kernels.kind(x) is None:
        return _push_reference(indptr, indices, x, left, right, alpha, num_columns)
    x, y = x.contiguous(), x.new_empty(x.shape[0], num_columns)
    if y.numel():
        scales = contiguous(left), contiguous(right)
        _kernels.call("push", x, _kernels.DTYPES[x.dtype], *x.shape, num_columns, indptr, indices, x, *scales, alpha, y)
    return y


def _push_reference(indptr, indices, x, left, right, alpha, num_columns):  # type: ignore[no-untyped-def]
    signal, row = x.nonzero(as_tuple=True)
    entry, edge = edges_of_rows(indptr, row)
    value = x[signal, row] if left is None else x[signal, row] * left[row]
    target = signal[entry] * num_columns + indices[edge].long()
    y = x.new_zeros(x.shape[0] * num_columns).index_add_(0, target, value[entry]).view(-1, num_columns)
    return alpha * y if right is None else alpha * right * y


def _fake(indptr, indices, t_indptr, t_indices, x, left, right, alpha):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], len(t_indptr) - 1)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *index, _, left, right, ctx.alpha = inputs
    ctx.save_for_backward(*index, left, right)


def _backward(ctx, gradient):  # type: ignore[no-untyped-def]
    *index, left, right = ctx.saved_tensors
    columns = gradient.T  # as the features of the columns, whose product with A goes back to the rows
    back, _ = torch.ops.graphrec.spmm(*index, None, columns, None, left, right, ctx.alpha, None, 1.0, None, False)
    return (*[None] * 4, back.T, None, None, None)


_PUSH = register(
    "push(Tensor indptr, Tensor indices, Tensor t_indptr, Tensor t_indices, Tensor x, Tensor? left, Tensor? right, float alpha) "
    "-> Tensor",
    _compute,
    _fake,
    _setup_context,
    _backward,
)
