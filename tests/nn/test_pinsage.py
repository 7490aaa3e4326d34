"""PinSAGE's convolution against a dense one by hand, on batches, and in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.nn.layerwise import encode_in_blocks
from graphrec.nn.pinsage import PinSAGEEncoder, PinSAGESettings
from graphrec.ops import Relation

NUM_USERS, NUM_ITEMS, DIM = 13, 11, 6


@pytest.fixture(params=[1, 2, 3])
def made(request):
    rng = np.random.default_rng(2)
    relation = Relation.from_coo(rng.integers(0, 12, 40), rng.integers(0, 10, 40), NUM_USERS, NUM_ITEMS)
    settings = PinSAGESettings(num_layers=request.param, num_neighbors=2, num_walks=20)
    encoder = PinSAGEEncoder(settings, DIM, torch.Generator().manual_seed(1)).double()
    encoder.observe(relation)
    return encoder, relation, torch.randn(NUM_USERS, DIM).double(), torch.randn(NUM_ITEMS, DIM).double()


def by_hand(encoder, user, item):
    """Algorithm 1, with importance weights as a dense matrix."""
    edges = encoder._whole
    matrices = []
    for relation, weight in ((edges.to_users, edges.user_weight), (edges.to_items, edges.item_weight)):
        matrix = torch.zeros(relation.num_dst, relation.num_src).double()
        matrix[relation.rows, relation.indices.long()] = weight.double()
        matrices.append(matrix)
    for message, for_user, for_item in zip(encoder.message, encoder.user_update, encoder.item_update, strict=True):
        sent = message(item).relu()
        user, item = (
            torch.nn.functional.normalize(update(torch.cat([h, matrix @ sent], 1)).relu(), dim=1)
            for update, h, matrix in ((for_user, user, matrices[0]), (for_item, item, matrices[1]))
        )
    return encoder.output(encoder.hidden(user).relu()), encoder.output(encoder.hidden(item).relu())


def test_the_whole_graph_equals_the_dense_convolution(made):
    encoder, relation, user, item = made
    for got, expected in zip(encoder(relation, user, item), by_hand(encoder, user, item), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


def test_a_batch_and_its_neighbourhood_give_the_rows_and_gradients_of_the_whole_graph(made):
    encoder, relation, user, item = made
    users, items = torch.tensor([4, 12, 0]), torch.tensor([9, 3])
    hood = encoder.neighbourhoods().draw(users, items, seed=0)
    gradients = []
    for where, nodes, rows in (
        (relation, (torch.arange(NUM_USERS), torch.arange(NUM_ITEMS)), (users, items)),
        (hood.relation, (hood.users, hood.items), (torch.arange(3), torch.arange(2))),
    ):
        tables = [side.clone().requires_grad_() for side in (user, item)]
        got = encoder(where, tables[0][nodes[0]], tables[1][nodes[1]], *rows)
        for side, expected, index in zip(got, encoder(relation, user, item), (users, items), strict=True):
            torch.testing.assert_close(side, expected[index], rtol=1e-9, atol=1e-10)
        gradients.append(torch.autograd.grad(sum(side.sin().sum() for side in got), tables))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_blocks_give_the_whole_pass(made):
    encoder, relation, user, item = made
    encoder, user, item = encoder.float(), user.float(), item.float()
    blocks = encode_in_blocks(encoder, relation, user, item, 4, lambda *rows: rows)
    for got, expected in zip(blocks, encoder(relation, user, item), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_graph_that_was_not_walked_is_named(made):
    encoder, relation, user, item = made
    fresh = PinSAGEEncoder(encoder.settings, DIM).double()
    for use in (lambda: fresh(relation, user, item), fresh.neighbourhoods):
        with pytest.raises(ValueError, match=r"no graph has been walked yet; call observe\(relation\)"):
            use()
