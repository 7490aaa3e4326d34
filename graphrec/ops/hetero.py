"""Message passing over many relations at once: the layers of heterogeneous graphs.

U rows of a destination type, I rows of a source type, R relations into a type, D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops.index import check_constant, check_numbers, check_shaped, check_tensor
from graphrec.ops.registration import register
from graphrec.ops.relation import Relation, check_unweighted
from graphrec.ops.spmm import product, scale_dtype


def hetero_spmm(
    relations: Sequence[tuple[Relation, str, str]],
    x: Mapping[str, Tensor],
    left: Sequence[Tensor | None] | None = None,
    right: Sequence[Tensor | None] | None = None,
    alpha: float = 1.0,
    combine: Literal["sum", "stack"] = "sum",
) -> dict[str, Tensor]:
    """Carry features along many relations in one launch.

    Y_r = α · diag(left_r) · A_r · diag(right_r) · X[source type of r] for the relations r.
    "sum" adds the Y_r of each destination type, as R-GCN and most hetero layers do, with nothing written in between;
    "stack" keeps them apart, for layers that weigh relations against each other (HAN). Differentiable in the features, any
    number of times, the backward pass being the same operator on the transposes. `relation.scale_dst(-1)` as left_r gives the
    neighbours' mean. Moves about E·(4 + D·b) bytes for each relation and U·D·b for each output, b-byte values; a right_r adds
    s·E for s-byte scales.

    **Source**: Schlichtkrull et al. 2018, "Modeling Relational Data with Graph Convolutional Networks", arXiv 1703.06103,
    equation 2 without its weight matrices, which the caller applies to x or to the stacked results.

    Args:
        relations: (A_r, source type, destination type); A_r is (U, I), without weights.
        x: by node type, every source type at least, float32, float64 or bfloat16 (I, D); all of one D, dtype and device.
        left, right: for each relation (U,) and (I,), constants, or None for ones; float64 where x is, else float32.
        alpha: factor of everything.
        combine: "sum" or "stack".

    Returns:
        By destination type, in order of appearance: (U, D), or (U, R, D) with "stack", r in the order of `relations`.

    Raises:
        ValueError: a type has no features, a relation has weights, a scale or alpha requires a gradient, alpha is not finite, or a
            shape, dtype or `combine` does not fit; the message names it.
    """
    if combine not in ("sum", "stack"):
        raise ValueError(f'hetero_spmm: combine must be "sum" or "stack", got {combine!r}')
    left, right = (([None] * len(relations) if scales is None else list(scales)) for scales in (left, right))
    check_numbers("hetero_spmm", "multiply the features or the result by it", alpha=alpha)
    _check(relations, x, left, right)
    if not relations:
        return {}
    sources = list(dict.fromkeys(source for _, source, _ in relations))
    targets = list(dict.fromkeys(target for _, _, target in relations))
    ys = _HETERO_SPMM(
        [relation.indptr for relation, _, _ in relations],
        [relation.indices for relation, _, _ in relations],
        [relation.t_indptr for relation, _, _ in relations],
        [relation.t_indices for relation, _, _ in relations],
        [x[source] for source in sources],
        *(left, right),
        [sources.index(source) for _, source, _ in relations],
        [targets.index(target) for _, _, target in relations],
        *(alpha, combine == "stack"),
    )
    return dict(zip(targets, ys, strict=True))


def _compute(indptrs, indices, t_indptrs, t_indices, xs, left, right, sources, targets, alpha, stack):  # type: ignore[no-untyped-def]
    if _kernels.kind(xs[0]) is None or not xs[0].shape[1]:
        return _hetero_spmm_reference(indptrs, indices, xs, left, right, sources, targets, alpha, stack)
    ys = _fake(indptrs, indices, t_indptrs, t_indices, xs, left, right, sources, targets, alpha, stack)
    xs = [x.contiguous() for x in xs]
    scales = [[None if scale is None else scale.contiguous() for scale in side] for side in (left, right)]
    dim, size = xs[0].shape[1], xs[0].element_size()
    parts, total_rows, taken = [], 0, [0] * len(ys)

    def address(tensor: Tensor | None) -> int:
        return 0 if tensor is None else _kernels.address("hetero_spmm", tensor, xs[0].device)

    for r in sorted(range(len(indptrs)), key=targets.__getitem__):  # a stable sort: parts with one y stay in order
        y, place = ys[targets[r]], taken[targets[r]]
        taken[targets[r]] += 1
        if not len(y):
            continue
        total_rows += len(y) if stack or not place else 0
        parts.append(
            [len(y), *map(address, (indptrs[r], indices[r], xs[sources[r]], scales[0][r], scales[1][r]))]
            + [address(y) + (place * dim * size if stack else 0), y.stride(0)]
        )
    if parts:
        table = torch.tensor(parts, dtype=torch.int64).to(xs[0].device)
        dtype = _kernels.DTYPES[xs[0].dtype]
        _kernels.call("hetero_spmm", xs[0], dtype, len(parts), total_rows, dim, table, float(alpha))
    return ys


def _fake(indptrs, indices, t_indptrs, t_indices, xs, left, right, sources, targets, alpha, stack):  # type: ignore[no-untyped-def]
    ys = []
    for target in range(max(targets) + 1):
        first, count = targets.index(target), targets.count(target)
        shape = (count, xs[0].shape[1]) if stack else (xs[0].shape[1],)
        ys.append(xs[0].new_empty(len(indptrs[first]) - 1, *shape))
    return ys


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    indptrs, indices, t_indptrs, t_indices, _, left, right, *ctx.scalars = inputs
    ctx.num_relations = len(indptrs)
    ctx.save_for_backward(*indptrs, *indices, *t_indptrs, *t_indices, *left, *right)


def _backward(ctx, gradients):  # type: ignore[no-untyped-def]
    count, saved = ctx.num_relations, ctx.saved_tensors
    indptrs, indices, t_indptrs, t_indices, left, right = (list(saved[k * count : (k + 1) * count]) for k in range(6))
    sources, targets, alpha, stack = ctx.scalars
    if stack:
        taken = [0] * len(gradients)
        columns = []
        for target in targets:
            columns.append(gradients[target][:, taken[target]])
            taken[target] += 1
        gradients, targets = columns, list(range(count))
    # Transposes: rows and scales change places, and a source type sums over the relations that read it.
    xs = _HETERO_SPMM(
        t_indptrs, t_indices, indptrs, indices, gradients, right, left, targets, sources, alpha, False
    )
    # torch wants a list where it took one apart, which it does only with lists that hold nothing but tensors.
    index = [[None] * count] * 4
    scales = (None if any(scale is None for scale in side) else [None] * count for side in (left, right))
    return (*index, xs, *scales, None, None, None, None)


_HETERO_SPMM = register(
    "hetero_spmm(Tensor[] indptrs, Tensor[] indices, Tensor[] t_indptrs, Tensor[] t_indices, Tensor[] xs, Tensor?[] left, "
    "Tensor?[] right, int[] sources, int[] targets, float alpha, bool stack) -> Tensor[]",
    _compute,
    _fake,
    _setup_context,
    _backward,
)


def _hetero_spmm_reference(indptrs, indices, xs, left, right, sources, targets, alpha, stack):  # type: ignore[no-untyped-def]
    parts: list[list[Tensor]] = [[] for _ in range(max(targets) + 1)]
    wide = scale_dtype(xs[0])
    for r, target in enumerate(targets):
        y, _ = product(indptrs[r], indices[r], xs[sources[r]].to(wide), left[r], right[r], alpha)
        parts[target].append(y)
    combined = [torch.stack(ys, 1) if stack else torch.stack(ys).sum(0) for ys in parts]
    return [y.to(xs[0].dtype) for y in combined]


def _check(relations, x, left, right) -> None:  # type: ignore[no-untyped-def]
    if len(left) != len(relations) or len(right) != len(relations):
        raise ValueError(
            f"hetero_spmm: left and right must hold one entry for each of the {len(relations)} relations, "
            f"got {len(left)} and {len(right)}"
        )
    rows: dict[str, int] = {}
    like = None
    for (relation, source, target), scale_left, scale_right in zip(relations, left, right, strict=True):
        check_unweighted(f"hetero_spmm, {source!r} to {target!r}", relation)
        check_constant("hetero_spmm", "scale the features or the result by it", left=scale_left, right=scale_right)
        if source not in x:
            raise ValueError(f"hetero_spmm: x has no {source!r}, a source type; it has {sorted(x)}")
        features = x[source]
        check_tensor("hetero_spmm", f"x[{source!r}]", features)
        like = features if like is None else like
        if features.ndim != 2 or features.shape[0] != relation.num_src or not features.dtype.is_floating_point:
            raise ValueError(
                f"hetero_spmm: x[{source!r}] must be floating point (num_src = {relation.num_src}, D), "
                f"got {features.dtype} {tuple(features.shape)}"
            )
        if features.shape[1] != like.shape[1] or features.dtype != like.dtype:
            raise ValueError(
                f"hetero_spmm: all features must agree in D and dtype, got {like.dtype} {tuple(like.shape)} and "
                f"{features.dtype} {tuple(features.shape)} for {source!r}"
            )
        if rows.setdefault(target, relation.num_dst) != relation.num_dst:
            raise ValueError(
                f"hetero_spmm: relations into {target!r} must agree in num_dst, got {rows[target]} and {relation.num_dst}"
            )
        for name, scale, size in (("left", scale_left, relation.num_dst), ("right", scale_right, relation.num_src)):
            if scale is not None:
                check_shaped("hetero_spmm", f"{name} of {source!r} to {target!r}", scale, (size,), scale_dtype(like))
