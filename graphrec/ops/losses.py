"""Losses on compact encoded rows, scores included: no score matrix and no gathered rows are kept for the backward pass.

u user rows, i item rows, D embedding, B pairs, n negatives of a pair, M negatives of a batch, H hits. Sums are kept in float32
at least. Losses and gradients are summed in a fixed order, so a rerun gives the same bits; the softmax's matrix products are the
BLAS library's, whose sums may depend on the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from graphrec import _kernels
from graphrec.ops.index import bounds_of, check_constant, check_numbers, check_shaped, check_tensor
from graphrec.ops.once import once_differentiable
from graphrec.ops.registration import register
from graphrec.ops.spmm import product, scale_dtype

_TILE = 1 << 19  # scores in one tile: 2 MB, which stays in a core's second cache or close to it
_SUMMED = 1 << 12  # values that are added up at once: torch divides longer sums among its threads


def bpr(user_x: Tensor, item_x: Tensor, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Bayesian personalised ranking: L = mean over (b, j) of softplus(s(b, j) - s(b)), s the inner products. An empty batch
    gives 0. Moves about B·(2 + n)·(D·b + 8) bytes for b-byte values, and its backward pass 2·B·(1 + n)·(D·b + 8) + (u + i)·D·b.

    Args:
        user_x: float32, float64 or bfloat16 (u, D).
        item_x: (i, D), same dtype.
        users, positives: int64 (B,), rows of the two.
        negatives: int64 (B, n), rows of `item_x`.

    Returns:
        A scalar, float64 for float64, else float32; differentiable in both tables, once.

    Raises:
        ValueError: a shape, dtype or index does not fit.
        RuntimeError: a gradient is differentiated again.

    Source: Rendle et al. 2009, arXiv:1205.2618, section 4.1.
    """
    _check_tables("bpr", user_x, item_x)
    check_tensor("bpr", "negatives", negatives)
    if negatives.ndim != 2 or len(negatives) != len(users) or negatives.shape[1] < 1:
        raise ValueError(f"bpr: negatives must be (B = {len(users)}, n >= 1), got {tuple(negatives.shape)}")
    _check_rows("bpr", user_x, item_x, users, positives, negatives)
    return _BPR(user_x, item_x, users, positives, negatives)[0]


def sampled_softmax(
    user_x: Tensor,
    item_x: Tensor,
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_weight: Tensor,
    hits: Tensor,
    temperature: float,
) -> Tensor:
    """Softmax of each positive against the negatives of the batch.

    L = mean over b of log(exp(s(b) / t) + Σ_j exp(s(b, j) / t + log_weight[j])) - s(b) / t, s the inner products and j the
    negatives that are no hit of b. A row whose negatives are all hits counts zero, and an empty batch gives 0. The gradients
    are computed in the forward pass, tile by tile, while a tile's probabilities are at hand; the backward pass only scales them.
    Moves about 2·(2·B + M)·D·b bytes for b-byte values, and with gradients twice that and 2·(u + i)·D·b; the scores stay in the
    cache or, on a GPU, in registers. Does 2·B·M·D floating-point operations, and with gradients 6·B·M·D at least.

    Args:
        user_x, item_x, users, positives: as in `bpr`.
        negatives: int64 (M,), rows of `item_x`.
        log_weight: (M,), float64 for float64 tables, else float32; a constant.
        hits: int64 (2, H), pairs (position in the batch, position in `negatives`) in ascending order, that are left out.
        temperature: finite and above 0; a constant.

    Returns:
        A scalar, float64 for float64, else float32; differentiable in both tables, once.

    Raises:
        ValueError: a shape, dtype, index or the temperature does not fit, or a constant requires a gradient.
        RuntimeError: a gradient is differentiated again.

    Source: Wu et al. 2022, arXiv:2201.02327.
    """
    _check_tables("sampled_softmax", user_x, item_x)
    check_tensor("sampled_softmax", "negatives", negatives)
    if negatives.ndim != 1:
        raise ValueError(f"sampled_softmax: negatives must be (M,), got {tuple(negatives.shape)}")
    mend = "write the loss of torch operations to learn it"
    check_constant("sampled_softmax", mend, log_weight=log_weight)
    check_shaped("sampled_softmax", "log_weight", log_weight, tuple(negatives.shape), scale_dtype(user_x))
    check_numbers("sampled_softmax", mend, temperature=temperature)
    if not temperature > 0:
        raise ValueError(f"sampled_softmax: temperature must be above 0, got {temperature}")
    _check_rows("sampled_softmax", user_x, item_x, users, positives, negatives)
    indptr, columns = _hit_rows(hits, len(users), len(negatives))
    needs_gradient = torch.is_grad_enabled() and (user_x.requires_grad or item_x.requires_grad)
    return _SOFTMAX(
        *(user_x, item_x, users, positives, negatives, log_weight.contiguous(), indptr, columns),
        *(temperature, needs_gradient),
    )[0]


def group(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Group entries by their value: indptr int64 (size + 1,) and the entries of each value in order, int64 (n,)."""
    if index.device.type != "cpu":
        return _group_without_waiting(index, size)
    return pad(torch.bincount(index, minlength=size).cumsum(0), (1, 0)), torch.argsort(index, stable=True)


def _group_without_waiting(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """`group` for a GPU, where bincount waits for the device twice."""
    values, order = index.sort(stable=True)
    return torch.searchsorted(values, torch.arange(size + 1, device=index.device)), order


def sum_by_index(values: Tensor, index: Tensor, size: int) -> Tensor:
    """out[r] = Σ of values[k] over the k with index[k] = r, in order: (n, D) and int64 (n,) to (size, D)."""
    indptr, order = group(index, size)
    return product(indptr, order.int(), values)[0]


def _sum(values: Tensor) -> Tensor:
    """The sum of a vector, in an order that does not depend on the number of threads."""
    while len(values) > _SUMMED:
        values = pad(values, (0, -len(values) % _SUMMED)).view(-1, _SUMMED).sum(1)
    return values.sum()


def _bpr(user_x, item_x, users, positives, negatives):  # type: ignore[no-untyped-def]
    user_x, item_x, negatives = user_x.contiguous(), item_x.contiguous(), negatives.contiguous()
    if _kernels.kind(user_x) is None:
        losses, slopes = _bpr_reference(user_x, item_x, users, positives, negatives)
    else:
        losses = torch.empty(len(users), dtype=scale_dtype(user_x), device=user_x.device)
        slopes = losses.new_empty(negatives.shape)
        if losses.numel():
            _kernels.call(
                *("bpr", user_x, _kernels.DTYPES[user_x.dtype], *negatives.shape, user_x.shape[1], user_x, item_x),
                *(users.contiguous(), positives.contiguous(), negatives, losses, slopes),
            )
    return _sum(losses) / max(1, negatives.numel()), slopes


def _bpr_fake(user_x, item_x, users, positives, negatives):  # type: ignore[no-untyped-def]
    slopes = torch.empty(negatives.shape, dtype=scale_dtype(user_x), device=user_x.device)
    return slopes.new_empty(()), slopes


def _bpr_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs, output[1])


@once_differentiable("bpr")
def _bpr_backward(ctx, gradient, _):  # type: ignore[no-untyped-def]
    return (*_BPR_BACKWARD(*ctx.saved_tensors, gradient), None, None, None)


def _bpr_gradients(user_x, item_x, users, positives, negatives, slopes, gradient):  # type: ignore[no-untyped-def]
    if _kernels.kind(user_x) is None:
        return _bpr_gradients_reference(user_x, item_x, users, positives, negatives, slopes, gradient)
    user_x, item_x = user_x.contiguous(), item_x.contiguous()
    out = user_x.new_empty(user_x.shape), item_x.new_empty(item_x.shape)
    if not negatives.numel():
        return out[0].zero_(), out[1].zero_()
    by_user = group(users, len(user_x))
    by_item = group(torch.cat([positives, negatives.reshape(-1)]), len(item_x))
    _kernels.call(
        *("bpr_backward", user_x, _kernels.DTYPES[user_x.dtype], len(user_x), len(item_x), *negatives.shape, user_x.shape[1]),
        *(user_x, item_x, users.contiguous(), positives.contiguous(), negatives.contiguous(), slopes.contiguous()),
        *(gradient.reshape(1).contiguous(), 1.0 / negatives.numel(), *by_user, *by_item, *out),
    )
    return out


def _bpr_reference(user_x, item_x, users, positives, negatives):  # type: ignore[no-untyped-def]
    wide = scale_dtype(user_x)
    user = user_x[users].to(wide)
    positive = (user * item_x[positives].to(wide)).sum(-1)
    excess = torch.einsum("bd,bnd->bn", user, item_x[negatives].to(wide)) - positive[:, None]
    return softplus(excess).sum(1), excess.sigmoid()


def _bpr_gradients_reference(user_x, item_x, users, positives, negatives, slopes, gradient):  # type: ignore[no-untyped-def]
    weight = slopes * (gradient / max(1, negatives.numel()))
    wide = weight.dtype
    user, positive, negative = user_x[users].to(wide), item_x[positives].to(wide), item_x[negatives].to(wide)
    total = weight.sum(1, keepdim=True)
    pair = torch.einsum("bn,bnd->bd", weight, negative) - total * positive
    entries = torch.cat([-total * user, (weight[:, :, None] * user[:, None]).flatten(0, 1)])
    item_gradient = entries.new_zeros(item_x.shape).index_add_(0, torch.cat([positives, negatives.reshape(-1)]), entries)
    return pair.new_zeros(user_x.shape).index_add_(0, users, pair).to(user_x.dtype), item_gradient.to(item_x.dtype)


def _softmax(user_x, item_x, users, positives, negatives, log_weight, indptr, hits, temperature, with_gradient):  # type: ignore[no-untyped-def]
    """The loss, and where wanted its gradients by the two tables, else two empty tensors."""
    arguments = user_x.contiguous(), item_x.contiguous(), users, positives, negatives, log_weight, indptr, hits, temperature
    ways = {"cpu": _softmax_in_tiles, "cuda": _softmax_on_gpu, None: _softmax_reference}
    losses, pair, positive, negative = ways[_kernels.kind(user_x)](*arguments, with_gradient)
    loss = _sum(losses) / max(1, len(users))
    if not with_gradient:
        return loss, user_x.new_empty(0), item_x.new_empty(0)
    item_gradient = sum_by_index(torch.cat([positive, negative]), torch.cat([positives, negatives]), len(item_x))
    return loss, sum_by_index(pair, users, len(user_x)), item_gradient


def _softmax_in_tiles(user_x, item_x, users, positives, negatives, log_weight, indptr, hits, temperature, with_gradient):  # type: ignore[no-untyped-def]
    """Losses (B,), and gradients of their mean by each pair's user, each positive and each negative, or None."""
    wide, batch = scale_dtype(user_x), len(users)
    user, positive, negative = user_x[users], item_x[positives], item_x[negatives]
    score = (user.to(wide) * positive.to(wide)).sum(1) / temperature
    total = torch.empty_like(score)
    pair = torch.empty_like(user, dtype=wide) if with_gradient else None
    negative_gradient = torch.zeros_like(negative, dtype=wide) if with_gradient else None
    step = max(1, min(batch, _TILE // max(1, len(negatives))))
    for first in range(0, batch, step):
        rows = slice(first, min(first + step, batch))
        tile = (user[rows] @ negative.T).to(wide)  # (step, M)
        total[rows] = _softmax_rows(tile, log_weight, indptr[rows.start : rows.stop + 1], hits, temperature)
        if with_gradient:
            slope = (total[rows] - score[rows]).sigmoid_().div_(temperature * batch)[:, None]
            tile = tile.to(user.dtype)
            torch.mul((tile @ negative).to(wide) - positive[rows], slope, out=pair[rows])
            scaled = user[rows] * slope
            if wide == user.dtype:
                negative_gradient.addmm_(tile.T, scaled)
            else:
                negative_gradient += tile.T @ scaled.to(user.dtype)
    losses = softplus(total - score)
    if not with_gradient:
        return losses, None, None, None
    slope = (total - score).sigmoid_().div_(temperature * batch)[:, None]
    return losses, pair.to(user.dtype), (user * -slope).to(user.dtype), negative_gradient.to(user.dtype)


def _softmax_rows(tile, log_weight, indptr, hits, temperature):  # type: ignore[no-untyped-def]
    """Turn scores into probabilities in place and return the rows' log sums; see softmax_tile in graphrec_operators.h."""
    total = tile.new_empty(len(tile))
    _kernels.call(
        *("softmax_tile", tile, _kernels.DTYPES[tile.dtype], *tile.shape, tile, log_weight, indptr.contiguous(), hits),
        *(float(temperature), total),
    )
    return total


def _softmax_on_gpu(user_x, item_x, users, positives, negatives, log_weight, indptr, hits, temperature, with_gradient):  # type: ignore[no-untyped-def]
    """As `_softmax_in_tiles`, by the CUDA operators that never write the scores."""
    shape = _kernels.DTYPES[user_x.dtype], len(users), len(negatives), user_x.shape[1]
    inputs = (user_x, item_x, users.contiguous(), positives.contiguous(), negatives.contiguous(), log_weight, indptr, hits)
    losses, total, slopes = (log_weight.new_empty(len(users)) for _ in range(3))
    if len(users):
        _kernels.call("sampled_softmax", user_x, *shape, *inputs, float(temperature), losses, total, slopes)
    if not with_gradient:
        return losses, None, None, None
    out = tuple(user_x.new_zeros(count, user_x.shape[1]) for count in (len(users), len(users), len(negatives)))
    if len(users):
        one, scale = losses.new_ones(1), 1.0 / len(users)
        _kernels.call(
            *("sampled_softmax_backward", user_x, *shape, *inputs, float(temperature), total, slopes, one, scale, *out)
        )
    return losses, *out


def _softmax_reference(user_x, item_x, users, positives, negatives, log_weight, indptr, hits, temperature, with_gradient):  # type: ignore[no-untyped-def]
    """As `_softmax_in_tiles`: the softmax of each positive's score before those of the negatives, a tile of pairs at a time."""
    wide, batch, count = scale_dtype(user_x), len(users), len(negatives)
    user, positive, negative = user_x[users].to(wide), item_x[positives].to(wide), item_x[negatives].to(wide)
    losses, slope = user.new_empty(batch), user.new_empty(batch, 1)
    pair, negative_gradient = torch.empty_like(user), torch.zeros_like(negative)
    step = max(1, min(batch, _TILE // max(1, count)))
    for first in range(0, batch, step):
        rows = slice(first, min(first + step, batch))
        bounds = indptr[rows.start : rows.stop + 1]
        scores = user.new_empty(rows.stop - rows.start, 1 + count)
        scores[:, 0] = (user[rows] * positive[rows]).sum(1) / temperature
        scores[:, 1:] = user[rows] @ negative.T / temperature + log_weight
        row = torch.repeat_interleave(torch.arange(len(scores), device=scores.device), bounds.diff())
        scores[row, 1 + hits[int(bounds[0]) : int(bounds[-1])].long()] = -torch.inf
        losses[rows] = softplus(torch.logsumexp(scores[:, 1:], 1) - scores[:, 0])
        if with_gradient:
            chances = scores.softmax(1)[:, 1:] / (temperature * batch)
            slope[rows] = chances.sum(1, keepdim=True)
            pair[rows] = chances @ negative - slope[rows] * positive[rows]
            negative_gradient += chances.T @ user[rows]
    if not with_gradient:
        return losses, None, None, None
    return losses, *(part.to(user_x.dtype) for part in (pair, user * -slope, negative_gradient))


def _softmax_fake(user_x, item_x, users, positives, negatives, log_weight, indptr, hits, temperature, with_gradient):  # type: ignore[no-untyped-def]
    loss = log_weight.new_empty(())
    if not with_gradient:
        return loss, user_x.new_empty(0), item_x.new_empty(0)
    return loss, user_x.new_empty(user_x.shape), item_x.new_empty(item_x.shape)


def _softmax_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*output[1:])


@once_differentiable("sampled_softmax")
def _softmax_backward(ctx, gradient, *_):  # type: ignore[no-untyped-def]
    user_gradient, item_gradient = ctx.saved_tensors
    wanted = zip(ctx.needs_input_grad, (user_gradient, item_gradient), strict=False)
    return (*(part * gradient.to(part.dtype) if needed else None for needed, part in wanted), *[None] * 8)


def _hit_rows(hits: Tensor, batch: int, num_negatives: int) -> tuple[Tensor, Tensor]:
    check_tensor("sampled_softmax", "hits", hits)
    if hits.ndim != 2 or len(hits) != 2 or hits.dtype != torch.int64:
        raise ValueError(f"sampled_softmax: hits must be int64 (2, H), got {hits.dtype} {tuple(hits.shape)}")
    rows, columns = hits
    if hits.shape[1]:
        keys = rows * num_negatives + columns
        wrong = (hits < 0).any(0) | (rows >= batch) | (columns >= num_negatives)
        wrong[1:] |= keys[1:] <= keys[:-1]
        if bool(wrong.any()):  # the one wait for the device
            at = int(wrong.nonzero()[0])
            before = f" after {tuple(hits[:, at - 1].tolist())}" if at else ""
            raise ValueError(
                f"sampled_softmax: hits must be distinct pairs below (B = {batch}, M = {num_negatives}) in ascending order, got "
                f"{tuple(hits[:, at].tolist())}{before}; hits.unique(dim=1) puts them in order"
            )
    return torch.searchsorted(rows.contiguous(), torch.arange(batch + 1, device=rows.device)), columns.int()


def _check_tables(function: str, user_x: Tensor, item_x: Tensor) -> None:
    check_tensor(function, "user_x", user_x)
    check_tensor(function, "item_x", item_x)
    if user_x.ndim != 2 or item_x.ndim != 2 or user_x.shape[1] != item_x.shape[1] or user_x.dtype != item_x.dtype:
        got = f"{user_x.dtype} {tuple(user_x.shape)} and {item_x.dtype} {tuple(item_x.shape)}"
        raise ValueError(f"{function}: user_x and item_x must be (u, D) and (i, D) of one dtype, got {got}")
    if not user_x.dtype.is_floating_point or user_x.shape[1] < 1:
        raise ValueError(f"{function}: tables must be floating point with D >= 1, got {user_x.dtype} {tuple(user_x.shape)}")


def _check_rows(function, user_x, item_x, users, positives, negatives) -> None:  # type: ignore[no-untyped-def]
    for name, index in {"users": users, "positives": positives, "negatives": negatives}.items():
        check_tensor(function, name, index)
    if users.ndim != 1 or positives.shape != users.shape:
        raise ValueError(
            f"{function}: users and positives must be (B,), got {tuple(users.shape)} and {tuple(positives.shape)}"
        )
    tables = {"users": (users, user_x), "positives": (positives, item_x), "negatives": (negatives, item_x)}
    for name, (index, _) in tables.items():
        if index.dtype != torch.int64:
            raise ValueError(f"{function}: {name} must be int64, got {index.dtype}")
    filled = {name: (index, len(table)) for name, (index, table) in tables.items() if index.numel()}
    if not filled:
        return
    bounds = bounds_of(*(index for index, _ in filled.values()))
    for (name, (_, size)), (low, high) in zip(filled.items(), bounds, strict=True):
        if low < 0 or high >= size:
            raise ValueError(f"{function}: {name} must be in 0..{size - 1}, got {low}..{high}")


_BPR = register(
    "bpr(Tensor user_x, Tensor item_x, Tensor users, Tensor positives, Tensor negatives) -> (Tensor, Tensor)",
    _bpr,
    _bpr_fake,
    _bpr_setup,
    _bpr_backward,
)
_BPR_BACKWARD = register(
    "bpr_backward(Tensor user_x, Tensor item_x, Tensor users, Tensor positives, Tensor negatives, Tensor slopes, "
    "Tensor gradient) -> (Tensor, Tensor)",
    _bpr_gradients,
    lambda user_x, item_x, *_: (user_x.new_empty(user_x.shape), item_x.new_empty(item_x.shape)),
)
_SOFTMAX = register(
    "sampled_softmax(Tensor user_x, Tensor item_x, Tensor users, Tensor positives, Tensor negatives, Tensor log_weight, "
    "Tensor hit_indptr, Tensor hits, float temperature, bool with_gradient) -> (Tensor, Tensor, Tensor)",
    _softmax,
    _softmax_fake,
    _softmax_setup,
    _softmax_backward,
)
