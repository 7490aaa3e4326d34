"""The loop: steps equal hand-written ones, learning works, and bad runs end with a readable message."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError, RunError
from graphrec.models import create
from graphrec.progress import SILENT
from graphrec.training import loop as loop_module
from graphrec.training.loop import Loop
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler, train
from tests.notes import Notes
from tests.training.conftest import NUM_USERS

FAST = {"epochs": 40, "batch_size": 32, "learning_rate": 0.05, "device": "cpu"}
ALL_USERS = np.arange(NUM_USERS)


def make_loop(store, folder, model="lightgcn", model_settings=None, **settings):
    model = create(model, model_settings)
    chosen = TrainSettings(**{**FAST, **settings})
    model.prepare(store, seed=1)
    return Loop(model, make_sampler(model, chosen), chosen, folder, None, SILENT)


def same_side(model) -> float:
    """Share of users whose best unseen item is of their own colour."""
    lists = model.recommend(ALL_USERS.tolist(), 1)
    return float(((lists["user_id"] % 2) == (lists["item_id"] % 2)).mean())


class DenseLightGCN:
    """LightGCN, BPR, the L2 penalty and Adam in dense float64, written out."""

    def __init__(self, matrix, user, item, num_layers, rate, decay):
        self.user, self.item = (part.detach().double().clone().requires_grad_() for part in (user, item))
        users, items = matrix.shape
        adjacency = torch.zeros(users + items, users + items, dtype=torch.float64)
        adjacency[:users, users:] = torch.from_numpy(matrix.toarray()).double()
        adjacency += adjacency.T.clone()
        scale = adjacency.sum(1).clamp_min(1).rsqrt()
        self.propagation = scale[:, None] * adjacency * scale[None, :]
        self.num_layers, self.rate, self.decay = num_layers, rate, decay
        self.first = [torch.zeros_like(part) for part in (self.user, self.item)]
        self.second = [torch.zeros_like(part) for part in (self.user, self.item)]
        self.steps = 0

    def step(self, users, positives, negatives):
        layers = [torch.cat([self.user, self.item])]
        for _ in range(self.num_layers):
            layers.append(self.propagation @ layers[-1])
        out = torch.stack(layers).mean(0)
        user, item = out[: len(self.user)], out[len(self.user) :]
        gap = (user[users] * item[negatives]).sum(1) - (user[users] * item[positives]).sum(1)
        parts = self.user[users], self.item[positives], self.item[negatives]
        loss = gap.exp().log1p().mean() + self.decay * 0.5 * sum(part.norm() ** 2 for part in parts) / len(users)
        gradients = torch.autograd.grad(loss, (self.user, self.item))
        self.steps += 1
        with torch.no_grad():
            for part, gradient, first, second in zip(
                (self.user, self.item), gradients, self.first, self.second, strict=True
            ):
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                mean, spread = first / (1 - 0.9**self.steps), second / (1 - 0.999**self.steps)
                part -= self.rate * mean / (spread.sqrt() + 1e-8)
        return float(loss.detach())


@pytest.mark.parametrize("num_layers", [1, 3])
def test_steps_equal_dense_ones(board, tmp_path, num_layers):
    loop = make_loop(board, tmp_path, model_settings={"num_layers": num_layers}, weight_decay=0.3, learning_rate=0.01)
    inputs = loop.model.network.inputs
    dense = DenseLightGCN(board.train_matrix(), inputs.user, inputs.item, num_layers, 0.01, 0.3)
    for batch in [*loop.sampler.batches(0)][:3]:
        users, positives = batch.user_rows[batch.users], batch.item_rows[batch.positives]
        expected = dense.step(users, positives, batch.item_rows[batch.negatives][:, 0])
        assert float(loop.step(batch)) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(inputs.user.detach().double(), dense.user.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(inputs.item.detach().double(), dense.item.detach(), rtol=1e-4, atol=1e-6)


def test_gradients_do_not_pile_up(board, tmp_path):
    loop = make_loop(board, tmp_path)
    batch = next(loop.sampler.batches(0))
    loop.step(batch)
    loop.model.network.zero_grad()
    loss, _ = loop.model.batch_loss(batch, loop.settings.weight_decay)
    loss.backward()
    expected = loop.model.network.inputs.user.grad.clone()
    before = loop.model.network.inputs.user.detach().clone()
    loop.step(batch)
    assert not torch.equal(before, loop.model.network.inputs.user)
    torch.testing.assert_close(loop.model.network.inputs.user.grad, expected)


COMPOSITIONS = [
    ("bpr-mf", {}, {}),
    ("lightgcn", {}, {}),
    ("lightgcn", {"inputs": {"init": "spectral"}}, {"sampler": "uniform-edge"}),
    ("lightgcn", {"inputs": {"init": "xavier"}, "loss": "bce"}, {"negative_distribution": "popularity"}),
    ("lightgcn", {"loss": {"name": "sampled-softmax", "temperature": 0.5}, "head": "cosine"}, {"precision": "bf16"}),
    ("lightgcn", {"loss": {"name": "sampled-softmax", "negatives": "shared", "popularity_correction": True}}, {}),
    ("lightgcn", {"loss": {"name": "ccl", "num_negatives": 5}, "head": "cosine"}, {}),
    ("composed", {"encoder": "none", "head": {"name": "cosine", "temperature": 0.5, "ranking": "dot"}}, {}),
]


@pytest.mark.parametrize(("model", "model_settings", "settings"), COMPOSITIONS, ids=str)
def test_every_composition_learns_the_checkerboard(board, tmp_path, model, model_settings, settings):
    chosen = {**FAST, "weight_decay": 0.1, **settings}
    run = train(board, model, tmp_path / "run", chosen, model_settings={"embedding_dim": 16, **model_settings})
    popularity = create("popularity").fit(board)
    assert same_side(run.model) > 0.95
    assert same_side(popularity) < 0.7
    losses = [record["loss"] for record in run.metrics()]
    assert len(losses) == 40 and losses[-1] < 0.8 * losses[0]


def test_bf16_keeps_parameters_and_losses_in_float32(board, tmp_path):
    loop = make_loop(board, tmp_path, model_settings={"loss": "sampled-softmax"}, precision="bf16")
    loss = loop.step(next(loop.sampler.batches(0)))
    assert loss.dtype == torch.float32
    assert {value.dtype for value in loop.parameters.values()} == {torch.float32}
    exact = make_loop(board, tmp_path, model_settings={"loss": "sampled-softmax"})
    other = float(exact.step(next(exact.sampler.batches(0))))
    assert float(loss) == pytest.approx(other, rel=0.02) and float(loss) != other


def test_the_loop_leaves_the_global_generator_alone(board, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(board, "bpr-mf", tmp_path / "run", {**FAST, "epochs": 1})
    assert torch.equal(before, torch.get_rng_state())


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(board, tmp_path):
    with pytest.raises(
        RunError, match=r"the loss became (nan|inf) at step \d+ \(epoch \d+\); lower train.learning_rate.*train again with --overwrite"
    ) as failure:
        train(board, "bpr-mf", tmp_path / "run", {**FAST, "learning_rate": 1e30, "checkpoint_every": 0, "epochs": 9})
    assert (tmp_path / "run" / "checkpoints" / "last" / "state.json").is_file()
    assert not (tmp_path / "run" / "model").exists()
    assert "checkpoint" not in str(failure.value), "there may be none yet"


class Script:
    """A validation that returns metrics from a list and remembers the scores it saw."""

    def __init__(self, *values: float) -> None:
        self.values, self.scores = list(values), []

    def __call__(self, model):
        self.scores.append(model.score(ALL_USERS))
        return {"ndcg@20": self.values[len(self.scores) - 1], "recall@20": 0.5}


def test_early_stopping_keeps_the_best_weights(board, tmp_path):
    script = Script(0.1, 0.3, 0.2, 0.3, 0.9)
    settings = {**FAST, "eval_every": 2, "patience": 2}
    run = train(board, "bpr-mf", tmp_path / "run", settings, validation=lambda *_: script)
    assert len(script.scores) == 4  # 0.2 and 0.3 are not better than 0.3
    assert torch.equal(run.model.score(ALL_USERS), script.scores[1])
    assert not torch.equal(run.model.score(ALL_USERS), script.scores[3])
    records = run.metrics()
    assert len(records) == 8
    assert [record["epoch"] for record in records if "valid" in record] == [2, 4, 6, 8]
    assert run.summary()["best_epoch"] == 4 and run.summary()["valid"]["ndcg@20"] == 0.3


def test_the_last_epoch_is_validated_and_patience_zero_never_stops(board, tmp_path):
    script = Script(0.5, 0.4, 0.3, 0.2)
    settings = {**FAST, "epochs": 7, "eval_every": 2, "patience": 0}
    run = train(board, "bpr-mf", tmp_path / "run", settings, validation=lambda *_: script)
    assert [record["epoch"] for record in run.metrics() if "valid" in record] == [2, 4, 6, 7]


def test_a_stopped_run_goes_on_with_more_patience(board, tmp_path):
    settings = {**FAST, "epochs": 6, "eval_every": 1, "patience": 1}
    first = train(board, "bpr-mf", tmp_path / "run", settings, validation=lambda *_: Script(0.3, 0.2))
    assert first.summary()["epochs"] == 2
    rest = Script(0.4, 0.1, 0.2, 0.1)
    more = {"resume": True, "validation": lambda *_: rest}
    assert train(board, None, tmp_path / "run", {"patience": 3}, **more).summary()["best_epoch"] == 3
    assert len(rest.scores) == 4


def test_a_metric_that_validation_does_not_give_is_named(board, tmp_path):
    settings = {**FAST, "metric": "recal@20", "eval_every": 1}
    with pytest.raises(ConfigError, match=r"not 'recal@20'; did you mean 'recall@20'"):
        train(board, "bpr-mf", tmp_path / "run", settings, validation=lambda *_: Script(1.0))


def test_an_interrupted_run_says_how_to_go_on(board, tmp_path, monkeypatch):
    def interrupted(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "step", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(board, "bpr-mf", tmp_path / "run", FAST)
    assert str(stopped.value) == f"go on with: graphrec train --resume --out {tmp_path / 'run'}"
    monkeypatch.undo()
    assert train(board, None, tmp_path / "run", resume=True).summary()["epochs"] == FAST["epochs"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that the tests move: `clock.step` and `clock.save` are the seconds that a step and a checkpoint take."""
    clock = SimpleNamespace(now=0.0, step=1.0, save=0.0, saved=[])
    step, save = Loop.step, loop_module.checkpoints.save

    def slow_step(self, batch):
        clock.now += clock.step
        return step(self, batch)

    def slow_save(folder, *arguments):
        if folder.name == "last":
            clock.saved.append(clock.now)
            clock.now += clock.save
        save(folder, *arguments)

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(Loop, "step", slow_step)
    monkeypatch.setattr(loop_module.checkpoints, "save", slow_save)
    return clock


@pytest.mark.parametrize(("took", "every", "gaps"), [(0.0, 60, 60), (2.0, 60, 60 + 2), (10.0, 60, 200 + 10), (10.0, 0, 1 + 10)])
def test_checkpoints_take_at_most_a_twentieth_of_the_time(took, every, gaps, clock, board, tmp_path):
    clock.save = took
    train(board, "bpr-mf", tmp_path / "run", {"epochs": 3, "batch_size": 1, "checkpoint_every": every})
    assert clock.saved[0] == max(every, 1)
    assert set(np.diff(clock.saved)[:-1]) == {gaps}  # the last one is written at the end


@pytest.mark.parametrize(
    ("step", "epochs", "told"),
    [
        (2000.0, 10, "an epoch takes about 4 days, the 10 epochs {} 38 days"),
        (100.0, 1, "an epoch takes about 5 h"),
        (1.0, 50, "an epoch takes about 3 min, the 50 epochs {} 2 h"),
        (1.0, 40, None),
    ],
)
@pytest.mark.parametrize(("validation", "bound"), [(None, "about"), (lambda *_: Script(0.1, 0.2), "at most")])
def test_a_training_of_hours_is_told_in_its_first_steps(step, epochs, told, validation, bound, clock, board, tmp_path, monkeypatch):
    class Ended(Exception):
        pass

    def slow_step(self, batch):
        clock.now += step
        if self.position.steps == 30:
            raise Ended
        return one_step(self, batch)

    one_step, clock.step, notes = Loop.step, 0.0, Notes()
    monkeypatch.setattr(Loop, "step", slow_step)
    with pytest.raises(Ended):
        settings = {"epochs": epochs, "batch_size": 1, "checkpoint_every": 1e6}
        train(board, "bpr-mf", tmp_path / "run", settings, validation=validation, progress=notes)
    expected = [f"{told.format(bound)}; a larger train.batch_size makes fewer steps"] if told else []
    assert [line for line in notes.lines if "epoch takes" in line] == expected


@pytest.mark.parametrize(("room", "told"), [(6, True), (7, False)])
def test_a_disk_without_room_for_the_checkpoints_is_told_of_at_the_start(board, tmp_path, monkeypatch, room, told):
    """Six times the weights for the last checkpoint and the one it replaces, once for the best weights."""
    notes, loop = Notes(), make_loop(board, tmp_path, epochs=1)
    loop.progress, loop.validate = notes, lambda model: {loop.settings.metric: 0.5}
    weights = sum(parameter.nbytes for parameter in loop.parameters.values())
    monkeypatch.setattr("graphrec.training.loop.shutil.disk_usage", lambda folder: SimpleNamespace(free=room * weights))
    loop.run()
    assert ["on a full disk" in line for line in notes.lines].count(True) == told
    notes.lines.clear()
    loop._warn_of_disk()  # the checkpoints that are there are written already
    assert not notes.lines
