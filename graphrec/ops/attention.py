"""Multi-head attention over the edges of a `Relation`: the message passing of GAT and GATv2.

U rows (destinations), I columns (sources), E edges, H heads, F features of a head.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from graphrec import _kernels
from graphrec.ops.index import check_numbers, check_shaped, check_tensor, signed_seed
from graphrec.ops.once import once_differentiable
from graphrec.ops.philox import counters, philox, unit
from graphrec.ops.registration import register
from graphrec.ops.relation import Relation, check_unweighted
from graphrec.ops.spmm import contiguous, scale_dtype

_KINDS = {"gat": 1, "gatv2": 2}
_PARTIALS = 256  # partial sums of the attention vectors' gradient: fixed, so that the result does not depend on threads


def gat(
    relation: Relation,
    dst_score: Tensor,
    src_score: Tensor,
    src_x: Tensor,
    negative_slope: float = 0.2,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Average the neighbours' features with softmax weights of additive scores, head by head.

    s(e, h) = LeakyReLU(dst_score[r, h] + src_score[c, h]) for the edge e = (r, c);
    Y[r, h] = Σ_e keep(e, h) · softmax_e(s(e, h)) · src_x[c, h], and 0 for a row without edges. Differentiable in the
    scores and features, once. The softmax is made in one pass and recomputed in the backward pass, so nothing of the size of the
    edges is kept between them; the backward pass needs E · H work space. Moves about E·(4 + H·s + H·F·b) + U·H·F·b bytes
    for b-byte features and s-byte scores.

    **Source**: Veličković et al. 2018, "Graph Attention Networks", arXiv 1710.10903, equations 3 and 5. There a score
    is aᵀ [W x_r ‖ W x_c]; the two halves of a are applied by the caller. Dropout is theirs, on the normalised weights.

    Args:
        relation: (U, I), without weights.
        dst_score: (U, H), float64 where src_x is, else float32.
        src_score: (I, H), dtype as dst_score.
        src_x: float32, float64 or bfloat16 (I, H, F).
        negative_slope: LeakyReLU's factor below 0; a constant.
        dropout: chance in [0, 1) that an edge is left out of a head's average; the others are divided by 1 - dropout.
        seed: an integer, of which 64 bits count. keep(e, h) depends on the seed, the edge and the head only.

    Returns:
        (U, H, F) in src_x's dtype.

    Raises:
        ValueError: a shape, dtype or number does not fit, or the relation has weights; the message names it.
    """
    seed = _check("gat", relation, src_x, negative_slope, dropout, seed)
    wide = scale_dtype(src_x)
    check_shaped("gat", "dst_score", dst_score, (relation.num_dst, src_x.shape[1]), wide)
    check_shaped("gat", "src_score", src_score, (relation.num_src, src_x.shape[1]), wide)
    return _GAT(*_index(relation), dst_score, src_score, src_x, None, negative_slope, dropout, seed)[0]


def gatv2(
    relation: Relation,
    dst_x: Tensor,
    src_x: Tensor,
    attention: Tensor,
    negative_slope: float = 0.2,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Average the neighbours' features as `gat` does, with scores that look at both ends together.

    s(e, h) = Σ_f attention[h, f] · LeakyReLU(dst_x[r, h, f] + src_x[c, h, f]) for the edge e = (r, c).
    Differentiable in the features and the attention vectors, once; the backward pass is as that of `gat`. Moves about
    E·(4 + H·F·b) + 2·U·H·F·b bytes for b-byte features.

    **Source**: Brody et al. 2022, "How Attentive are Graph Attention Networks?", arXiv 2105.14491, equation 7.

    Args:
        relation: (U, I), without weights.
        dst_x: (U, H, F), dtype as src_x.
        src_x: float32, float64 or bfloat16 (I, H, F): both in the scores and what is averaged.
        attention: (H, F), dtype as src_x.
        negative_slope, dropout, seed: as in `gat`.

    Returns:
        (U, H, F) in src_x's dtype.

    Raises:
        ValueError: a shape, dtype or number does not fit, or the relation has weights; the message names it.
    """
    seed = _check("gatv2", relation, src_x, negative_slope, dropout, seed)
    check_shaped("gatv2", "dst_x", dst_x, (relation.num_dst, *src_x.shape[1:]), src_x.dtype)
    check_shaped("gatv2", "attention", attention, tuple(src_x.shape[1:]), src_x.dtype)
    return _GAT(*_index(relation), dst_x, None, src_x, attention, negative_slope, dropout, seed)[0]


def keep_factors(num_edges: int, heads: int, seed: int, dropout: float, device: torch.device | None = None) -> Tensor:
    """What dropout multiplies each edge and head with: 0, or 1 / (1 - dropout); float32 (E, H), equal on all devices.

    Entry (e, h) is drawn with the counter e · H + h: one of the four words of Philox-4x32 with 10 rounds.

    **Source**: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    blocks = counters(0, (num_edges * heads + 3) // 4)
    words = philox(seed, blocks, 0).T.reshape(-1)[: num_edges * heads]
    share = np.float32(dropout)
    keep = np.where(unit(words) < share, np.float32(0), np.float32(1) / (np.float32(1) - share))
    return torch.from_numpy(keep.reshape(num_edges, heads)).to(device)


def _index(relation: Relation) -> tuple[Tensor, ...]:
    return relation.indptr, relation.indices, relation.t_indptr, relation.t_indices, relation.t_edges


def _check(name: str, relation: Relation, src_x: Tensor, negative_slope: float, dropout: float, seed: int) -> int:
    """Check what both have; the seed as the operator takes it."""
    check_unweighted(name, relation)
    check_tensor(name, "src_x", src_x)
    if src_x.ndim != 3 or src_x.shape[0] != relation.num_src or not src_x.dtype.is_floating_point:
        raise ValueError(
            f"{name}: src_x must be floating point (num_src = {relation.num_src}, H, F), "
            f"got {src_x.dtype} {tuple(src_x.shape)}"
        )
    check_numbers(name, "write the attention of torch operations to learn it", negative_slope=negative_slope, dropout=dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout must be in [0, 1), got {dropout}")
    return signed_seed(name, seed)


def _compute(indptr, indices, t_indptr, t_indices, t_edges, dst, src_score, src_x, attention, slope, dropout, seed):  # type: ignore[no-untyped-def]
    if _kernels.kind(src_x) is None or not src_x[0:1].numel():
        return _gat_reference(indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed)
    dst, src_score, src_x, attention = map(contiguous, (dst, src_score, src_x, attention))
    y, lse = _fake(indptr, indices, t_indptr, t_indices, t_edges, dst, src_score, src_x, attention, slope, dropout, seed)
    if y.numel():
        _kernels.call(
            *("gat", src_x, _kernels.DTYPES[src_x.dtype], _kind(attention), *y.shape, indptr, indices),
            *(dst, src_score, src_x, attention, float(slope), float(dropout), seed, y, lse),
        )
    return y, lse


def _fake(indptr, indices, t_indptr, t_indices, t_edges, dst, src_score, src_x, attention, slope, dropout, seed):  # type: ignore[no-untyped-def]
    y = src_x.new_empty(len(indptr) - 1, *src_x.shape[1:])
    return y, torch.empty(y.shape[:2], dtype=scale_dtype(src_x), device=src_x.device)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.scalars = inputs[9:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:9], *output)


@once_differentiable("attention (gat, gatv2)")
def _backward(ctx, gradient, _):  # type: ignore[no-untyped-def]
    dst, scores, x, attention = _GAT_BACKWARD(*ctx.saved_tensors, gradient, *ctx.scalars)
    static = ctx.saved_tensors[8] is None
    return (*[None] * 5, dst, scores if static else None, x, None if static else attention, None, None, None)


def _compute_backward(
    indptr, indices, t_indptr, t_indices, t_edges, dst, src_score, src_x, attention, y, lse, gradient, slope, dropout, seed
):  # type: ignore[no-untyped-def]
    if _kernels.kind(src_x) is None or not y.numel() or not src_x.numel():
        return _gat_backward_reference(
            indptr, indices, dst, src_score, src_x, attention, y, lse, gradient, slope, dropout, seed
        )
    dst, src_score, src_x, attention, gradient = map(contiguous, (dst, src_score, src_x, attention, gradient))
    gradients = [torch.empty_like(x) for x in (dst, lse[:0] if src_score is None else src_score, src_x)]
    num_partials = 0 if attention is None else _PARTIALS
    partials = lse.new_empty(num_partials, *src_x.shape[1:])
    work = lse.new_empty(len(y), 3, src_x.shape[1]), lse.new_empty(len(indices), src_x.shape[1])
    _kernels.call(
        *("gat_backward", src_x, _kernels.DTYPES[src_x.dtype], _kind(attention), len(y), *src_x.shape),
        *(indptr, indices, t_indptr, t_indices, t_edges, dst, src_score, src_x, attention, float(slope), float(dropout)),
        *(seed, y, lse, gradient, gradients[0], None if src_score is None else gradients[1], gradients[2]),
        *(num_partials, None if attention is None else partials, *work),
    )
    return (*gradients, partials.sum(0).to(src_x.dtype) if num_partials else src_x.new_empty(0))


def _fake_backward(
    indptr, indices, t_indptr, t_indices, t_edges, dst, src_score, src_x, attention, y, lse, gradient, slope, dropout, seed
):  # type: ignore[no-untyped-def]
    score_gradient = lse.new_empty(0, lse.shape[1]) if src_score is None else src_score.new_empty(src_score.shape)
    attention_gradient = src_x.new_empty(0) if attention is None else attention.new_empty(attention.shape)
    return dst.new_empty(dst.shape), score_gradient, src_x.new_empty(src_x.shape), attention_gradient


def _kind(attention: Tensor | None) -> int:
    return _KINDS["gat" if attention is None else "gatv2"]


_INPUTS = (
    "Tensor indptr, Tensor indices, Tensor t_indptr, Tensor t_indices, Tensor t_edges, Tensor dst, Tensor? src_score, "
    "Tensor src_x, Tensor? attention, "
)
_SCALARS = "float slope, float dropout, int seed) -> (Tensor, Tensor"
_GAT_BACKWARD = register(
    f"gat_backward({_INPUTS}Tensor y, Tensor lse, Tensor gradient, {_SCALARS}, Tensor, Tensor)",
    _compute_backward,
    _fake_backward,
)
_GAT = register(f"gat({_INPUTS}{_SCALARS})", _compute, _fake, _setup_context, _backward)


def _edges_reference(indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed):  # type: ignore[no-untyped-def]
    """Per edge: its row and column, the sum under LeakyReLU, the score (E, H) and the dropout factor (E, H)."""
    row = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=indptr.device), indptr.diff())
    column = indices.long()
    wide = scale_dtype(src_x)
    sums = dst[row].to(wide) + (src_x if attention is not None else src_score)[column].to(wide)
    score = leaky_relu(sums, slope)
    if attention is not None:
        score = (attention.to(wide) * score).sum(-1)
    keep = score.new_ones(()) if not dropout else keep_factors(*score.shape, seed, dropout, score.device).to(wide)
    return row, column, sums, score, keep


def _gat_reference(indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed):  # type: ignore[no-untyped-def]
    row, column, _, score, keep = _edges_reference(indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed)
    shape = (len(indptr) - 1, src_x.shape[1])
    largest = score.new_full(shape, -torch.inf).scatter_reduce_(0, row[:, None].expand_as(score), score, "amax")
    weight = torch.exp(score - largest[row])
    total = score.new_zeros(shape).index_add_(0, row, weight)
    message = (keep * weight / total[row])[..., None] * src_x[column]
    y = score.new_zeros(*shape, src_x.shape[2]).index_add_(0, row, message.to(score.dtype))
    return y.to(src_x.dtype), largest + total.log()


def _gat_backward_reference(
    indptr, indices, dst, src_score, src_x, attention, y, lse, gradient, slope, dropout, seed
):  # type: ignore[no-untyped-def]
    row, column, sums, score, keep = _edges_reference(
        indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed
    )
    wide = score.dtype
    gradient, wide_x = gradient.to(wide), src_x.to(wide)
    weight = torch.exp(score - lse[row])
    delta = (gradient * y.to(wide)).sum(-1)
    by_score = weight * (keep * (gradient[row] * wide_x[column]).sum(-1) - delta[row])
    x_gradient = torch.zeros_like(wide_x).index_add_(0, column, (keep * weight)[..., None] * gradient[row])
    slopes = torch.full_like(sums, slope).masked_fill_(sums > 0, 1.0)
    if attention is None:
        by_sum = by_score * slopes
        score_gradient = torch.zeros_like(src_score).index_add_(0, column, by_sum)
        attention_gradient = src_x.new_empty(0)
    else:
        by_sum = by_score[..., None] * attention.to(wide) * slopes
        x_gradient.index_add_(0, column, by_sum)
        score_gradient = lse.new_empty(0, lse.shape[1])
        attention_gradient = (by_score[..., None] * leaky_relu(sums, slope)).sum(0).to(src_x.dtype)
    dst_gradient = torch.zeros_like(dst, dtype=wide).index_add_(0, row, by_sum).to(dst.dtype)
    return dst_gradient, score_gradient, x_gradient.to(src_x.dtype), attention_gradient
