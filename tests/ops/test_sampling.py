"""Draws: the right distribution, never a known positive, and the same from every variant, thread count, split and twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from graphrec import _kernels
from graphrec.ops import AliasTable, Relation, sample_negatives, sample_neighbors
from graphrec.ops.philox import philox, race
from graphrec.ops.sampling import negatives_forward

NUM_USERS, NUM_ITEMS = 30, 40


@pytest.fixture(scope="module")
def relation() -> Relation:
    """A user with 35 of 40 items (0), a user with nothing (29), and others in between."""
    rng = np.random.default_rng(1)
    users = np.concatenate([np.zeros(35, int), rng.integers(1, 29, 250)])
    items = np.concatenate([np.arange(35), rng.integers(0, NUM_ITEMS, 250)])
    return Relation.from_coo(users, items, NUM_USERS, NUM_ITEMS)


@pytest.fixture(scope="module")
def weights(relation) -> torch.Tensor:
    values = torch.rand(relation.num_edges, generator=torch.Generator().manual_seed(2))
    values[::4] = 0.0
    return values


def by_reference(monkeypatch, draw):
    with monkeypatch.context() as patch:
        patch.setattr(_kernels, "library", lambda device_type="cpu": None)
        return draw()


def neighbours(relation, row) -> np.ndarray:
    return relation.indices[relation.indptr[row] : relation.indptr[row + 1]].numpy()


def assert_follows(drawn: np.ndarray, expected: np.ndarray) -> None:
    """Chi-square of counts against probabilities; the bound is passed by chance about once in 10^9 seeds."""
    counts = np.bincount(drawn, minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    live = expected > 0
    mean = expected[live] * len(drawn)
    statistic, freedom = ((counts[live] - mean) ** 2 / mean).sum(), live.sum() - 1
    assert statistic < freedom + 6 * (2 * freedom) ** 0.5 + 12


def test_philox_gives_the_published_words():
    """The known answers of Random123 for Philox-4x32-10."""
    ones = np.array([2**64 - 1], dtype=np.uint64)
    zero = np.array([0], dtype=np.uint64)
    assert [hex(w) for w in philox(0, zero, zero)[:, 0]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    assert [hex(w) for w in philox(-1, ones, ones)[:, 0]] == ["0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"]


def test_race_is_a_logarithm_in_integers():
    words = np.concatenate([[0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.random.default_rng(0).integers(0, 2**32, 10_000)])
    exact = -np.log2((words + 0.5) / 2**32) * 2**31
    assert np.abs(race(words.astype(np.uint64)) - exact).max() < 17  # 2^-27 of one
    assert race(words.astype(np.uint64)).min() >= 1


@pytest.mark.parametrize("kind", ["uniform", "popularity", "pool", "weighted pool"])
def test_negatives_follow_the_distribution_over_what_is_left(relation, variant, kind):
    rng = np.random.default_rng(3)
    weight = np.ones(NUM_ITEMS)
    pool = distribution = None
    if kind == "popularity":
        counts = rng.integers(0, 50, NUM_ITEMS)
        weight, distribution = counts**0.75, AliasTable.from_popularity(counts, 0.75)
    elif kind.endswith("pool"):
        pool = torch.from_numpy(rng.integers(0, NUM_ITEMS, 60))  # items come several times
        slots = rng.random(60) if kind == "weighted pool" else np.ones(60)
        distribution = AliasTable.from_weights(slots) if kind == "weighted pool" else None
        weight = np.bincount(pool, slots, minlength=NUM_ITEMS)
    for user in (0, 5, 29):
        users = torch.full((30_000,), user)
        drawn = sample_negatives(relation, users, seed=user, distribution=distribution, pool=pool).numpy()
        expected = weight.copy()
        expected[neighbours(relation, user)] = 0
        assert_follows(drawn, expected / expected.sum())


def test_negatives_are_never_known_positives(relation, variant):
    users = torch.from_numpy(np.random.default_rng(4).integers(0, NUM_USERS, 20_001))
    known = torch.zeros(NUM_USERS, NUM_ITEMS, dtype=torch.bool)
    known[relation.rows, relation.indices.long()] = True
    items = sample_negatives(relation, users, seed=1)
    assert not known[users, items].any() and items.min() >= 0 and items.max() < NUM_ITEMS
    assert set(sample_negatives(relation, users, 36, seed=1).tolist()) == set(range(36))


def test_every_other_entry_of_a_pool():
    nothing, users = Relation.from_coo([], [], 9, NUM_ITEMS), torch.arange(9)
    pool = torch.tensor([3, 2**40, 30, 2**40, 7, 2**40])[::2]
    assert torch.equal(*(sample_negatives(nothing, users, pool=part, seed=2) for part in (pool, pool.contiguous())))


def all_draws(relation, weights, users, offset=0) -> list[torch.Tensor]:
    table = AliasTable.from_popularity(relation.degree_src.numpy() + 1, 0.5)
    pool = torch.arange(0, NUM_ITEMS, 3)
    drawn = [
        sample_negatives(relation, users, seed=-7, offset=offset),
        sample_negatives(relation, users, seed=2**63 + 5, offset=offset, distribution=table),
        sample_negatives(relation, users, seed=9, offset=offset, pool=pool),
    ]
    for fanout in (1, 4, 9, 40):
        for replace in (False, True):
            for weight in (None, weights):
                options = {"weights": weight, "replace": replace, "seed": 3, "offset": offset}
                drawn += sample_neighbors(relation, users, fanout, **options)
    return drawn


def test_the_reference_and_split_calls_draw_the_same(relation, weights, variant, monkeypatch):
    users = torch.from_numpy(np.random.default_rng(5).integers(0, NUM_USERS, 333))
    whole = all_draws(relation, weights, users)
    parts = zip(all_draws(relation, weights, users[:100]), all_draws(relation, weights, users[100:], 100), strict=True)
    reference = by_reference(monkeypatch, lambda: all_draws(relation, weights, users))
    for drawn, twin, (first, second) in zip(whole, reference, parts, strict=True):
        assert torch.equal(drawn, twin)
        assert torch.equal(drawn, torch.cat([first, second]))


def test_threads_draw_the_same(relation, weights):
    users = torch.from_numpy(np.random.default_rng(6).integers(0, NUM_USERS, 1000))
    before, draws = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            draws.append(all_draws(relation, weights, users))
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*draws, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_user_without_negatives_is_named(monkeypatch, backend):
    full = Relation.from_coo([1, 1, 1, 0], [0, 1, 2, 2], 3, 3)
    if backend == "reference":
        monkeypatch.setattr(_kernels, "library", lambda device_type="cpu": None)
    with pytest.raises(RuntimeError, match=r"2 of 4 entries .* in 50 attempts, such as user 1 with 3 of 3 items"):
        sample_negatives(full, torch.tensor([0, 1, 2, 1]), seed=0, max_attempts=50)


def test_alias_tables_hold_their_weights():
    rng = np.random.default_rng(7)
    for weight in (rng.random(1), rng.random(50) ** 8, np.ones(7) * 0.1, np.r_[0, 3, 0, 1, 0.0], rng.pareto(0.5, 5000)):
        table = AliasTable.from_weights(weight)
        probability = table.probability.double().numpy()
        mass = probability + np.bincount(table.alias, 1 - probability, minlength=len(weight))
        np.testing.assert_allclose(mass / len(weight), weight / weight.sum(), atol=1e-7)
        assert probability[weight == 0].max(initial=0) == 0
    for bad in ([], [0.0], [-1.0, 2.0], [np.nan, 1.0], [[1.0]]):
        with pytest.raises(ValueError, match="finite, >= 0 and not all 0"):
            AliasTable.from_weights(np.array(bad))


def test_alias_tables_of_another_form_are_refused():
    probability, alias = torch.ones(3), torch.zeros(3, dtype=torch.int32)
    AliasTable(probability, alias)
    for fields, message in (
        ((probability.double(), alias), r"probability must be torch.float32 \(S,\), got torch.float64 \(3,\)"),
        ((probability, alias.long()), r"alias must be torch.int32 \(S,\), got torch.int64 \(3,\)"),
        ((probability[:, None], alias), r"probability must be .* got torch.float32 \(3, 1\)"),
        ((probability, alias[:2]), r"must have one length and one device, got 3 on cpu and 2 on cpu"),
        ((probability, alias + 3), r"alias must be in 0..2, got 3..3"),
    ):
        with pytest.raises(ValueError, match=message):
            AliasTable(*fields)


def test_few_edges_are_all_drawn_in_order(relation, variant):
    rows = torch.tensor([29, 0, 3])
    columns, edges = sample_neighbors(relation, rows, 37, seed=0)
    assert (columns[0] == -1).all() and (edges[0] == -1).all()
    assert columns[1].tolist() == [*range(35), -1, -1] and edges[1, :35].tolist() == list(range(35))
    assert torch.equal(relation.indices[edges[2][edges[2] >= 0]].long(), columns[2][columns[2] >= 0])


@pytest.mark.parametrize("fanout", [1, 5, 34])
def test_distinct_draws_are_distinct_and_equally_likely(relation, variant, fanout):
    columns, edges = sample_neighbors(relation, torch.zeros(6000, dtype=torch.int64), fanout, seed=1)
    assert (edges.diff(dim=1) > 0).all() and edges.min() == 0 and edges.max() == 34
    assert torch.equal(columns, edges)  # of row 0 only
    share = np.bincount(edges.flatten(), minlength=35) / 6000
    np.testing.assert_allclose(share, fanout / 35, atol=6 * (0.25 / 6000) ** 0.5)


@pytest.mark.parametrize("weighted", [False, True])
def test_replaced_draws_follow_the_weights(relation, weights, variant, weighted):
    _, edges = sample_neighbors(
        relation, torch.zeros(4000, dtype=torch.int64), 7, weights=weights if weighted else None, replace=True, seed=2
    )
    expected = weights[:35].double().numpy() if weighted else np.ones(35)
    assert_follows(edges.flatten().numpy(), expected / expected.sum())


def test_distinct_weighted_draws_are_successive(variant):
    """Of the pairs of three edges with weights 1, 2 and 5: p(ab) = a/S · b/(S - a) + b/S · a/(S - b)."""
    star = Relation.from_coo([0, 0, 0, 0], [0, 1, 2, 3], 1, 4)
    weight = torch.tensor([1.0, 0.0, 2.0, 5.0])
    _, edges = sample_neighbors(star, torch.zeros(40_000, dtype=torch.int64), 2, weights=weight, seed=3)
    pairs = {(0, 2): 1 / 8 * 2 / 7 + 2 / 8 * 1 / 6, (0, 3): 1 / 8 * 5 / 7 + 5 / 8 * 1 / 3, (2, 3): 2 / 8 * 5 / 6 + 5 / 8 * 2 / 3}
    kinds = {pair: kind for kind, pair in enumerate(pairs)}
    assert_follows(np.array([kinds[tuple(pair)] for pair in edges.tolist()]), np.array([*pairs.values()]))


def test_what_does_not_fit_is_named(relation, weights):
    users = torch.tensor([0, 1])
    for change, message in (
        ({"users": torch.tensor([30])}, r"users must be in 0..29, got 30..30"),
        ({"users": torch.tensor([0], dtype=torch.int32)}, r"users must be int64 \(n,\), got torch.int32"),
        ({"pool": torch.tensor([40])}, r"pool must be in 0..39"),
        ({"pool": torch.tensor([4], dtype=torch.int32)}, r"pool must be int64 \(n,\)"),
        ({"distribution": AliasTable.from_weights(np.ones(3))}, r"distribution must have 40 slots, got 3"),
        ({"max_attempts": 0}, r"max_attempts .* at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_negatives(**{"relation": relation, "users": users, "seed": 0} | change)
    for change, message in (
        ({"fanout": 0}, r"fanout must be at least 1"),
        ({"rows": torch.tensor([-1])}, r"rows must be in 0..29"),
        ({"weights": weights[:-1]}, r"weights must be torch.float32"),
        ({"weights": -weights}, r"finite and at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_neighbors(**{"relation": relation, "rows": users, "fanout": 2, "seed": 0} | change)


def test_operators_are_registered_correctly(relation, weights):
    rows = torch.arange(10)
    index = relation.indptr, relation.indices
    table = AliasTable.from_weights(np.arange(1.0, 41))
    torch.library.opcheck(
        torch.ops.graphrec.sample_negatives.default,
        (rows, *index, NUM_ITEMS, None, table.probability, table.alias, 1, 0, 100),
    )
    torch.library.opcheck(torch.ops.graphrec.sample_neighbors.default, (rows, *index, weights, 3, False, 1, 0))


def test_tensors_without_values_give_draws_without_values(relation):
    with FakeTensorMode() as mode:
        users, indptr, indices = map(mode.from_tensor, (torch.arange(10), relation.indptr, relation.indices))
        items, failed = negatives_forward(users, indptr, indices, NUM_ITEMS, None, None, None, 1, 0, 100)
    assert (items.shape, items.dtype, failed.shape) == ((10,), torch.int64, (1,))
