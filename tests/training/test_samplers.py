"""Samplers: the right pairs, in the right distribution, the same after a restart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.losses.batch import Negatives
from graphrec.registry import resolve
from graphrec.training import SAMPLERS, samplers
from graphrec.training.negatives import NegativeSource
from tests.training.conftest import make_catalogue

HISTORIES = [[0], [1, 2, 3, 4], [], [2, 5], [0, 1, 2, 3, 5]]
NUM_ITEMS = 8
KINDS = [Negatives("rows", 1), Negatives("rows", 3), Negatives("shared", 5), Negatives("in-batch")]


AGES = np.array([1500, 0, 1, 2, 3, 2000, 2001, 0, 1, 2, 3, 4.0])  # in half-lives, of the 12 pairs


def make(
    name: str, negatives: Negatives, batch_size: int = 5, seed: int = 0, distribution: str = "uniform", ages=None, histories=HISTORIES
):
    catalogue = make_catalogue(histories, NUM_ITEMS)
    source = NegativeSource(catalogue, distribution)
    return resolve("sampler", SAMPLERS, name)(catalogue, batch_size, negatives, source, seed, ages)


def pairs(batches) -> np.ndarray:
    return np.concatenate([np.stack([b.user_rows[b.users], b.item_rows[b.positives]], 1) for b in batches])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("negatives", KINDS, ids=str)
def test_an_epoch_has_as_many_pairs_as_edges_and_all_are_edges(name, negatives):
    sampler = make(name, negatives)
    batches = list(sampler.batches(0))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert sampler.steps_per_epoch == 3
    assert all(item in HISTORIES[user] for user, item in pairs(batches))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("negatives", KINDS, ids=str)
@pytest.mark.parametrize("start", [0, 1, 2, 3])
@pytest.mark.parametrize("ages", [None, AGES], ids=["alike", "by-age"])
def test_an_epoch_goes_on_where_it_stopped(name, negatives, start, ages, monkeypatch):
    monkeypatch.setattr(samplers, "_DRAWS_AT_ONCE", 25)  # several chunks in an epoch
    whole = list(make(name, negatives, ages=ages).batches(4))
    rest = list(make(name, negatives, ages=ages).batches(4, start))
    assert len(rest) == 3 - start
    for left, right in zip(whole[start:], rest, strict=True):
        for key, value in vars(left).items():
            assert value is None or torch.equal(value, vars(right)[key]), key


@pytest.mark.parametrize("name", SAMPLERS)
def test_epochs_and_seeds_differ(name):
    first, other_epoch = make(name, KINDS[0]), pairs(make(name, KINDS[0]).batches(1))
    assert not np.array_equal(pairs(first.batches(0)), other_epoch)
    assert not np.array_equal(pairs(first.batches(0)), pairs(make(name, KINDS[0], seed=1).batches(0)))


def test_uniform_edge_takes_every_edge_once():
    edges = sorted(map(tuple, pairs(make("uniform-edge", KINDS[0]).batches(7)).tolist()))
    assert edges == [(user, item) for user, history in enumerate(HISTORIES) for item in history]


def test_uniform_user_draws_users_then_items_uniformly():
    sampler = make("uniform-user", KINDS[0])
    drawn = np.concatenate([pairs(sampler.batches(epoch)) for epoch in range(1500)])
    users = np.bincount(drawn[:, 0], minlength=5) / len(drawn)
    np.testing.assert_allclose(users, [0.25, 0.25, 0, 0.25, 0.25], atol=0.015)
    items = np.bincount(drawn[drawn[:, 0] == 1, 1], minlength=NUM_ITEMS)
    np.testing.assert_allclose(items / items.sum(), [0, 0.25, 0.25, 0.25, 0.25, 0, 0, 0], atol=0.03)
    observed = np.bincount(drawn[:, 1], minlength=NUM_ITEMS) / len(drawn)
    np.testing.assert_allclose(observed, sampler.positive_probability(), atol=0.015)


def test_probability_of_positives_by_hand():
    edge = make("uniform-edge", Negatives("in-batch")).positive_probability()
    np.testing.assert_allclose(edge, np.array([2, 2, 3, 2, 1, 2, 0, 0]) / 12)
    user = make("uniform-user", Negatives("in-batch")).positive_probability()
    np.testing.assert_allclose(user[0], (1 + 1 / 5) / 4)
    np.testing.assert_allclose(user.sum(), 1)


@pytest.mark.parametrize(("name", "latest"), [("uniform-user", [1500, 0, 2000, 0]), ("uniform-edge", [0, 0, 0, 0])])
def test_each_half_life_halves_how_often_a_pair_is_drawn(name, latest):
    sampler = make(name, Negatives("in-batch"), ages=AGES)
    drawn = np.concatenate([pairs(sampler.batches(epoch)) for epoch in range(1500)])
    assert len(drawn) == 1500 * 12
    edges = [(user, item) for user, history in enumerate(HISTORIES) for item in history]
    weight = np.exp2(np.repeat(latest, [1, 4, 2, 5]) - AGES)  # among a user's own, or among all
    users = np.array([user for user, _ in edges])
    share = weight / (4 * np.bincount(users, weight)[users] if name == "uniform-user" else weight.sum())
    observed = np.array([(drawn == edge).all(1).mean() for edge in edges])
    np.testing.assert_allclose(observed, share, atol=0.012)
    by_item = np.bincount([item for _, item in edges], share, minlength=NUM_ITEMS)
    np.testing.assert_allclose(sampler.positive_probability(), by_item, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("negatives", KINDS[2:], ids=str)
def test_hits_are_exactly_the_known_positives_among_shared_negatives(name, negatives):
    for batch in make(name, negatives).batches(2):
        hits = set(map(tuple, batch.hits.T.tolist()))
        users, columns = batch.user_rows[batch.users].tolist(), batch.item_rows[batch.negatives].tolist()
        assert hits == {
            (row, column)
            for row, user in enumerate(users)
            for column, item in enumerate(columns)
            if item in HISTORIES[user]
        }
        drawn = len(batch) if negatives.kind == "in-batch" else negatives.count
        assert batch.counts.sum() == drawn
        assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("negatives", KINDS[:2], ids=str)
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negatives_of_a_row_are_never_its_users_positives(negatives, distribution):
    for batch in make("uniform-user", negatives, distribution=distribution).batches(0):
        users, items = batch.user_rows[batch.users], batch.item_rows[batch.negatives]
        assert items.shape == (len(batch), negatives.count)
        assert all(item not in HISTORIES[user] for user, row in zip(users, items, strict=True) for item in row)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("ages", [None, AGES], ids=["alike", "by-age"])
@pytest.mark.parametrize("negatives", KINDS[:2], ids=str)
def test_a_user_who_has_everything_is_left_out_and_the_others_pairs_are_drawn_as_without_her(name, ages, negatives):
    bot, place = list(range(NUM_ITEMS)), 5  # between the second user, whose pairs end there, and the third
    histories = [*HISTORIES[:2], bot, *HISTORIES[2:]]
    all_ages = None if ages is None else np.concatenate([ages[:place], np.zeros(NUM_ITEMS), ages[place:]])
    plain = make(name, negatives, ages=ages, histories=[*HISTORIES[:2], [], *HISTORIES[2:]])
    sampler = make(name, negatives, ages=all_ages, histories=histories)
    assert sampler.left_out.tolist() == [2] and plain.left_out.tolist() == []
    assert (sampler.num_pairs, sampler.steps_per_epoch) == (plain.num_pairs, plain.steps_per_epoch) == (12, 3)
    for left, right in zip(sampler.batches(3), plain.batches(3), strict=True):
        assert all(torch.equal(value, vars(right)[key]) for key, value in vars(left).items() if value is not None)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("negatives", KINDS[2:], ids=str)
def test_shared_negatives_leave_nobody_out(name, negatives):
    sampler = make(name, negatives, histories=[*HISTORIES, list(range(NUM_ITEMS))])
    assert not len(sampler.left_out) and sampler.num_pairs == 12 + NUM_ITEMS


def test_log_q_is_that_of_the_draws():
    batch = next(make("uniform-edge", Negatives("shared", 4), distribution="popularity").batches(0))
    counts = np.array([2, 2, 3, 2, 1, 2, 0, 0]) ** 0.75
    expected = np.log(counts / counts.sum(), where=counts > 0, out=np.full(8, -np.inf))
    np.testing.assert_allclose(batch.log_q, expected[batch.item_rows[batch.negatives]], rtol=1e-5)
