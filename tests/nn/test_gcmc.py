from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.nn.gcmc import GCMCEncoder, GCMCEncoderSettings, RatingGraph, RatingHead, RatingHeadSettings
from graphrec.nn.layerwise import encode_in_blocks

NUM_USERS, NUM_ITEMS, D, LEVELS = 9, 7, 4, 3


@pytest.fixture(scope="module")
def ratings() -> np.ndarray:
    """Level of each pair, -1 where there is none; the last user and item have no ratings."""
    rng = np.random.default_rng(0)
    table = rng.integers(0, LEVELS, (NUM_USERS, NUM_ITEMS))
    table[rng.random(table.shape) < 0.5] = -1
    table[-1], table[:, -1] = -1, -1
    return table


@pytest.fixture(scope="module")
def graph(ratings) -> RatingGraph:
    user, item = np.nonzero(ratings >= 0)
    indptr = np.append(0, np.bincount(user, minlength=NUM_USERS).cumsum())
    return RatingGraph.from_levels(sp.csr_matrix((ratings[user, item], item, indptr), shape=ratings.shape), LEVELS)


def make(accumulate="sum", normalization="left", **others) -> GCMCEncoder:
    others = {"dropout": 0.0, "node_dropout": 0.0} | others
    settings = GCMCEncoderSettings(
        hidden_dim=6, out_dim=5, accumulate=accumulate, normalization=normalization, **others
    )
    return GCMCEncoder(settings, D, torch.Generator().manual_seed(0), num_levels=LEVELS).double()


@pytest.mark.parametrize("accumulate", ["sum", "stack"])
@pytest.mark.parametrize("normalization", ["left", "symmetric"])
def test_encoder_is_the_sum_of_the_papers_messages(accumulate, normalization, ratings, graph, draw):
    encoder, user_x, item_x = make(accumulate, normalization), draw(NUM_USERS, D), draw(NUM_ITEMS, D)
    weights = encoder.weight.cumsum(0) if accumulate == "sum" else encoder.weight
    expected = []
    for table, x in ((ratings, item_x), (ratings.T, user_x)):
        degree, other = (table >= 0).sum(1), (table >= 0).sum(0)
        rows = []
        for row in range(len(table)):
            parts = [torch.zeros(weights.shape[2], dtype=torch.float64) for _ in range(LEVELS)]
            for column in np.flatnonzero(table[row] >= 0):
                c = degree[row] if normalization == "left" else (degree[row] * other[column]) ** 0.5
                level = table[row, column]
                parts[level] = parts[level] + weights[level].T @ x[column] / c
            rows.append(sum(parts) if accumulate == "sum" else torch.cat(parts))
        expected.append(torch.relu(torch.stack(rows)) @ encoder.dense.weight.T)
    got = encoder(graph, user_x, item_x)
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left, right)
    users, items = torch.tensor([8, 2]), torch.tensor([0, 6, 3])
    some = encoder(graph, user_x, item_x, users, items)
    torch.testing.assert_close(some[0], got[0][users])
    torch.testing.assert_close(some[1], got[1][items])


@pytest.mark.parametrize("settings", [{}, {"accumulate": "stack", "normalization": "left"}])
def test_a_sample_with_every_edge_is_the_graph_itself(settings, graph, draw):
    encoder, inputs = make(**settings), (draw(NUM_USERS, D), draw(NUM_ITEMS, D))
    users, items = torch.tensor([3, 0]), torch.tensor([2])
    hood = graph.neighbourhoods([NUM_USERS]).draw(users, items, seed=1)
    local = inputs[0][hood.users], inputs[1][hood.items]
    sides = encoder(hood.relation, *local, torch.arange(2), torch.arange(1)), encoder(graph, *inputs, users, items)
    weights = [torch.randn_like(side) for side in sides[0]]
    gradients = [
        torch.autograd.grad(sum((one * w).sum() for one, w in zip(side, weights, strict=True)), [*inputs, *encoder.parameters()])
        for side in sides
    ]
    for left, right in (*zip(*sides, strict=True), *zip(*gradients, strict=True)):
        torch.testing.assert_close(left, right)


def test_drawn_edges_keep_their_levels(graph, ratings):
    hood = graph.neighbourhoods([1]).draw(torch.arange(NUM_USERS), torch.arange(NUM_ITEMS), seed=2)
    assert sum(level.num_edges for level in hood.relation.levels) == hood.relation.pattern.num_edges
    for number, level in enumerate(hood.relation.levels):
        assert (ratings[hood.users[level.rows], hood.items[level.indices]] == number).all()
        other = level.transpose()
        assert (ratings[hood.users[other.indices], hood.items[other.rows]] == number).all()


def test_blocks_of_rows_are_those_of_the_whole_pass(graph):
    encoder, inputs = make(accumulate="stack").float(), (torch.randn(NUM_USERS, D), torch.randn(NUM_ITEMS, D))
    with torch.no_grad():
        blocks = encode_in_blocks(encoder, graph, *inputs, 2, lambda *rows: rows)
        for left, right in zip(blocks, encoder(graph, *inputs), strict=True):
            torch.testing.assert_close(left, right)


def test_gradcheck(graph, draw):
    encoder = make()

    def run(user, item):
        return torch.cat(encoder(graph, user, item))

    assert torch.autograd.gradcheck(run, (draw(NUM_USERS, D), draw(NUM_ITEMS, D)))


@pytest.mark.parametrize("which", ["dropout", "node_dropout"])
def test_dropout_only_in_training(which, graph, draw):
    encoder, inputs = make(**{which: 0.5}), (draw(NUM_USERS, D), draw(NUM_ITEMS, D))
    torch.manual_seed(0)
    assert not torch.equal(encoder(graph, *inputs)[0], encoder(graph, *inputs)[0])
    encoder.eval()
    torch.testing.assert_close(encoder(graph, *inputs)[0], make()(graph, *inputs)[0])


def test_a_graph_of_other_levels_is_refused(graph, draw):
    encoder = GCMCEncoder(None, D, torch.Generator(), num_levels=2).double()
    with pytest.raises(ValueError, match="must have 2 levels, got 3; make the encoder with num_levels"):
        encoder(graph, draw(NUM_USERS, D), draw(NUM_ITEMS, D))


def head(levels=(1.0, 2.5, 4.0)) -> RatingHead:
    return RatingHead(RatingHeadSettings(num_bases=2, levels=levels), D, torch.Generator().manual_seed(1)).double()


def test_head_is_the_bilinear_decoder(draw):
    made, user, item = head(), draw(5, D), draw(6, D)
    q = torch.einsum("rs,sde->rde", made.mix, made.bases)
    logits = torch.einsum("ud,rde,ie->uir", user, q, item)
    expected = logits.softmax(-1) @ torch.tensor([1.0, 2.5, 4.0], dtype=torch.float64)
    prepared = made.prepare(user, item)
    torch.testing.assert_close(made.matrix(*prepared), expected)
    torch.testing.assert_close(made.logits(prepared[0], item[:5]), logits[range(5), range(5)])
    torch.testing.assert_close(made.pairs(prepared[0], item[:5]), expected.diagonal())
    several = item[torch.tensor([[0, 1], [2, 3], [4, 5], [0, 5], [1, 2]])]  # (5, 2, D)
    torch.testing.assert_close(
        made.pairs(prepared[0], several),
        expected[torch.arange(5)[:, None], torch.tensor([[0, 1], [2, 3], [4, 5], [0, 5], [1, 2]])],
    )


def test_large_logits_do_not_overflow():
    made, far = head(), torch.full((1, D), 1e4, dtype=torch.float64)
    scores = made.matrix(*made.prepare(far, torch.cat([far, -far])))
    torch.testing.assert_close(scores, made.pairs(*made.prepare(far.expand(2, D), torch.cat([far, -far]))).view(1, 2))
    assert bool(torch.isfinite(scores).all())
