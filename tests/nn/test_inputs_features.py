"""Inputs of features with ids beside them: how much the ids count, and where they stand alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.nn.inputs_features import FeatureInputs, IdFeatureInputs
from graphrec.settings import parse

NUM_USERS, NUM_ITEMS, DIM = 40, 60, 16
BARE = 5  # items and users without a feature come first


def parts(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    known = np.arange(count) >= BARE
    rows[~known] = 0
    return [(rows, known)]


def make(kind=IdFeatureInputs, **settings) -> FeatureInputs:
    chosen = parse(kind.Settings, {"item": ["text"], **settings}, "inputs")
    users = None if chosen.user == "id" else parts(NUM_USERS, 1)
    return kind(NUM_USERS, NUM_ITEMS, DIM, chosen, torch.Generator().manual_seed(0), parts(NUM_ITEMS, 0), users)


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_ids_count_by_their_weight_beside_features_and_in_full_alone(weight):
    inputs = make(id_weight=weight, user="history")
    user, item = inputs()
    tower = inputs.item_map.towers[1]
    torch.testing.assert_close(item[BARE:], weight * inputs.item[BARE:] + tower(inputs.item_values_0[BARE:]))
    torch.testing.assert_close(user[BARE:], weight * inputs.user[BARE:] + tower(inputs.user_values_0[BARE:]))
    assert torch.equal(item[:BARE], inputs.item[:BARE]) and torch.equal(user[:BARE], inputs.user[:BARE])
    assert torch.equal(make(id_weight=weight, user="id")()[0], make(id_weight=weight, user="id").user)


def test_rows_are_those_of_the_whole():
    inputs = make(id_weight=0.1, user="history")
    users, items = torch.tensor([7, 3]), torch.tensor([0, 59, 7])
    for rows, whole, index in zip(inputs.rows(users, items), inputs(), (users, items), strict=True):
        torch.testing.assert_close(rows, whole[index])


def test_ids_and_towers_learn():
    inputs = make(user="history")
    user, item = inputs()
    (user.sin().sum() + (item + 1).square().sum()).backward()
    for name in ("user", "item"):
        assert getattr(inputs, name).grad.abs().sum(1).all()
    assert inputs.item_map.towers[1][0].weight.grad.abs().sum() > 0


def test_features_alone_have_no_ids():
    assert [name for name, _ in make(FeatureInputs).named_parameters() if name in ("user", "item")] == []
    with pytest.raises(ConfigError, match="id_weight: unknown key"):
        make(FeatureInputs, id_weight=0.1)
    with pytest.raises(ConfigError, match="id_weight: .*greater than 0"):
        make(id_weight=0.0)
