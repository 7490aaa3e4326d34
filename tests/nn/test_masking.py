"""Relations without some edges: both orders stay right, and no masked edge carries a message."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.nn.autoencoder import GAE
from graphrec.nn.masking import edge_positions, keep_edges, mask_edges, undirected_edges, without_pairs
from graphrec.ops import Relation

rng = np.random.default_rng(0)
DST, SRC = rng.integers(0, 17, 80), rng.integers(0, 11, 80)
RELATION = Relation.from_coo(DST, SRC, 17, 11)


def pairs_of(relation: Relation) -> set[tuple[int, int]]:
    return set(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True))


def same(left: Relation, right: Relation) -> bool:
    names = ("indptr", "indices", "t_indptr", "t_indices")
    return all(torch.equal(getattr(left, name), getattr(right, name)) for name in names)


def test_the_kept_edges_make_the_relation_that_they_would_make_alone():
    keep = torch.rand(RELATION.num_edges, generator=torch.Generator().manual_seed(1)) < 0.6
    alone = Relation.from_coo(RELATION.rows[keep], RELATION.indices[keep], 17, 11)
    assert same(keep_edges(RELATION, keep), alone)
    empty = keep_edges(RELATION, torch.zeros_like(keep))
    assert empty.num_edges == 0 and empty.indptr.tolist() == [0] * 18


def test_pairs_are_found_and_left_out():
    dst, src = torch.tensor([int(DST[0]), 16, 0]), torch.tensor([int(SRC[0]), 10, 0])
    _, found = edge_positions(RELATION, dst, src)
    wanted = list(zip(dst.tolist(), src.tolist(), strict=True))
    assert found.tolist() == [pair in pairs_of(RELATION) for pair in wanted]
    left = without_pairs(RELATION, dst, src)
    assert pairs_of(left) == pairs_of(RELATION) - set(wanted)
    assert same(left, Relation.from_coo(left.rows, left.indices, 17, 11))
    nothing = keep_edges(RELATION, torch.zeros(RELATION.num_edges, dtype=torch.bool))
    assert without_pairs(nothing, dst, src).num_edges == 0


def test_a_mask_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="keep must be bool"):
        keep_edges(RELATION, torch.ones(3, dtype=torch.bool))


def test_a_masked_edge_passes_no_message_in_either_direction():
    """On a path 0-1-2-3 with the edge 1-2 masked, nothing of nodes 0 and 1 reaches 2 and 3, nor back."""
    ends = np.array([(0, 1), (1, 2), (2, 3)])
    both = np.concatenate([ends, ends[:, ::-1]])
    path = Relation.from_coo(both[:, 0], both[:, 1], 4, 4)
    edges, numbers = undirected_edges(path)
    assert edges.tolist() == ends.tolist() and sorted(numbers.tolist()) == [0, 0, 1, 1, 2, 2]
    masked = mask_edges(path, numbers, torch.tensor([False, True, False]))
    assert pairs_of(masked) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    net = GAE([2, 3, 3, 2], torch.Generator().manual_seed(0), activation="none").double()
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    for relation, reached in ((masked, [True, True, False, False]), (path, [True, True, True, True])):
        (gradient,) = torch.autograd.grad(net(relation, (x,))[0][0].sum(), x)
        assert gradient.ne(0).any(1).tolist() == reached
