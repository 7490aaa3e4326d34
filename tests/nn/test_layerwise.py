"""Encoding in blocks gives what encoding at once gives, for any block size, and keeps no more in memory than it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.nn import ENCODERS
from graphrec.nn.component import parse_component
from graphrec.nn.gat import GATEncoder, GATLayer, GATSettings
from graphrec.nn.heads import CosineHead, DotHead
from graphrec.nn.layerwise import encode_in_blocks
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.ops import Relation
from graphrec.registry import resolve

NUM_USERS, NUM_ITEMS = 33, 22

CASES = [
    {"name": "lightgcn-noise", "num_layers": 1},
    {"name": "lightgcn-noise", "num_layers": 3, "contrast_layer": 2},
    {"name": "gcn", "num_layers": 1},
    {"name": "gcn", "num_layers": 3, "hidden_dim": 3, "self_loops": False},
    {"name": "sage", "num_layers": 3, "hidden_dim": 3},
    {"name": "sage", "aggregate": "pool"},
    {"name": "gat", "num_heads": 5},
    {"name": "gat", "num_heads": 2, "head_dim": 3, "self_loops": False, "last_heads": "mean"},
    {"name": "gatv2", "num_layers": 3, "num_heads": 2, "head_dim": 3, "negative_slope": 0.0},
    {"name": "ngcf", "num_layers": 1},
    {"name": "ngcf", "num_layers": 3, "hidden_dim": 4},
    {"name": "ngcf", "normalize": False},
    {"name": "gae", "num_layers": 3, "hidden_dim": 4},
    {"name": "gae", "activation": "none"},
    {"name": "vgae", "num_layers": 1},
    {"name": "vgae", "num_layers": 3},
]


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_every_layered_encoder_gives_its_whole_pass(case, block, graph):
    kind, settings = parse_component("encoder", ENCODERS, case, "test")
    encoder = kind(settings, 5, torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():  # biases too
            parameter.normal_(std=0.5)
        whole = encoder(*graph)
        got = encode_in_blocks(encoder, *graph, block, DotHead().ranking_vectors)
    for left, right in zip(got, whole, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_no_encoder_is_left_out_above():
    layered = {name for name in ENCODERS if hasattr(resolve("encoder", ENCODERS, name), "layer")}
    assert layered == {case["name"] for case in CASES} | {"lightgcn", "pinsage"}  # which have tests of their own


def test_a_block_reads_only_what_its_rows_reach(graph, monkeypatch):
    relation, seen, propagate = graph[0], [], GATLayer.propagate

    def watched(self, block, src_x, dst_x, rows=None):
        seen.append((len(dst_x), len(src_x), block.num_edges))
        return propagate(self, block, src_x, dst_x, rows)

    monkeypatch.setattr(GATLayer, "propagate", watched)
    encoder = GATEncoder(GATSettings(num_layers=1, num_heads=1), 5).eval()
    with torch.no_grad():
        encode_in_blocks(encoder, *graph, 1, DotHead().ranking_vectors)
    users = [(1, degree, degree) for degree in relation.degree_dst.tolist()]
    items = [(1, degree, degree) for degree in relation.degree_src.tolist()]
    assert [one for one in seen if one[0]] == users + items and len(seen) == 2 * (NUM_USERS + NUM_ITEMS)


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
