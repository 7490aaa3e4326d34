"""Models and parts of one's own, registered at run time: what does not keep the contracts is refused in words."""

from __future__ import annotations

import shutil

import pytest
import torch

from graphrec.errors import ConfigError, RunError
from graphrec.losses import AUXILIARY, LOSSES
from graphrec.losses.batch import Negatives
from graphrec.models import MODELS, create
from graphrec.models.popularity import Popularity
from graphrec.nn import ENCODERS
from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows
from graphrec.settings import Settings
from graphrec.training.run import load
from graphrec.training.train import train
from tests.models.test_trained import BATCH


class OwnSettings(Settings):
    """Nothing to set."""


class AllRows(Encoder):
    """Gives all rows, whatever is asked for."""

    Settings = OwnSettings

    def forward(self, relation, user_x, item_x, users=None, items=None):
        return user_x, item_x


class Narrow(AllRows):
    """Gives half of each row, and says nothing of it in `out_dim`."""

    def forward(self, relation, user_x, item_x, users=None, items=None):
        return tuple(at_rows(x, rows)[:, :32] for x, rows in ((user_x, users), (item_x, items)))


def own(monkeypatch, table: dict[str, str], kind: type, name: str = "own") -> str:
    """Register a class of this file and return its name there."""
    monkeypatch.setitem(table, name, f"{__name__}:{kind.__name__}")
    return name


def test_an_encoder_that_gives_other_rows_than_asked_for_is_refused(board, monkeypatch):
    model = create("composed", encoder=own(monkeypatch, ENCODERS, AllRows))
    model.prepare(board)
    with pytest.raises(ValueError, match="encoder AllRows: asked for 2 users of 64 values each, gave 40 of 64; take only `users`"):
        model.batch_loss(BATCH)
    model.finish()  # all rows are what ranking asks for
    model = create("composed", encoder=own(monkeypatch, ENCODERS, Narrow))
    model.prepare(board)
    for use in (lambda: model.batch_loss(BATCH), model.finish):
        with pytest.raises(ValueError, match=r"encoder Narrow: asked for .* of 64 values each, gave \d+ of 32; .* let out_dim say"):
            use()


class OwnLoss:
    """BPR of the first negative, with all that the page of losses asks for and no more."""

    Settings = OwnSettings

    def __init__(self, settings):
        self.settings, self.negatives = settings, Negatives("rows", 1)

    def __call__(self, positive, negative, batch):
        return torch.nn.functional.softplus(negative[:, 0] - positive).mean()


class NoSettings:
    """What a loss looks like that was written from memory."""


class NoNegatives(OwnLoss):
    """Does not say which negatives it wants."""

    def __init__(self, settings):
        self.settings = settings


class NoRows(OwnLoss):
    """Wants no negatives, and does not take rows."""

    def __init__(self, settings):
        self.settings, self.negatives = settings, Negatives("none")


class OfEachRow(OwnLoss):
    """Forgets the mean, as a main and as an auxiliary loss."""

    def __call__(self, positive, negative=None, batch=None):
        return positive - negative[:, 0] if isinstance(positive, torch.Tensor) else positive.user.sum(-1)


class Learned(torch.nn.Module):
    """Has a scale that nobody trains."""

    Settings = OwnSettings

    def __init__(self, settings):
        super().__init__()
        self.negatives, self.scale = Negatives("rows", 1), torch.nn.Parameter(torch.ones(()))

    def forward(self, positive, negative, batch):
        return torch.nn.functional.softplus(self.scale * (negative[:, 0] - positive)).mean()


class LearnedInside(OwnLoss):
    """Has such a scale in a module, in a class that is none."""

    def __init__(self, settings):
        super().__init__(settings)
        self.inside = torch.nn.Linear(1, 1)


def test_a_loss_written_from_the_page_of_losses_trains(board, monkeypatch):
    mine, bpr = (create("lightgcn", loss=loss) for loss in (own(monkeypatch, LOSSES, OwnLoss), "bpr"))
    losses = []
    for model in (mine, bpr):
        model.prepare(board)
        losses.append(model.batch_loss(BATCH)[0])
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoSettings, rf"loss: own \({__name__}:NoSettings\) says nothing of its settings; give it Settings"),
        (NoNegatives, r'loss "own" must say which negatives it wants; give it self.negatives'),
        (NoRows, r'loss "own" wants no negatives, and so must take rows: give it of_rows\(user, item, batch\)'),
    ],
)
def test_a_loss_that_lacks_a_part_is_refused(monkeypatch, kind, message):
    with pytest.raises(ConfigError, match=f"model lightgcn {message}" if "loss:" in message else f"model lightgcn: {message}"):
        create("lightgcn", loss=own(monkeypatch, LOSSES, kind))
    with pytest.raises(ConfigError, match="model kgcn"):
        create("kgcn", loss="own")


def test_a_loss_that_is_no_number_is_refused(board, monkeypatch):
    for settings, where in (
        ({"loss": own(monkeypatch, LOSSES, OfEachRow)}, "the loss must give one number, .* got the shape (3,)"),
        ({"auxiliary": [{"name": own(monkeypatch, AUXILIARY, OfEachRow), "weight": 1.0}]}, 'the auxiliary loss "own" must .* (2,)'),
    ):
        model = create("composed", settings)
        model.prepare(board)
        with pytest.raises(ValueError, match=where.replace("(", r"\(").replace(")", r"\)") + "; take the mean over the batch"):
            model.batch_loss(BATCH)


@pytest.mark.parametrize(
    ("encoder", "loss", "auxiliary"),
    [
        ("gcn", "bpr", "kl"),
        ("gat", "bpr", "xsimgcl"),
        ({"name": "lightgcn-noise"}, "bpr", "xsimgcl"),
        ("vgae", "bpr", "simgcl"),
        ("gcn", "bpr", "transr"),
        ("gcn", "bpr", "hierarchical-mi"),
        ("gcn", "bpr", "modality-bpr"),
        ("freedom", "sampled-softmax", "modality-bpr"),
    ],
)
def test_an_auxiliary_loss_that_does_not_fit_is_refused_before_there_is_a_run(board, tmp_path, encoder, loss, auxiliary):
    settings = {"encoder": encoder, "loss": loss, "auxiliary": {"name": auxiliary, "weight": 0.1}}
    with pytest.raises(ConfigError, match=f'auxiliary loss "?{auxiliary}'):
        train(board, "composed", tmp_path / "run", model_settings=settings)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_fails_in_the_first_step_leaves_the_folder_free(board, monkeypatch, tmp_path):
    auxiliary = {"name": own(monkeypatch, AUXILIARY, OfEachRow), "weight": 1.0}
    for settings, more in (({"epochs": 1}, {}), ({"epochs": 1}, {"overwrite": True})):
        with pytest.raises(ValueError, match="must give one number"):
            train(board, "composed", tmp_path / "run", settings, model_settings={"auxiliary": auxiliary}, **more)
        train(board, "composed", tmp_path / "run", settings, **more)
    assert not (tmp_path / "run" / "replacement").exists()


def test_beside_other_files_it_leaves_a_run_that_can_be_overwritten(board, monkeypatch, tmp_path):
    auxiliary = {"name": own(monkeypatch, AUXILIARY, OfEachRow), "weight": 1.0}
    (tmp_path / "run").mkdir()
    train(board, "composed", tmp_path / "run", {"epochs": 1})
    shutil.rmtree(tmp_path / "run" / "model")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="must give one number"):
        train(board, "composed", tmp_path / "run", {"epochs": 1}, model_settings={"auxiliary": auxiliary}, overwrite=True)
    train(board, "composed", tmp_path / "run", {"epochs": 1}, overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("kind", "name"), [(Learned, "scale"), (LearnedInside, "inside")])
def test_a_loss_with_parameters_is_refused_for_nobody_would_train_them(board, monkeypatch, kind, name):
    for settings, what in (
        ({"loss": own(monkeypatch, LOSSES, kind)}, "loss"),
        ({"auxiliary": [{"name": own(monkeypatch, AUXILIARY, kind), "weight": 1.0}]}, "auxiliary loss"),
    ):
        with pytest.raises(ConfigError, match=rf'model composed: {what} "own" has parameters of its own \({name}\).* not trained'):
            create("composed", settings).prepare(board)


class Named(Popularity):
    """The opposite of its parent, under a name of its own."""

    name = "own"

    def _score(self, users):
        return -super()._score(users)


class Nameless(Popularity):
    """The same, with the name of its parent."""

    def _score(self, users):
        return -super()._score(users)


def test_a_model_that_its_name_does_not_lead_to_is_refused_before_it_is_trained(board, monkeypatch, tmp_path):
    add = rf'add it: graphrec.models.MODELS\["<its name>"\] = "{__name__}:'
    with pytest.raises(ConfigError, match=rf"'own' leads to no model, not to {__name__}:Named; .*{add}Named"):
        train(board, Named(), tmp_path / "run")
    with pytest.raises(ConfigError, match=rf"'popularity' leads to graphrec.*:Popularity, not to {__name__}:Nameless; .*{add}Nameless"):
        train(board, Nameless(), tmp_path / "run")
    with pytest.raises(ConfigError, match="'popularity' leads to"):
        train(board, own(monkeypatch, MODELS, Nameless, "other"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for model in (Named(), own(monkeypatch, MODELS, Named)):
        run = train(board, model, tmp_path / "run", overwrite=True)
        assert type(load(run.folder).model) is Named
        assert torch.equal(load(run.folder).model.score([0]), run.model.score([0]))


@pytest.mark.parametrize(
    ("give", "got"),
    [
        (lambda scores: scores.numpy(), r"ndarray of float32 \(2, 30\)"),
        (lambda scores: scores.double(), r"Tensor of torch.float64 \(2, 30\)"),
        (lambda scores: scores[:, :29], r"Tensor of torch.float32 \(2, 29\)"),
        (lambda scores: scores[:1], r"Tensor of torch.float32 \(1, 30\)"),
        (lambda scores: None, "NoneType"),
    ],
)
def test_scores_of_another_kind_or_shape_are_refused(board, monkeypatch, give, got):
    model, scores = Popularity().fit(board), torch.zeros(2, 30)
    monkeypatch.setattr(model, "_score", lambda users: give(scores))
    monkeypatch.setattr(model, "_fold_in", lambda histories: give(scores))
    for use in (
        lambda: model.score([0, 1]),
        lambda: model.recommend(["u000", "u001"], 3),
        lambda: model.fold_in([[1000], [1007]]),
        lambda: model.recommend_to_new([[1000], [1007]], 3),
    ):
        with pytest.raises(ValueError, match=rf"popularity: scores must be a torch tensor of float32 \(2, 30\), .* got {got}$"):
            use()


def test_a_model_that_gives_nan_lists_nothing(board, monkeypatch):
    model = Popularity().fit(board)
    monkeypatch.setattr(model, "_score", lambda users: torch.full((len(users), 30), torch.nan))
    with pytest.raises(RunError, match="the popularity model gives NaN as a score, so it cannot rank"):
        model.recommend(["u000", "u001"], 3)
