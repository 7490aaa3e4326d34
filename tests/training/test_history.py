"""The past of sampled training: exact where nothing has changed since, no part of the gradient, taken in blocks, refused clearly."""

from __future__ import annotations

import pytest
import torch

import graphrec
from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.nn.layerwise import Table
from graphrec.progress import SILENT
from graphrec.settings import parse
from graphrec.training.history import History
from graphrec.training.loop import Loop
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler, train
from tests.training.conftest import NUM_USERS


def prepared(board, num_layers):
    model = create("lightgcn", {"embedding_dim": 8, "num_layers": num_layers, "head": "cosine", "loss": "sampled-softmax"})
    model.prepare(board, seed=3)
    model.network.double()
    return model


def first_batch(model, num_layers, fanout=1):
    sampling = {"batch_size": 16, "batching": "sampled", "fanouts": [fanout] * num_layers}
    return next(make_sampler(model, parse(TrainSettings, sampling, "train")).batches(0))


def encoded(model, batch, neighbourhood):
    x = model.network.inputs.rows(neighbourhood.users, neighbourhood.items)
    at = batch.local()
    return model.network.encoder(neighbourhood.relation, *x, at.user_rows, at.item_rows)


@pytest.mark.parametrize("block", [0, 1, 7])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_with_the_past_of_the_present_one_neighbour_is_as_good_as_all(num_layers, block, board, tmp_path):
    model = prepared(board, num_layers)
    batch = first_batch(model, num_layers)
    history = History(model, block, tmp_path)
    history.take()
    whole = model.network.encoder(model.relation, *model.network.inputs(), batch.user_rows, batch.item_rows)
    for ours, without, exact in zip(
        encoded(model, batch, history.onto(batch.neighbourhood)), encoded(model, batch, batch.neighbourhood), whole, strict=True
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)
        assert (without - exact).abs().max() > 1e-2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_layers", [1, 3])
def test_after_a_step_the_draws_stand_for_the_change_alone(num_layers, board, tmp_path):
    model = prepared(board, num_layers)
    history = History(model, 5, tmp_path)
    history.take()
    with torch.no_grad():
        for table in model.network.inputs.parameters():
            table += 1e-3 * torch.randn_like(table)
    batch = first_batch(model, num_layers)
    whole = model.network.encoder(model.relation, *model.network.inputs(), batch.user_rows, batch.item_rows)
    with_past, without = (encoded(model, batch, part) for part in (history.onto(batch.neighbourhood), batch.neighbourhood))
    for ours, plain, exact in zip(with_past, without, whole, strict=True):
        assert 0 < (ours - exact).abs().max() < 0.02 * (plain - exact).abs().max()
    tables = list(model.network.inputs.parameters())
    grads = [torch.autograd.grad(sum(side.sum() for side in sides), tables) for sides in (with_past, without)]
    for ours, plain in zip(*grads, strict=True):
        torch.testing.assert_close(ours.to_dense(), plain.to_dense(), rtol=1e-12, atol=1e-12)


def test_with_every_edge_drawn_a_training_is_that_without_history(board, tmp_path):
    settings = {"epochs": 2, "batch_size": 16, "batching": "sampled", "fanouts": [NUM_USERS] * 2, "learning_rate": 0.01}
    shape = {"embedding_dim": 8, "num_layers": 2}
    runs = [
        train(board, "lightgcn", tmp_path / str(every), settings | {"history_every": every}, model_settings=shape) for every in (None, 3)
    ]
    for ours, theirs in zip(*(run.model.embeddings().values() for run in runs), strict=True):
        assert abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("every", [1, 4])
def test_it_is_taken_every_so_many_steps_and_goes_with_the_checkpoint(every, board, tmp_path, monkeypatch):
    model = prepared(board, 2)
    settings = {"epochs": 1, "batch_size": 16, "batching": "sampled", "fanouts": [2, 2], "history_every": every, "checkpoint_every": 0}
    chosen = parse(TrainSettings, settings, "train")
    sampler, taken = make_sampler(model, chosen), []
    take = History.take
    monkeypatch.setattr(History, "take", lambda self: (taken.append(loop.position.steps), take(self)))
    loop = Loop(model, sampler, chosen, tmp_path, None, SILENT)
    loop.run()
    assert taken == list(range(0, sampler.steps_per_epoch, every))
    kept = graphrec.checkpoints.load(tmp_path / "checkpoints" / "last")[0]
    for name, table in zip(("user", "item"), loop.history._tables[0], strict=True):
        assert torch.equal(kept[f"history.{name}"], table.rows)
    again = History(model, 0, tmp_path)
    again.restore(kept)
    for ours, theirs in zip(again._tables, loop.history._tables, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert isinstance(one, Table)
            torch.testing.assert_close(one.rows, other.rows, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("lightgcn", {"batching": "full"}, 'history_every is of sampled batches, got history_every = 5 with batching = "full"'),
        ("lightgcn", {"history_every": 0}, "history_every"),
        ("gat", {}, "the encoder of gat .GATEncoder. takes nothing from earlier passes.* leave history_every out"),
        ("simgcl", {}, "encoder of simgcl"),
        ("bpr-mf", {}, "encoder of bpr-mf"),
    ],
)
def test_what_takes_no_past_is_refused(model, settings, words, board, tmp_path):
    with pytest.raises(ConfigError, match=words):
        train(board, model, tmp_path / "run", {"batching": "sampled", "history_every": 5, **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["directau", "sgl"])
def test_other_models_of_this_propagation_take_it_too(name, board, tmp_path):
    settings = {"epochs": 1, "batch_size": 32, "batching": "sampled", "history_every": 2}
    assert train(board, name, tmp_path / "run", settings).summary()["epochs"] == 1
