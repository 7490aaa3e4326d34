"""Fused losses: values and gradients against sums written out in float64, for every variant and size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.losses.batch import Batch
from graphrec.losses.pairwise import BPR
from graphrec.losses.softmax import SampledSoftmax
from graphrec.ops import losses
from graphrec.ops.losses import bpr, sampled_softmax, sum_by_index

NUM_USERS, NUM_ITEMS, BATCH, NUM_NEGATIVES = 9, 14, 23, 11


def tables(dim: int, dtype: torch.dtype = torch.float32, scale: float = 0.5):
    generator = torch.Generator().manual_seed(dim)
    shapes = (NUM_USERS, dim), (NUM_ITEMS, dim)
    return [(torch.randn(shape, generator=generator) * scale).to(dtype).requires_grad_() for shape in shapes]


def rows(num_negatives: int):
    """Rows that occur often and rows that never do (user 8, item 13)."""
    rng = np.random.default_rng(0)
    users, positives = rng.integers(0, 8, BATCH), rng.integers(0, 13, BATCH)
    negatives = rng.integers(0, 13, (BATCH, num_negatives))
    return [torch.from_numpy(index) for index in (users, positives, negatives)]


def shared():
    """Negatives of a batch; row 2 has every one of them as a hit, row 3 none."""
    users, positives, _ = rows(1)
    rng = np.random.default_rng(1)
    negatives = torch.from_numpy(rng.permutation(13)[:NUM_NEGATIVES])
    mask = rng.random((BATCH, NUM_NEGATIVES)) < 0.2
    mask[2], mask[3] = True, False
    log_weight = torch.from_numpy(rng.normal(size=NUM_NEGATIVES))
    return users, positives, negatives, log_weight, torch.from_numpy(np.stack(np.nonzero(mask)))


def naive_bpr(user_x, item_x, users, positives, negatives) -> torch.Tensor:
    terms = []
    for user, positive, row in zip(users.tolist(), positives.tolist(), negatives.tolist(), strict=True):
        terms += [torch.log1p(torch.exp(user_x[user] @ (item_x[j] - item_x[positive]))) for j in row]
    return torch.stack(terms).mean()


def naive_softmax(user_x, item_x, users, positives, negatives, log_weight, hits, temperature) -> torch.Tensor:
    left_out, terms = set(zip(*hits.tolist(), strict=True)), []
    for b, (user, positive) in enumerate(zip(users.tolist(), positives.tolist(), strict=True)):
        own = torch.exp(user_x[user] @ item_x[positive] / temperature)
        others = [
            torch.exp(user_x[user] @ item_x[item] / temperature + log_weight[j])
            for j, item in enumerate(negatives.tolist())
            if (b, j) not in left_out
        ]
        terms.append(torch.log(own + sum(others)) - torch.log(own))
    return torch.stack(terms).mean()


def with_gradients(loss, user_x, item_x, factor: float = 3.0):
    user_x.grad = item_x.grad = None
    value = loss(user_x, item_x)
    (factor * value).backward()
    return value.detach(), user_x.grad / factor, item_x.grad / factor


def assert_close(got, expected, dtype) -> None:
    tolerance = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(got, expected, strict=True):
        scale = max(float(other.abs().max()), 1e-3)
        assert float((one.double() - other.double()).abs().max()) < tolerance * scale


CASES = [(dim, torch.float32) for dim in (1, 3, 31, 32, 33, 64, 65, 128, 200)]
CASES += [(33, torch.float64), (64, torch.float64), (33, torch.bfloat16), (64, torch.bfloat16)]


@pytest.mark.parametrize(("dim", "dtype"), CASES)
@pytest.mark.parametrize("num_negatives", [1, 5])
def test_bpr_equals_the_sum_written_out(implementation, dim, dtype, num_negatives):
    user_x, item_x = tables(dim, dtype)
    index = rows(num_negatives)
    got = with_gradients(lambda u, i: bpr(u, i, *index), user_x, item_x)
    wide = [part.detach().double().requires_grad_() for part in (user_x, item_x)]
    assert_close(got, with_gradients(lambda u, i: naive_bpr(u, i, *index), *wide), dtype)
    assert got[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32) and got[1].dtype == dtype
    assert not got[1][8].any() and not got[2][13].any()


@pytest.mark.parametrize(("dim", "dtype"), CASES)
@pytest.mark.parametrize("tile", [1, 4 * NUM_NEGATIVES, 1 << 19])
def test_softmax_equals_the_sum_written_out(implementation, dim, dtype, tile, monkeypatch):
    monkeypatch.setattr(losses, "_TILE", tile)
    user_x, item_x = tables(dim, dtype, 0.3)
    *index, log_weight, hits = shared()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    got = with_gradients(lambda u, i: sampled_softmax(u, i, *index, log_weight.to(wide), hits, 0.7), user_x, item_x)
    exact = [part.detach().double().requires_grad_() for part in (user_x, item_x)]
    assert_close(got, with_gradients(lambda u, i: naive_softmax(u, i, *index, log_weight, hits, 0.7), *exact), dtype)
    assert not got[1][8].any() and not got[2][13].any()


@pytest.mark.parametrize("num_columns", [1, 7, 8, 16, 17, 100, 1000])
@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
def test_softmax_rows_are_probabilities_at_any_scale(variant, num_columns, spread):
    generator = torch.Generator().manual_seed(num_columns)
    tile = torch.randn(6, num_columns, generator=generator) * spread
    log_weight = torch.randn(num_columns, generator=generator)
    exact = tile.double() / 0.5 + log_weight.double()
    exact[1] = exact[2, 0] = -torch.inf
    indptr = torch.tensor([0, 0, num_columns, num_columns + 1, *[num_columns + 1] * 3])
    hits = torch.tensor([*range(num_columns), 0], dtype=torch.int32)
    total = losses._softmax_rows(tile, log_weight, indptr, hits, 0.5)
    torch.testing.assert_close(total.double(), exact.logsumexp(1), rtol=2e-6, atol=2e-6)
    chances = exact.softmax(1).nan_to_num(0.0)
    torch.testing.assert_close(tile.double(), chances, rtol=3e-6 * max(1.0, spread), atol=1e-7)


def test_they_equal_the_losses_on_scores():
    user_x, item_x = tables(16)
    users, positives, negatives = rows(3)
    batch = Batch(torch.arange(NUM_USERS), torch.arange(NUM_ITEMS), users, positives, negatives)
    user, score = user_x[users], (user_x[users] * item_x[positives]).sum(1)
    on_scores = BPR()(score, torch.einsum("bd,bnd->bn", user, item_x[negatives]), batch)
    torch.testing.assert_close(BPR().of_rows(user_x, item_x, batch), on_scores)

    _, _, negatives, log_q, hits = shared()
    counts = torch.arange(1.0, NUM_NEGATIVES + 1)
    batch = Batch(*(torch.arange(size) for size in (NUM_USERS, NUM_ITEMS)), users, positives, negatives, counts, hits, log_q.float())
    for settings in ({}, {"popularity_correction": True, "temperature": 0.4}):
        loss = SampledSoftmax(SampledSoftmax.Settings(**settings))
        torch.testing.assert_close(loss.of_rows(user_x, item_x, batch), loss(score, user @ item_x[negatives].T, batch))


def test_gradients_in_double(implementation):
    user_x, item_x = tables(5, torch.float64)
    index = rows(2)
    assert torch.autograd.gradcheck(lambda u, i: bpr(u, i, *index), (user_x, item_x))
    *index, log_weight, hits = shared()
    assert torch.autograd.gradcheck(lambda u, i: sampled_softmax(u, i, *index, log_weight, hits, 0.5), (user_x, item_x))


def test_large_scores_stay_finite(implementation):
    user_x, item_x = tables(8, scale=40.0)
    *index, log_weight, hits = shared()
    for loss in (lambda u, i: bpr(u, i, *rows(4)), lambda u, i: sampled_softmax(u, i, *index, log_weight.float(), hits, 0.1)):
        assert all(torch.isfinite(part).all() for part in with_gradients(loss, user_x, item_x))


def test_reruns_give_the_same_bits_and_bpr_with_any_threads():
    """The softmax takes its products from the BLAS library, whose sums may depend on the number of threads."""
    user_x, item_x = tables(64)
    *index, log_weight, hits = shared()
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            parts = with_gradients(lambda u, i: bpr(u, i, *rows(6)), user_x, item_x)
            softmax = with_gradients(
                lambda u, i: sampled_softmax(u, i, *index, log_weight.float(), hits, 0.5), user_x, item_x
            )
            seen.append((parts, softmax))
    finally:
        torch.set_num_threads(before)
    one, two, again = seen
    assert all(map(torch.equal, one[0], two[0]))
    assert all(map(torch.equal, one[0], again[0])) and all(map(torch.equal, one[1], again[1]))


def test_strided_tables_and_a_table_without_gradient(implementation):
    user_x, item_x = (table.detach() for table in tables(12))
    strided = [torch.stack([table, table], 1).flatten(1)[:, ::1][:, :12] for table in (user_x, item_x)]
    assert not strided[0].is_contiguous()
    *index, log_weight, hits = shared()
    for loss in (bpr, sampled_softmax):
        rest = rows(2) if loss is bpr else (*index, log_weight.float(), hits, 0.5)
        wanted = item_x.clone().requires_grad_()
        loss(user_x, wanted, *rest).backward()
        also = strided[1].clone(memory_format=torch.preserve_format).requires_grad_()
        loss(strided[0], also, *rest).backward()
        torch.testing.assert_close(also.grad, wanted.grad, rtol=0, atol=0)
        assert not loss(*strided, *rest).requires_grad


def test_sum_by_index(implementation):
    values, index = torch.randn(50, 6, dtype=torch.float64), torch.from_numpy(np.random.default_rng(2).integers(0, 7, 50))
    expected = torch.stack([values[index == row].sum(0) for row in range(9)])
    torch.testing.assert_close(sum_by_index(values, index, 9), expected)


def test_what_does_not_fit_is_named():
    user_x, item_x = (table.detach() for table in tables(4))
    users, positives, negatives = rows(2)
    for arguments, message in (
        ((user_x, item_x[:, :3], users, positives, negatives), r"must be \(u, D\) and \(i, D\) of one dtype"),
        ((user_x, item_x, users, positives[1:], negatives), r"users and positives must be \(B,\), got \(23,\) and \(22,\)"),
        ((user_x, item_x, users, positives, negatives[1:]), r"negatives must be \(B = 23, n >= 1\), got \(22, 2\)"),
        ((user_x, item_x, users + 5, positives, negatives), r"users must be in 0..8, got 5..12"),
        ((user_x, item_x, users, positives, negatives.int()), r"negatives must be int64, got torch.int32"),
    ):
        with pytest.raises(ValueError, match=message):
            bpr(*arguments)
    users, positives, negatives, log_weight, hits = shared()
    good = {"negatives": negatives, "log_weight": log_weight.float(), "hits": hits, "temperature": 0.5}
    for change, message in (
        ({"temperature": 0.0}, r"temperature must be above 0, got 0.0"),
        ({"log_weight": log_weight}, r"log_weight must be torch.float32 \(11,\), got torch.float64 \(11,\)"),
        ({"hits": hits.flip(1)}, r"hits must be distinct pairs below \(B = 23, M = 11\) in ascending order"),
        ({"hits": hits[0]}, r"hits must be int64 \(2, H\)"),
    ):
        with pytest.raises(ValueError, match=message):
            sampled_softmax(user_x, item_x, users, positives, **good | change)


@pytest.mark.parametrize("transposed", [False, True])
def test_operators_are_registered_correctly(implementation, transposed):
    user_x, item_x = (table.detach() for table in tables(4))
    if transposed:
        user_x, item_x = (table.T.contiguous().T for table in (user_x, item_x))
    known = user_x.requires_grad_(), item_x.requires_grad_()
    index = rows(2)
    torch.library.opcheck(torch.ops.graphrec.bpr.default, (*known, *index))
    plain = [part.detach() for part in (*known, *index, torch.ops.graphrec.bpr(*known, *index)[1])]
    torch.library.opcheck(torch.ops.graphrec.bpr_backward.default, (*plain, torch.tensor(0.5)))
    *index, log_weight, hits = shared()
    indptr, columns = losses._hit_rows(hits, BATCH, NUM_NEGATIVES)
    arguments = (*known, *index, log_weight.float(), indptr, columns, 0.5)
    torch.library.opcheck(torch.ops.graphrec.sampled_softmax.default, (*arguments, True))
    with torch.no_grad():
        torch.library.opcheck(torch.ops.graphrec.sampled_softmax.default, (*arguments, False))


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_a_second_derivative_is_refused_and_a_first_with_its_graph_is_not(implementation, loss):
    user_x, item_x = tables(5, torch.float64)
    *index, log_weight, hits = shared()
    value = bpr(user_x, item_x, *rows(2)) if loss == "bpr" else sampled_softmax(user_x, item_x, *index, log_weight, hits, 0.5)
    plain = torch.autograd.grad(value, (user_x, item_x), retain_graph=True)
    gradients = torch.autograd.grad(value, (user_x, item_x), create_graph=True)
    assert all(map(torch.equal, plain, gradients))
    for gradient in gradients:
        with pytest.raises(RuntimeError, match=f"{loss} is differentiable once, got a second derivative"):
            gradient.square().sum().backward(retain_graph=True)
        with pytest.raises(RuntimeError, match=f"{loss} is differentiable once"):
            torch.autograd.grad(value + gradient.square().sum(), item_x, retain_graph=True)
    assert user_x.grad is None and item_x.grad is None


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_autocast_does_not_reach_into_the_losses(implementation, loss):
    user_x, item_x = tables(33)
    *index, log_weight, hits = shared()

    def value(user_x, item_x):
        if loss == "bpr":
            return bpr(user_x, item_x, *rows(2))
        return sampled_softmax(user_x, item_x, *index, log_weight.float(), hits, 0.5)

    plain = with_gradients(value, user_x, item_x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, with_gradients(value, user_x, item_x), plain))


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_an_empty_batch_gives_zero_and_zero_gradients(implementation, loss):
    user_x, item_x = tables(5)
    none = torch.zeros(0, dtype=torch.int64)
    rest = (none.reshape(0, 3),) if loss == "bpr" else (torch.arange(4), torch.zeros(4), none.reshape(2, 0), 0.5)
    function = bpr if loss == "bpr" else sampled_softmax
    value, *gradients = with_gradients(lambda u, i: function(u, i, none, none, *rest), user_x, item_x)
    assert value == 0 and not gradients[0].any() and not gradients[1].any()


def test_bpr_of_a_large_batch_has_the_same_bits_with_any_threads():
    generator = torch.Generator().manual_seed(0)
    user_x, item_x = (torch.randn(50, 4, generator=generator) for _ in range(2))
    users, positives, negatives = (torch.randint(50, (300_000,), generator=generator) for _ in range(3))
    before, seen = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            for batch in (300_000, 200_001, 131_072):
                seen.add((batch, float(bpr(user_x, item_x, users[:batch], positives[:batch], negatives[:batch, None]))))
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 3


def test_entries_are_grouped_alike_with_and_without_waiting_for_the_device():
    for index in (torch.tensor([3, 0, 3, 1, 0]), torch.tensor([], dtype=torch.int64), torch.full((4,), 5)):
        for one, two in zip(losses.group(index, 6), losses._group_without_waiting(index, 6), strict=True):
            assert torch.equal(one, two)
    assert losses.group(torch.tensor([3, 0, 3]), 4)[0].tolist() == [0, 1, 1, 1, 3]
