"""Views of a graph really leave out what they say, on both sides alike, and depend on the generator alone."""

from __future__ import annotations

import pytest
import torch

from graphrec.losses.views import drop_edges, drop_nodes
from graphrec.nn.masking import keep_edges
from graphrec.ops import Relation

WHOLE = Relation.from_coo(*(torch.arange(3000) // 60, torch.arange(3000) % 60), 50, 60)  # every pair


def edges(relation: Relation) -> set[tuple[int, int]]:
    return set(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kept_edges_are_the_same_from_both_sides():
    small = Relation.from_coo([0, 0, 1, 2, 2], [1, 3, 0, 1, 2], 3, 4)
    kept = keep_edges(small, torch.tensor([True, False, True, False, True]))
    assert edges(kept) == {(0, 1), (1, 0), (2, 2)}
    assert edges(kept.transpose()) == {(1, 0), (0, 1), (2, 2)}
    assert kept.degree_dst.tolist() == [1, 1, 1] and kept.degree_src.tolist() == [1, 1, 1, 0]
    assert (kept.num_dst, kept.num_src) == (3, 4)


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_a_view_follows_its_generator(drop):
    first, again, other = drop(WHOLE, 0.3, seeded(1)), drop(WHOLE, 0.3, seeded(1)), drop(WHOLE, 0.3, seeded(2))
    assert edges(first) == edges(again) != edges(other)
    assert edges(first.transpose()) == {(item, user) for user, item in edges(first)}
    assert edges(drop(WHOLE, 0.0, seeded(1))) == edges(WHOLE)


def test_edges_go_at_the_stated_rate():
    assert drop_edges(WHOLE, 0.3, seeded(0)).num_edges / WHOLE.num_edges == pytest.approx(0.7, abs=0.03)


def test_nodes_go_with_all_of_their_edges():
    view = drop_nodes(WHOLE, 0.3, seeded(0))
    users, items = (view.degree_dst > 0).sum(), (view.degree_src > 0).sum()
    assert 20 <= int(users) < 50 and 25 <= int(items) < 60
    assert view.num_edges == users * items  # whoever is left keeps every edge to whoever is left
