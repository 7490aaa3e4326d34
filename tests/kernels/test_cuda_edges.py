"""Cases of the CUDA losses, top-k and samplers that only one line of the source decides, on the emulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops import AliasTable, Relation, bpr, sample_negatives, sampled_softmax, topk_scores
from graphrec.ops.philox import below, counters, philox, unit
from graphrec.ops.sampling import negatives_forward

from .conftest import poisoned


def softmax(
    user_x: Tensor, item_x: Tensor, users: Tensor, log_weight: Tensor, indptr: Tensor, hits: Tensor
) -> list[Tensor]:
    """Losses, totals, slopes and the three gradients; every item is a negative, item b the positive of pair b."""
    batch, count, dim = len(users), len(item_x), item_x.shape[1]
    index = users, torch.arange(batch), torch.arange(count)
    shared = (0, batch, count, dim, user_x, item_x, *index, log_weight, indptr, hits, 0.5)
    losses, total, slopes = (poisoned(batch) for _ in range(3))
    _kernels.call("sampled_softmax", user_x, *shared, losses, total, slopes)
    out = poisoned(batch, dim), poisoned(batch, dim), poisoned(count, dim)
    _kernels.call("sampled_softmax_backward", user_x, *shared, total, slopes, torch.ones(1), 1.0 / batch, *out)
    return [losses, total, slopes, *out]


def tables(users: int, items: int, dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(users)
    return torch.randn(users, dim, generator=generator), torch.randn(items, dim, generator=generator)


def test_negatives_of_no_weight_count_nothing(emulated):
    """Not a hit, but exp(-inf): the totals are -inf and the gradients zero, not NaN."""
    user_x, item_x = tables(3, 40, 5)
    no_hits = torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    weightless = torch.full((40,), -torch.inf)
    losses, total, slopes, *gradients = emulated.run(
        lambda: softmax(user_x, item_x, torch.arange(3), weightless, *no_hits)
    )
    assert (total == -torch.inf).all() and not losses.any() and not slopes.any()
    assert all(not gradient.any() for gradient in gradients)


def test_softmax_of_a_pair_does_not_depend_on_its_batch(emulated):
    user_x, item_x = tables(70, 150, 33)
    users, weight = torch.arange(70).flip(0), torch.zeros(150)
    rows, hits = torch.arange(71), torch.arange(70, dtype=torch.int32)
    whole = emulated.run(lambda: softmax(user_x, item_x, users, weight, rows, hits))
    part = emulated.run(lambda: softmax(user_x, item_x, users[:37], weight, rows[:38], hits))
    for one, two in zip(whole[:3], part[:3], strict=True):
        assert torch.equal(one[:37], two)


def test_top_k_of_a_user_does_not_depend_on_the_number_of_users(emulated):
    """8,450 users take the tile of 128 rows, 40 that of 32; every score is summed in the same order."""
    user_x, item_x = tables(8450, 140, 9)
    many = emulated.once(lambda: topk_scores(user_x, item_x, 4), 1)
    few = emulated.run(lambda: topk_scores(user_x[8400:8440], item_x, 4))
    assert all(torch.equal(one[8400:8440], two) for one, two in zip(many, few, strict=True))


@pytest.mark.parametrize("k", [64, 65, 1024])
def test_long_lists_where_every_item_is_better_than_those_before(emulated, k):
    items = 1100 if k == 1024 else 200
    values, indices = emulated.once(lambda: topk_scores(torch.ones(2, 1), torch.arange(float(items))[:, None], k), 3)
    assert torch.equal(indices, torch.arange(items - 1, items - 1 - k, -1).expand(2, k))
    assert torch.equal(values, indices.float())


def test_scores_just_above_zero_beat_zero_of_either_sign(emulated):
    """-0 and 0 are equal, so the lower column is first."""
    item_x = torch.tensor([[-0.0], [0.0], [1e-40], [0.0], [-1e-40]])
    values, indices = emulated.run(lambda: topk_scores(torch.ones(1, 1), item_x, 5))
    assert indices.tolist() == [[2, 0, 1, 3, 4]] and values[0, 0] > 0


def test_an_empty_batch_gives_zero_and_zero_gradients(emulated):
    none = torch.zeros(0, dtype=torch.int64)
    rest = torch.arange(4), torch.zeros(4), none.reshape(2, 0), 0.5

    def gradients() -> list[Tensor]:
        found = []
        for loss, others in ((bpr, (none.reshape(0, 3),)), (sampled_softmax, rest)):
            tables = [torch.ones(6, 5, requires_grad=True) for _ in range(2)]
            value = loss(*tables, none, none, *others)
            found += [value.detach(), *torch.autograd.grad(value, tables)]
        return found

    assert not any(part.any() for part in emulated.once(gradients, 0))


def test_a_slot_gives_way_to_its_alias_where_the_draw_equals_its_probability(emulated):
    """Every slot's probability is the very number that its only draw compares with."""
    count, slots, seed = 200, 1 << 20, 3
    words = philox(seed, counters(0, count), 0)
    slot, drawn = below(words[0], slots), unit(words[1])
    assert len(np.unique(slot)) == count
    probability = np.zeros(slots, dtype=np.float32)
    probability[slot] = drawn
    alias = AliasTable(torch.from_numpy(probability), torch.full((slots,), 7, dtype=torch.int32))
    nobody = Relation.from_coo([], [], 1, slots)
    (items,) = emulated.run(
        lambda: [sample_negatives(nobody, torch.zeros(count, dtype=torch.int64), seed=seed, distribution=alias)]
    )
    assert (items == 7).all()
    alias.probability[torch.from_numpy(slot)] = torch.from_numpy(np.nextafter(drawn, np.float32(2)))
    (items,) = emulated.run(
        lambda: [sample_negatives(nobody, torch.zeros(count, dtype=torch.int64), seed=seed, distribution=alias)]
    )
    assert torch.equal(items, torch.from_numpy(slot))


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_counted_as_on_the_cpu(emulated, attempts):
    """Users that have nine of ten items fail at most attempts."""
    half = Relation.from_coo(np.repeat(np.arange(20), 9), np.tile(np.arange(9), 20), 20, 10)
    arguments = (torch.arange(400) % 20, half.indptr, half.indices, 10, None, None, None, 5, 2**40, attempts)
    wanted, failures = negatives_forward(*arguments)
    got, failed = emulated.run(lambda: negatives_forward(*arguments))
    assert torch.equal(got, wanted) and torch.equal(failed, failures)
    assert 0 < int(failed) == int((got < 0).sum()) < 400
