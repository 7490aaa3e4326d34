"""Losses, top-k, samplers and Adam of the CUDA source, run on the host under several orders of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops import AliasTable, Relation, sample_negatives, sample_neighbors, topk_scores
from graphrec.ops.adam import _adam_reference, adam_step
from graphrec.ops.losses import group
from graphrec.ops.philox import philox, race

from .conftest import poisoned, tolerance, unaligned

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
DIMS = [1, 3, 31, 32, 33, 64, 65, 128]


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def tables(dim: int, dtype: torch.dtype, users: int = 37, items: int = 71) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(dim)
    draw = (torch.randn(count, dim, generator=generator, dtype=torch.float64) / dim**0.25 for count in (users, items))
    return tuple(x.to(dtype) for x in draw)  # type: ignore[return-value]


def pairs(batch: int, shape: tuple[int, ...], users: int = 35, items: int = 69) -> tuple[Tensor, Tensor, Tensor]:
    """Users, positives and negatives; the last rows of both tables are named by none."""
    generator = torch.Generator().manual_seed(batch)
    index = torch.randint(users, (batch,), generator=generator), torch.randint(items, (batch,), generator=generator)
    return *index, torch.randint(items, shape, generator=generator)


def compare(got: list[Tensor], wanted: list[Tensor], dtype: torch.dtype) -> None:
    for one, other in zip(got, wanted, strict=True):
        finite = other[other.isfinite()]
        size = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
        bound = (tolerance(dtype) if one.dtype == dtype else tolerance(wide(dtype)))["atol"]
        torch.testing.assert_close(one.double(), other, rtol=0, atol=4 * bound * size)


# Bayesian personalised ranking


def bpr_native(user_x: Tensor, item_x: Tensor, users: Tensor, positives: Tensor, negatives: Tensor) -> list[Tensor]:
    code, sums = _kernels.DTYPES[user_x.dtype], wide(user_x.dtype)
    shape, index = (*negatives.shape, user_x.shape[1]), (users, positives, negatives)
    losses, slopes = poisoned(len(users), dtype=sums), poisoned(*negatives.shape, dtype=sums)
    _kernels.call("bpr", user_x, code, *shape, user_x, item_x, *index, losses, slopes)
    out = poisoned(*user_x.shape, dtype=user_x.dtype), poisoned(*item_x.shape, dtype=item_x.dtype)
    orders = *group(users, len(user_x)), *group(torch.cat([positives, negatives.flatten()]), len(item_x))
    sizes = len(user_x), len(item_x), *shape
    scale = torch.full((1,), 0.5, dtype=sums)
    _kernels.call("bpr_backward", user_x, code, *sizes, user_x, item_x, *index, slopes, scale, 0.25, *orders, *out)
    return [losses, slopes, *out]


def bpr_expected(user_x: Tensor, item_x: Tensor, users: Tensor, positives: Tensor, negatives: Tensor) -> list[Tensor]:
    user_x, item_x = (x.double().requires_grad_() for x in (user_x, item_x))
    user = user_x[users]
    excess = torch.einsum("bd,bnd->bn", user, item_x[negatives]) - (user * item_x[positives]).sum(1, keepdim=True)
    losses = torch.nn.functional.softplus(excess).sum(1)
    gradients = torch.autograd.grad(losses.sum() * 0.125, (user_x, item_x))
    return [losses.detach(), excess.detach().sigmoid(), *gradients]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [*DIMS, 600])
@pytest.mark.parametrize("batch", [7, 43])
def test_bpr(emulated, dtype, dim, batch):
    """With more pairs than rows and with fewer, when most rows are set to zero only."""
    values = *tables(dim, dtype), *pairs(batch, (batch, 1 if dim % 2 else 6))
    got = emulated.run(lambda: bpr_native(*values))
    compare(got, bpr_expected(*values), dtype)
    assert not got[2][35:].any() and not got[3][69:].any(), "rows without pairs"


def test_bpr_of_a_hub_and_of_far_scores(emulated):
    user_x, item_x = tables(64, torch.float32)
    users, positives, negatives = pairs(400, (400, 3))
    values = unaligned(user_x * 30), unaligned(item_x), torch.zeros_like(users), torch.full_like(positives, 5), negatives
    compare(emulated.run(lambda: bpr_native(*values)), bpr_expected(*values), torch.float32)
    values = *tables(64, torch.float32, users=401, items=1700), *values[2:]
    compare(emulated.run(lambda: bpr_native(*values)), bpr_expected(*values), torch.float32)


# Sampled softmax


def softmax_native(user_x, item_x, users, positives, negatives, log_weight, hits, temperature):  # type: ignore[no-untyped-def]
    code, sums, dim = _kernels.DTYPES[user_x.dtype], wide(user_x.dtype), user_x.shape[1]
    hit_indptr, columns = group(hits[0], len(users))[0], hits[1].int()
    inputs = (code, len(users), len(negatives), dim, user_x, item_x, users, positives, negatives, log_weight, hit_indptr, columns)
    losses, total, slopes = (poisoned(len(users), dtype=sums) for _ in range(3))
    _kernels.call("sampled_softmax", user_x, *inputs, temperature, losses, total, slopes)
    out = [poisoned(count, dim, dtype=user_x.dtype) for count in (len(users), len(users), len(negatives))]
    scale = torch.full((1,), 0.5, dtype=sums)
    _kernels.call("sampled_softmax_backward", user_x, *inputs, temperature, total, slopes, scale, 0.25, *out)
    return [losses, total, slopes, *out]


def softmax_expected(user_x, item_x, users, positives, negatives, log_weight, hits, temperature):  # type: ignore[no-untyped-def]
    rows = [x.double().requires_grad_() for x in (user_x[users], item_x[positives], item_x[negatives])]
    logits = rows[0] @ rows[2].T / temperature + log_weight
    logits = logits.index_put(tuple(hits), torch.tensor(-torch.inf, dtype=torch.float64))
    full = torch.ones(len(users), dtype=torch.bool)
    if len(negatives):
        full = (logits == -torch.inf).all(1)
    total = torch.full((len(users),), -torch.inf, dtype=torch.float64)
    total = total.masked_scatter(~full, torch.logsumexp(logits[~full], 1))
    excess = total - (rows[0] * rows[1]).sum(1) / temperature
    losses = torch.nn.functional.softplus(excess)
    gradients = torch.autograd.grad(losses[~full].sum() * 0.125, rows, allow_unused=True)
    gradients = [torch.zeros_like(row) if g is None else g for g, row in zip(gradients, rows, strict=True)]
    return [losses.detach(), total.detach(), excess.detach().sigmoid(), *gradients]


def softmax_inputs(dim: int, dtype: torch.dtype, batch: int, count: int):  # type: ignore[no-untyped-def]
    users, positives, negatives = pairs(batch, (count,))
    generator = torch.Generator().manual_seed(count)
    left_out = torch.rand(batch, count, generator=generator) < 0.1
    left_out[batch // 2] = True  # every negative is a hit of this pair
    left_out[0] = False
    log_weight = torch.randn(count, generator=generator, dtype=torch.float64).to(wide(dtype))
    return *tables(dim, dtype), users, positives, negatives, log_weight, left_out.nonzero().T, 0.3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("dim", "batch", "count"), [(1, 1, 1), (3, 33, 130), (31, 5, 260), (32, 31, 127), (33, 40, 35),
                                                     (64, 129, 33), (65, 33, 40), (128, 32, 128)])  # fmt: skip
def test_sampled_softmax(emulated, dtype, dim, batch, count):
    values = softmax_inputs(dim, dtype, batch, count)
    got, wanted = emulated.run(lambda: softmax_native(*values)), softmax_expected(*values)
    full = batch // 2
    if batch > 1:
        assert got[0][full] == 0 and got[1][full] == -torch.inf and got[2][full] == 0 and not got[3][full].any()
    compare(got, wanted, dtype)


def test_sampled_softmax_without_negatives_and_of_far_scores(emulated):
    values = list(softmax_inputs(64, torch.float32, 33, 130))
    values[0] = values[0] * 100  # exponents in the thousands
    got = emulated.run(lambda: softmax_native(*values))
    assert not any(tensor.isnan().any() for tensor in got)
    torch.testing.assert_close(got[1].double(), softmax_expected(*values)[1], rtol=1e-5, atol=1e-2)
    nothing = torch.zeros(0, dtype=torch.int64)
    values[4], values[5], values[6] = nothing, nothing.float(), nothing.reshape(2, 0)
    got = emulated.run(lambda: softmax_native(*values))
    assert (got[1] == -torch.inf).all() and not got[0].any() and not got[3].any() and not got[4].any()


# Top-k


def topk_expected(scores: Tensor, k: int, seen: Relation | None, candidates: Tensor | None) -> tuple[Tensor, Tensor]:
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if seen is not None:
        scores[seen.rows, seen.indices.long()] = -torch.inf
    if candidates is not None:
        scores[:, ~candidates] = -torch.inf
    values, indices = torch.sort(scores, dim=1, descending=True, stable=True)
    missing = max(0, k - scores.shape[1])
    values = torch.nn.functional.pad(values[:, :k], (0, missing), value=-torch.inf)
    indices = torch.nn.functional.pad(indices[:, :k], (0, missing), value=-1)
    return values, indices.masked_fill(values == -torch.inf, -1)


def seen_items(users: int, items: int, share: float) -> Relation:
    """Row 0 has nothing, row 1 everything."""
    seen = torch.rand(users, items, generator=torch.Generator().manual_seed(users)) < share
    seen[0], seen[1:2] = False, True
    return Relation.from_coo(*seen.nonzero().T, users, items)


def check_topk(emulated, user_x: Tensor, item_x: Tensor, k: int, seen: Relation | None, candidates: Tensor | None) -> None:  # type: ignore[no-untyped-def]
    """Small integers have exact scores, so the lists must be equal."""
    masks = (None, None, candidates) if seen is None else (seen.indptr, seen.indices, candidates)
    values, indices = emulated.run(lambda: topk_scores(user_x, item_x, k, *masks))
    wanted = topk_expected(user_x @ item_x.T, k, seen, candidates)
    assert torch.equal(values, wanted[0])
    assert torch.equal(indices, wanted[1])


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("k", [1, 20, 100])
def test_topk_with_many_ties(emulated, dim, k):
    generator = torch.Generator().manual_seed(dim)
    user_x, item_x = (torch.randint(-2, 3, (n, dim), generator=generator).float() for n in (35, 333))
    candidates = torch.rand(333, generator=generator) < 0.7 if k == 20 else None
    check_topk(emulated, user_x, item_x, k, seen_items(35, 333, 0.2) if dim != 32 else None, candidates)


def test_topk_of_equal_scores_keeps_the_lowest_columns(emulated):
    check_topk(emulated, torch.ones(3, 2), torch.ones(400, 2), 40, None, None)
    check_topk(emulated, torch.ones(3, 2), torch.ones(400, 2), 33, seen_items(3, 400, 0.5), None)


def test_topk_of_rising_scores_merges_at_every_tile(emulated):
    check_topk(emulated, torch.ones(2, 1), torch.arange(700.0)[:, None], 64, seen_items(2, 700, 0.3), None)


@pytest.mark.parametrize("k", [7, 65, 90])
def test_topk_longer_than_the_catalogue(emulated, k):
    user_x, item_x = torch.randint(-3, 4, (5, 9)).float(), torch.randint(-3, 4, (6, 9)).float()
    check_topk(emulated, user_x, item_x, k, seen_items(5, 6, 0.5), torch.tensor([True, True, False, True, True, True]))
    check_topk(emulated, user_x, item_x[:0], k, None, None)


def test_topk_drops_nan_and_keeps_infinity(emulated):
    item_x = torch.tensor([[torch.nan], [1.0], [torch.inf], [-torch.inf], [2.0]])
    values, indices = emulated.run(lambda: topk_scores(torch.ones(1, 1), item_x, 5))
    assert indices.tolist() == [[2, 4, 1, -1, -1]] and values[0, :3].tolist() == [torch.inf, 2.0, 1.0]


def test_topk_of_many_users_takes_the_large_tile(emulated):
    generator = torch.Generator().manual_seed(4)
    user_x, item_x = (torch.randint(-2, 3, (n, 5), generator=generator).float() for n in (8450, 130))
    seen = seen_items(8450, 130, 0.05)
    values, indices = emulated.once(lambda: topk_scores(user_x, item_x, 3, seen.indptr, seen.indices), 7)
    wanted = topk_expected(user_x @ item_x.T, 3, seen, None)
    assert torch.equal(values, wanted[0]) and torch.equal(indices, wanted[1])


# Samplers: equal to the CPU library bit for bit


@pytest.mark.parametrize("with_pool", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_negatives_are_those_of_the_cpu(emulated, graph, with_pool, weighted):
    rng = np.random.default_rng(1)
    users = torch.from_numpy(rng.integers(0, graph.num_dst, 700))
    pool = torch.from_numpy(rng.integers(0, 320, 500)) if with_pool else None
    table = AliasTable.from_popularity(rng.integers(1, 50, 500 if with_pool else 320)) if weighted else None
    options = {"seed": -(2**40) + 3, "offset": 2**33 + 5, "distribution": table, "pool": pool}
    assert torch.equal(emulated.run(lambda: [sample_negatives(graph, users, **options)])[0],
                       sample_negatives(graph, users, **options))  # fmt: skip


def test_negatives_tell_who_found_none(emulated):
    full = Relation.from_coo([0, 0, 0, 1], [0, 1, 2, 1], 3, 3)
    users = torch.tensor([1, 0, 2, 0])
    items, failed = poisoned(4).long(), torch.zeros(1, dtype=torch.int64)
    arguments = (4, 3, users, full.indptr, full.indices, None, 0, None, None, 5, 0, 50, items, failed)

    def draw() -> list[Tensor]:
        failed.zero_()
        _kernels.call("sample_negatives", users, *arguments)
        return [items.clone(), failed.clone()]

    got = emulated.run(draw)
    assert got[1].item() == 2 and got[0][1] == got[0][3] == -1 and got[0][0] in (0, 2) and got[0][2] in (0, 1, 2)
    with _kernels.replaced(emulated.path, "cuda"), pytest.raises(RuntimeError, match="user 0"):
        sample_negatives(full, users, seed=5)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fanout", [1, 4, 33, 250, 310])
@pytest.mark.parametrize("weights", ["none", "any", "equal", "tiny"])
def test_neighbors_are_those_of_the_cpu(emulated, graph, replace, fanout, weights):
    rng = np.random.default_rng(fanout)
    rows = torch.from_numpy(np.r_[0, 3, 305, rng.integers(0, graph.num_dst, 30)])
    drawn = rng.random(graph.num_edges) * (rng.random(graph.num_edges) < 0.8)
    scale = {"none": 0, "any": drawn, "equal": 1.0 + 0 * drawn, "tiny": drawn * 10.0 ** rng.integers(-30, 30, len(drawn))}
    edge_weight = None if weights == "none" else torch.from_numpy(np.asarray(scale[weights], dtype=np.float32))
    options = {"weights": edge_weight, "replace": replace, "seed": 11 + fanout, "offset": 2**32 - 7}
    wanted = sample_neighbors(graph, rows, fanout, **options)
    got = emulated.run(lambda: sample_neighbors(graph, rows, fanout, **options))
    assert torch.equal(got[1], wanted[1]) and torch.equal(got[0], wanted[0])


def test_equal_keys_of_the_race_keep_the_lower_edge(emulated):
    """An edge whose weight is its own race number has key 1; those that float32 holds exactly tie."""
    degree, seed = 4000, 5
    words = philox(seed, np.zeros(degree // 4, dtype=np.uint64), np.arange(degree // 4)).T.reshape(-1)
    numbers = race(words)
    tied = numbers.astype(np.float32).astype(np.int64) == numbers
    weights = np.where(tied, numbers, 1e-3).astype(np.float32)
    weights[-3:] = 1e15  # these win against the tied ones before them
    row = Relation.from_coo(np.zeros(degree, int), np.arange(degree), 1, degree)
    fanout = 3 + int(tied[:-3].sum()) // 2
    assert fanout > 8
    options = {"weights": torch.from_numpy(weights), "seed": seed}
    got = emulated.run(lambda: sample_neighbors(row, torch.tensor([0]), fanout, **options))
    wanted = [*np.flatnonzero(tied)[: fanout - 3], degree - 3, degree - 2, degree - 1]
    assert got[1][0].tolist() == wanted
    assert torch.equal(got[1], sample_neighbors(row, torch.tensor([0]), fanout, **options)[1])


# Adam


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("count", "moved"), [(1, False), (3, False), (256, False), (1027, False), (1027, True)])
def test_adam(emulated, dtype, count, moved):
    """bfloat16 is the gradient's type alone."""
    generator = torch.Generator().manual_seed(count)
    start = [torch.randn(count, generator=generator, dtype=torch.float64).to(dtype) for _ in range(4)]
    start[3].square_()
    dtype = torch.float32 if dtype == torch.bfloat16 else dtype
    start = [x if place == 1 else x.to(dtype) for place, x in enumerate(start)]
    options = {"rate": 0.05, "betas": (0.8, 0.95), "epsilon": 1e-6, "weight_decay": 0.1}

    def steps() -> list[Tensor]:
        state = [unaligned(x) if moved else x.clone() for x in start]
        for step in (1, 2):
            adam_step(*state, step=step, **options)
        return [state[0], state[2], state[3]]

    wanted = [x.double().clone() for x in start]
    for step in (1, 2):
        _adam_reference(*wanted, 0.05, 0.8, 0.95, 1e-6, 0.1, step)
    compare(emulated.run(steps), [wanted[0], wanted[2], wanted[3]], dtype)


def test_wrong_arguments_are_refused(emulated):
    x = torch.ones(2, 2)
    with _kernels.replaced(emulated.path, "cuda"):
        for name, arguments, message in (
            ("adam", (2, 2, 4, x, x, x, x, 0.1, 0.9, 0.9, 0.1, 0.0, 1), "dtype"),
            ("adam", (1, 2, 4, x, x, x, x, 0.1, 0.9, 0.9, 0.1, 0.0, 1), "dtype"),
            ("adam", (0, 0, 4, x, x, x, x, 0.1, 0.9, 0.9, 0.1, 0.0, 0), "size"),
            ("sampled_softmax", (0, 1, 1, 2, x, x, x, x, x, x, x, x, 0.0, x, x, x), "option"),
            ("topk_scores", (2, 2, 2, x, x, None, None, None, 0, None, x, x), "size"),
            ("sample_neighbors", (1, 1, 2, x, x, x, None, 0, 0, x, x), "option"),
        ):
            with pytest.raises(ValueError, match=message):
                _kernels.call(name, x, *arguments)
