"""A composition with each registered head: what every recommender must do, trained on the checkerboard."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.evaluation.evaluate import evaluate
from graphrec.models import create, load_model
from graphrec.nn import HEADS
from graphrec.nn.mlp_head import MLPHead
from graphrec.retrieval.export import export
from graphrec.training.train import train
from tests.models.conftest import NUM_USERS, TRAINING

ALL_USERS = np.arange(NUM_USERS)
LOSSES = {"cosine": {"name": "sampled-softmax"}}


def learn(name, store, folder, **training):
    parts = {"head": name, "loss": LOSSES.get(name, "bpr"), "embedding_dim": 16}
    return train(store, create("composed", parts), folder, {**TRAINING, **training}).model


@pytest.fixture(scope="module", params=HEADS)
def trained(request, board, tmp_path_factory):
    return request.param, learn(request.param, board, tmp_path_factory.mktemp("heads") / "run")


@pytest.mark.parametrize("name", HEADS)
def test_the_same_seed_gives_the_same_weights(name, board, tmp_path):
    first, again = (learn(name, board, tmp_path / part, epochs=5)._state() for part in ("first", "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_saved_and_loaded_scores_are_equal(trained, tmp_path):
    _, model = trained
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.settings == model.settings
    assert torch.equal(loaded.score(ALL_USERS), model.score(ALL_USERS))
    assert loaded.recommend(["u003"], 5).equals(model.recommend(["u003"], 5))


def test_a_batch_equals_its_singles_and_training_scores_as_ranking_does(trained):
    _, model = trained
    users = np.array([5, 0, 17, 5])
    singles = torch.cat([model.score(np.array([user])) for user in users])
    torch.testing.assert_close(model.score(users), singles, rtol=1e-5, atol=1e-6)


def test_it_finds_the_held_out_items_of_the_colour(trained, board):
    name, model = trained
    recall = evaluate(model, board, k=6, metrics="recall", bootstrap=0).metrics["recall@6"]
    assert recall > 0.95, name
    assert len(model.recommend(["u003"], 4)) == 4


def test_the_export_says_whether_dot_products_rank(trained, tmp_path):
    name, model = trained
    done = export(model, tmp_path / "export", "npy")
    text = " ".join(done.manifest["notes"])
    said = "do not rank as the model does" in text and f'"{name}" head' in text
    assert said != model.scores_are_dot_products
    assert said == ("do not rank as the model does" in (tmp_path / "export" / "README.txt").read_text())
    assert json.loads((tmp_path / "export" / "manifest.json").read_text())["notes"] == done.manifest["notes"]


def test_the_saved_perceptron_is_the_trained_one(trained, board):
    name, model = trained
    if name != "mlp":
        assert not any(key.startswith("head.") for key in model._state())
        return
    head = MLPHead(None, 16)
    head.load_state_dict({key[5:]: value for key, value in model._state().items() if key.startswith("head.")})
    with torch.no_grad():
        expected = head.matrix(*head.prepare(*model._vectors))
    torch.testing.assert_close(model.score(ALL_USERS), expected)
    assert bool(head.hidden_weight.detach().any())


@pytest.mark.parametrize("loss", ["bce", "sampled-softmax"])
@pytest.mark.parametrize("head", ["bilinear", "mlp"])
def test_other_losses_train_the_head_too(head, loss, board):
    model = create("composed", {"head": head, "loss": loss, "embedding_dim": 8})
    model.prepare(board, seed=0)
    from graphrec.training.settings import TrainSettings
    from graphrec.training.train import make_sampler

    batch = next(make_sampler(model, TrainSettings(batch_size=32)).batches(0))
    for precision in ("fp32", "bf16"):
        model.network.zero_grad()
        model.batch_loss(batch, precision=precision)[0].backward()
        moved = [name for name, p in model.network.head.named_parameters() if p.grad is not None and bool(p.grad.any())]
        assert ("weight" if head == "bilinear" else "hidden_weight") in moved


@pytest.mark.parametrize("head", ["bilinear", "mlp"])
def test_a_loss_of_cosines_refuses_the_head(head):
    with pytest.raises(ConfigError, match='"ccl" compares cosines'):
        create("composed", {"head": head, "loss": "ccl"})


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"name": "mlp", "hidden": []}, "hidden: "),
        ({"name": "mlp", "hidden": [8, 0]}, "every width must be at least 1"),
        ({"name": "mlp", "inputs": "sum"}, "inputs: "),
        ({"name": "mlp", "dropout": 1.0}, "dropout: "),
        ({"name": "bilinear", "rank": 3}, "rank: unknown key"),
        ("billinear", "did you mean 'bilinear'"),
    ],
)
def test_bad_settings_of_heads_are_refused(head, message):
    with pytest.raises(ConfigError, match=message):
        create("composed", {"head": head})
