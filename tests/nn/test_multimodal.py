"""FREEDOM's item graph and pruning, VBPR's halves, BM3's targets: on vectors whose neighbours can be seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.features.nodes import NodeFeatures
from graphrec.graph.store import GraphStore
from graphrec.nn.multimodal import (
    BM3Encoder,
    BM3EncoderSettings,
    FreedomEncoder,
    FreedomSettings,
    item_graph,
    prune,
)
from graphrec.nn.vbpr import VBPRInputs, VBPRSettings
from graphrec.ops import Relation
from tests.models.conftest import checkerboard, colour_media, make_store, named

# Items 0, 1 point east and 2, 3 north; item 4 has no picture. By sound 0 and 4 are alike, and 1, 2, 3, 5 have none.
PICTURE = np.array([[9, 0], [1, 0.1], [0, 1], [0.1, 7], [0, 0], [0, 0]], dtype=np.float32)
SOUND = np.array([[1.0], [0], [0], [0], [3], [0]], dtype=np.float32)
MASKS = [PICTURE.any(1), SOUND.any(1)]


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> GraphStore:
    """The checkerboard with vectors that tell colours, some of them missing."""
    train, test = map(named, checkerboard())
    return make_store(tmp_path_factory.mktemp("stores") / "board", train, test, media=colour_media())


def dense(relation: Relation, weight: torch.Tensor) -> np.ndarray:
    found = np.zeros((relation.num_dst, relation.num_src))
    found[relation.rows, relation.indices.long()] = weight
    return found


def test_item_graph_is_the_mean_over_the_modalities_that_an_item_has():
    found = dense(*item_graph([PICTURE, SOUND], MASKS, [3.0, 1.0], 2))
    expected = np.zeros((6, 6))
    expected[0, [0, 1]], expected[0, [0, 4]] = 0.75 / 2, 0.25 / 2
    expected[0] = [0.75 / 2 + 0.25 / 2, 0.75 / 2, 0, 0, 0.25 / 2, 0]
    expected[1, [0, 1]] = expected[2, [2, 3]] = expected[3, [2, 3]] = expected[4, [0, 4]] = 0.5
    expected[5, 5] = 1  # neither seen nor heard: itself
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_pruning_keeps_the_share_and_prefers_edges_of_small_degrees():
    users = [0] * 30 + list(range(1, 31))
    items = [*range(30), *range(30, 60)]  # one user of 30 items, and 30 of one each
    relation, kept = Relation.from_coo(users, items, 31, 60), []
    for seed in range(40):
        torch.manual_seed(seed)
        one = prune(relation, 0.5)
        assert one.num_edges == 30 and one.num_dst == 31
        kept.append(int(one.degree_dst[0]))
    assert np.mean(kept) < 10  # half of 30 if all counted alike
    torch.manual_seed(0)
    again = prune(relation, 0.5).indices
    torch.manual_seed(0)
    assert torch.equal(prune(relation, 0.5).indices, again)


def test_freedom_adds_the_item_graph_to_lightgcn(board):
    encoder, relation = _freedom(board), Relation.from_scipy(board.train_matrix())
    user_x, item_x = torch.randn(40, 4), torch.randn(30, 4)
    user, item = encoder.eval()(relation, user_x, item_x)
    hops = encoder._hops(relation, user_x, item_x)
    torch.testing.assert_close(user, hops[0])
    similar = torch.from_numpy(dense(encoder._similar, encoder._weight)).float()
    torch.testing.assert_close(item, hops[1] + similar @ (similar @ item_x))
    users, items = torch.tensor([3, 1]), torch.tensor([7])
    some = encoder(relation, user_x, item_x, users, items)
    torch.testing.assert_close(some[1], item[items])
    assert not torch.equal(encoder.train()(relation, user_x, item_x)[0], user)  # training leaves edges out


def _freedom(store, **settings) -> FreedomEncoder:
    encoder = FreedomEncoder(FreedomSettings(num_item_layers=2, num_neighbours=4, **settings), 4)
    encoder.read(store, torch.Generator().manual_seed(0))
    return encoder


def test_neighbours_share_the_colour(board):
    encoder = _freedom(board)
    same = encoder._similar.rows % 2 == encoder._similar.indices.long() % 2
    assert same.float().mean() > 0.95


def test_vbpr_uses_what_an_item_has_and_nothing_of_what_it_lacks():
    features = NodeFeatures("item", ("picture", "sound"), (PICTURE, SOUND), tuple(MASKS), (None, None))
    inputs = VBPRInputs(3, features, 6, VBPRSettings(project="none"), torch.Generator().manual_seed(0))
    user, item = inputs()
    assert user.shape == (3, 6) and item.shape == (6, 6)
    assert torch.equal(item[:, :3], inputs.item)
    picture, sound = (tower(values) for tower, values in zip(
        inputs.item_map.towers, (inputs.values_0, inputs.values_1), strict=True
    ))  # fmt: skip
    torch.testing.assert_close(item[0, 3:], picture[0] + sound[0])
    torch.testing.assert_close(item[1, 3:], picture[1])
    torch.testing.assert_close(item[4, 3:], sound[4])
    torch.testing.assert_close(item[5, 3:], inputs.item_map.missing.mean(0))
    rows = inputs.rows(torch.tensor([2]), torch.tensor([4, 0]))
    assert torch.equal(rows[0], user[[2]]) and torch.equal(rows[1], item[[4, 0]])
    with pytest.raises(ConfigError, match="must be even.*got 5"):
        VBPRInputs(3, features, 5, VBPRSettings(), torch.Generator())


def test_bm3_leaves_targets_without_a_gradient(board):
    encoder = BM3Encoder(BM3EncoderSettings(dropout=0.0), 4, generator=torch.Generator().manual_seed(0))
    relation = Relation.from_scipy(board.train_matrix())
    user_x, item_x = torch.randn(40, 4, requires_grad=True), torch.randn(30, 4)
    user, item = encoder.eval()(relation, user_x, item_x)
    assert encoder.targets is None
    encoder.read(board, torch.Generator().manual_seed(0))
    assert torch.equal(encoder.train()(relation, user_x, item_x)[0], user)
    assert not encoder.targets[0].requires_grad
    torch.testing.assert_close(encoder.predictor(encoder.targets[1]), item)


def test_what_is_not_there_is_named_with_the_mend(board, tmp_path):
    with pytest.raises(ConfigError, match=r"modality_weights.*\(audio, image\), got \{'images': 2.0\}"):
        _freedom(board, modality_weights={"images": 2.0})
    with pytest.raises(ConfigError, match="has no feature item.images; it has audio, image"):
        _freedom(board, modalities=["images"])
    plain = make_store(tmp_path / "plain", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match=r"has no item feature; name files with \[log\] media"):
        _freedom(plain)
