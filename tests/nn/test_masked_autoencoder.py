"""The masked autoencoder: what it hides, what it sees, and that evaluation hides nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.nn.autoencoder import GAE
from graphrec.nn.masked_autoencoder import MaskedGAE
from graphrec.ops import Relation

N, D = 40, 4
LOW, HIGH = np.triu_indices(N, 1)
CHOSEN = np.random.default_rng(0).choice(len(LOW), 300, replace=False)
ENDS = LOW[CHOSEN], HIGH[CHOSEN]
SQUARE = Relation.from_coo(np.concatenate(ENDS), np.concatenate(ENDS[::-1]), N, N)
BIPARTITE = Relation.from_coo(*ENDS, N, N)


def pairs(relation: Relation) -> set[tuple[int, int]]:
    return set(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True))


def made(**options) -> MaskedGAE:
    torch.manual_seed(0)
    return MaskedGAE([D, 3, 2], torch.Generator().manual_seed(1), **options)


def x(n: int = N, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("two_types", [False, True])
def test_an_edge_is_either_visible_or_masked(two_types):
    relation = BIPARTITE if two_types else SQUARE
    visible, masked = made().mask(relation, two_types)
    hidden = {tuple(pair) for pair in masked.tolist()}
    hidden_both = hidden if two_types else hidden | {(v, u) for u, v in hidden}
    assert not pairs(visible) & hidden_both and pairs(visible) | hidden_both == pairs(relation)
    assert 0.6 < len(hidden) / 300 < 0.8


def test_training_encodes_what_is_visible_and_evaluation_everything():
    net, plain = made(), GAE([D, 3, 2], torch.Generator().manual_seed(1))
    graph = import_dgl().graph((np.concatenate(ENDS), np.concatenate(ENDS[::-1])), num_nodes=N)
    torch.manual_seed(3)
    visible, masked = net.mask(SQUARE)
    for form in (SQUARE, graph):
        torch.manual_seed(3)
        (z,) = net.train()(form, (x(),))
        assert torch.equal(net.masked, masked) and torch.equal(z, plain(visible, (x(),))[0])
        assert torch.equal(net.eval()(form, (x(),))[0], plain(SQUARE, (x(),))[0])
    both = net.train()(BIPARTITE, (x(), x(seed=1)))
    assert len(both) == 2 and {tuple(pair) for pair in net.masked.tolist()} < pairs(BIPARTITE)


def test_at_least_one_edge_is_masked_and_none_of_none():
    relation = Relation.from_coo([0, 1], [1, 0], 3, 3)
    assert made(mask_share=1e-9).mask(relation)[1].tolist() == [[0, 1]]
    nothing = Relation.from_coo([], [], 3, 3)
    assert made().mask(nothing)[1].shape == (0, 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"mask_share must be in \(0, 1\), got 1"):
        made(mask_share=1)
    with pytest.raises(ValueError, match=r"MaskedGAE: x must be floating point \(40, 4\)"):
        made()(SQUARE, (x(39),))
