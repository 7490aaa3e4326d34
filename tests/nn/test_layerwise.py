"""Encoding in blocks gives what encoding at once gives, for any block size, and keeps no more in memory than it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.nn.heads import CosineHead, DotHead
from graphrec.nn.layerwise import encode_in_blocks
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.ops import Relation

NUM_USERS, NUM_ITEMS = 33, 22


@pytest.fixture
def graph():
    rng = np.random.default_rng(4)
    relation = Relation.from_coo(rng.integers(0, 30, 200), rng.integers(0, 20, 200), NUM_USERS, NUM_ITEMS)
    return relation, torch.randn(NUM_USERS, 5), torch.randn(NUM_ITEMS, 5)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("block", [1, 7, 22, 33, 1000])
def test_any_block_size_gives_the_whole_pass(num_layers, block, graph, tmp_path):
    encoder = LightGCNEncoder(LightGCNSettings(num_layers=num_layers))
    whole = encoder(*graph)
    for got, expected in zip(encode_in_blocks(encoder, *graph, block, DotHead().ranking_vectors, tmp_path), whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
    assert not list(tmp_path.iterdir())


def test_the_head_sees_the_last_layer_only(graph):
    encoder = LightGCNEncoder(LightGCNSettings(num_layers=2))
    got = encode_in_blocks(encoder, *graph, 8, CosineHead().ranking_vectors)
    for side, expected in zip(got, CosineHead().ranking_vectors(*encoder(*graph)), strict=True):
        torch.testing.assert_close(side, expected, rtol=1e-6, atol=1e-6)


def test_layers_may_change_the_width_and_no_call_gets_more_rows_than_the_block(graph):
    class Widening(torch.nn.Module):
        hops = 2

        def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):
            assert len(users) + len(items) <= 6
            return tuple(torch.cat([h[rows], h[rows] + 1], 1) for h, rows in ((user_h, users), (item_h, items)))

    user, item = encode_in_blocks(Widening(), *graph, 6, lambda *rows: rows)
    assert user.shape == (NUM_USERS, 20) and item.shape == (NUM_ITEMS, 20)
    x = graph[1]
    torch.testing.assert_close(user, torch.cat([x, x + 1, x + 1, x + 2], 1))
