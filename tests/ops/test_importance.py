"""Important neighbours: what walks meet on graphs where it is obvious, and neighbourhoods that hold all that is read."""

from __future__ import annotations

import numpy as np
import torch

from graphrec.ops import Relation
from graphrec.ops.importance import ImportantNeighbourhoods, visited_items

WALKS = {"first": 0, "last": 3, "num_walks": 40, "num_steps": 3, "seed": 5}


def two_groups() -> Relation:
    """Users 0-3 have items 0-3, users 4-6 items 4-6; user 7 and item 7 have nothing; item 8 is user 0's alone."""
    pairs = [(u, i) for u in range(4) for i in range(4)] + [(u, i) for u in range(4, 7) for i in range(4, 7)] + [(0, 8)]
    return Relation.from_coo(*zip(*pairs, strict=True), 8, 9)


def test_walks_stay_in_the_group_and_never_count_their_start():
    items, visits = visited_items(two_groups(), from_items=True, **WALKS)
    assert set(items[5][items[5] >= 0].tolist()) == {4, 6}
    assert set(items[1].tolist()) <= {0, 2, 3, 8} and 1 not in items[1]
    assert items[7].tolist() == [-1, -1, -1] and visits[7].tolist() == [0, 0, 0]
    users, _ = visited_items(two_groups(), from_items=False, **WALKS)
    assert set(users[5].tolist()) == {4, 5, 6} and users[7].tolist() == [-1, -1, -1]


def test_ranks_go_on_where_the_ones_before_end_and_ties_go_to_the_lower_item():
    whole = visited_items(two_groups(), from_items=False, **WALKS | {"last": 5})
    parts = [visited_items(two_groups(), from_items=False, **WALKS | {"first": a, "last": b}) for a, b in ((0, 2), (2, 5))]
    for position in (0, 1):
        np.testing.assert_array_equal(whole[position], np.concatenate([part[position] for part in parts], axis=1))
    items, visits = whole
    falls = visits[:, :-1] > visits[:, 1:]
    tie = (visits[:, :-1] == visits[:, 1:]) & ((items[:, :-1] < items[:, 1:]) | (items[:, 1:] < 0))
    assert bool((falls | tie).all())


def test_an_item_met_twice_as_often_weighs_twice_as_much():
    # From user 0 a walk of one step meets item 0 or 1 alike; from user 1 item 1 always.
    relation = Relation.from_coo([0, 0, 1], [0, 1, 1], 2, 2)
    _, visits = visited_items(relation, from_items=False, **WALKS | {"num_walks": 2000, "num_steps": 1, "last": 2})
    assert abs(visits[0, 0] / 2000 - 0.5) < 0.05 and visits[1].tolist() == [2000, 0]
    whole = ImportantNeighbourhoods(relation, 2, 1, 2000, 1, 0).whole()
    torch.testing.assert_close(whole.user_weight[:2].sum(), torch.tensor(1.0))
    assert whole.to_users.indices.tolist() == [0, 1, 1] and whole.user_weight[2] == 1


def test_a_neighbourhood_has_its_rows_first_and_their_edges_with_their_weights():
    neighbourhoods = ImportantNeighbourhoods(two_groups(), 3, 2, 40, 3, 5)
    whole = neighbourhoods.whole()
    users, items = torch.tensor([5, 0]), torch.tensor([2])
    for _ in range(2):  # the second time finds the numbering clean
        hood = neighbourhoods.draw(users, items, seed=0)
        assert torch.equal(hood.users, users) and hood.items[0] == 2 and len(set(hood.items.tolist())) == len(hood.items)
        dense = [torch.zeros(r.num_dst, r.num_src) for r in (whole.to_users, whole.to_items)]
        local = [torch.zeros(r.num_dst, r.num_src) for r in (hood.relation.to_users, hood.relation.to_items)]
        for matrices, edges in ((dense, whole), (local, hood.relation)):
            matrices[0][edges.to_users.rows, edges.to_users.indices.long()] = edges.user_weight
            matrices[1][edges.to_items.rows, edges.to_items.indices.long()] = edges.item_weight
        torch.testing.assert_close(local[0], dense[0][users][:, hood.items])
        torch.testing.assert_close(local[1][0], dense[1][2][hood.items])
