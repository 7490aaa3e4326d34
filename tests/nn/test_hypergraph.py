"""Motif counts against enumeration, the MHCN encoder against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.errors import ConfigError
from graphrec.losses.batch import Negatives
from graphrec.losses.mutual import HierarchicalMutualInformation
from graphrec.losses.step import Step
from graphrec.nn.hypergraph import HypergraphEncoder, HypergraphSettings
from graphrec.nn.identity import IdentityEncoder
from graphrec.nn.motifs import CHANNELS, averaging, motif_channels
from graphrec.nn.relations import Relations
from graphrec.ops import Relation


def symmetric(pairs, size=5) -> sp.csr_matrix:
    matrix = np.zeros((size, size), np.float32)
    for left, right in pairs:
        matrix[left, right] = matrix[right, left] = 1
    return sp.csr_matrix(matrix)


def test_channels_of_mutual_links_are_triangles_common_items_and_strangers():
    links = symmetric([(0, 1), (1, 2), (0, 2), (2, 3)])  # one triangle and a tail; 4 is alone
    taken = sp.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 1, 1]], np.float32))
    found = {name: matrix.toarray() for name, matrix in motif_channels(links, taken).items()}
    assert list(found) == list(CHANNELS)
    np.testing.assert_array_equal(found["social"], symmetric([(0, 1), (1, 2), (0, 2)]).toarray())
    joint = symmetric([(0, 1), (2, 3)]).toarray()
    joint[0, 1] = joint[1, 0] = 2  # two common items
    np.testing.assert_array_equal(found["joint"], joint)
    np.testing.assert_array_equal(found["purchase"], 2 * symmetric([(0, 4), (1, 4)]).toarray())  # one item is not enough


def test_every_triangle_of_links_is_one_motif_for_each_pair():
    """Any three users with a link between each two, in whatever directions, make exactly one motif."""
    rng = np.random.default_rng(3)
    links = (rng.random((12, 12)) < 0.4).astype(np.float32)
    np.fill_diagonal(links, 0)
    joined = (links + links.T) > 0
    expected = np.zeros_like(links)
    for a in range(12):
        for b in range(12):
            for c in range(12):
                if len({a, b, c}) == 3 and joined[a, b] and joined[b, c] and joined[a, c]:
                    expected[a, b] += 1
    found = motif_channels(sp.csr_matrix(links), sp.csr_matrix((12, 3), dtype=np.float32))["social"]
    np.testing.assert_array_equal(found.toarray(), expected)


def prepared(dim: int = 4) -> tuple[HypergraphEncoder, Relation, Relations]:
    rng = np.random.default_rng(0)
    buy = Relation.from_coo(rng.integers(0, 8, 30), rng.integers(0, 6, 30), 9, 6)
    follows = Relation.from_coo(rng.integers(0, 8, 40), rng.integers(0, 8, 40), 9, 9)
    etypes = ("user", "buy", "item"), ("user", "follows", "user")
    relations = Relations(dict(zip(etypes, (buy, follows), strict=True)), {"user": 9, "item": 6}, etypes[0])
    encoder = HypergraphEncoder(HypergraphSettings(num_layers=2), dim, torch.Generator().manual_seed(1))
    encoder.prepare(relations, torch.Generator())
    return encoder, buy, relations


def test_output_equals_dense_algebra_with_gradients_to_every_parameter():
    encoder, buy, _ = prepared()
    encoder = encoder.double()
    generator = torch.Generator().manual_seed(2)
    user, item = (torch.randn(n, 4, dtype=torch.float64, generator=generator, requires_grad=True) for n in (9, 6))
    got = encoder(buy, user, item)

    def matrix(relation, weight=None):
        full = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
        full[relation.rows, relation.indices.long()] = 1.0 if weight is None else weight.double()
        return full

    r = matrix(buy)
    r = buy.scale_dst(-0.5, torch.float64)[:, None] * r * buy.scale_src(-0.5, torch.float64)
    h = {name: user * torch.sigmoid(user @ gate.weight + gate.bias) for name, gate in encoder.gates.items()}
    i, sums = item, dict(h)
    item_sum = item

    def mix(parts):
        logits = torch.stack([(parts[c] @ encoder.attention) @ encoder.query for c in CHANNELS])
        share = torch.softmax(logits, 0)
        return sum(share[k][:, None] * parts[c] for k, c in enumerate(CHANNELS))

    unit = torch.nn.functional.normalize
    for _ in range(2):
        mixed = mix(h) + h["plain"] / 2
        h = {**{c: matrix(*encoder._channels[c]) @ h[c] for c in CHANNELS}, "plain": r @ i}
        i = r.T @ mixed
        sums, item_sum = {c: sums[c] + unit(h[c], dim=1) for c in sums}, item_sum + unit(i, dim=1)
    expected = mix(sums) + sums["plain"] / 2, item_sum
    variables = [user, item, encoder.attention, encoder.query, *encoder.gates.parameters()]
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6)  # the edge weights are float32
    grads = [torch.autograd.grad(sum(side.square().sum() for side in sides), variables) for sides in (got, expected)]
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_channel_rows_sum_to_one_or_nothing():
    relation, weight = averaging(sp.csr_matrix(np.array([[0, 3, 1], [3, 0, 0], [1, 0, 0]], np.float32)))
    totals = torch.zeros(3).index_add_(0, relation.rows, weight)
    torch.testing.assert_close(totals, torch.ones(3))


def test_mutual_information_prefers_users_that_agree_with_their_hyperedges():
    encoder, buy, _ = prepared()
    generator = torch.Generator().manual_seed(4)
    user = torch.randn(9, 4, generator=generator)

    def loss_of(views):
        class Views(torch.nn.Module):
            def channel_views(self, _):
                return views

        return float(HierarchicalMutualInformation()(Step(Views(), buy, user, user, None, user, user)))

    torch.manual_seed(0)
    agreeing = loss_of([(user * 3, user * 3)])
    torch.manual_seed(0)
    assert agreeing < loss_of([(user * 3, -user * 3)])
    user.requires_grad_()
    HierarchicalMutualInformation()(Step(encoder, buy, user, user, None, user, user)).backward()
    assert all(gate.weight.grad.abs().sum() > 0 for gate in encoder.views.values())
    with pytest.raises(ConfigError, match="IdentityEncoder has none; set encoder"):
        HierarchicalMutualInformation().check_encoder(IdentityEncoder(), Negatives("none"))
