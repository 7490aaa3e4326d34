"""Models and parts of one's own, registered at run time: what does not keep the contracts is refused in words."""

from __future__ import annotations

import pytest
import torch

from graphrec.errors import ConfigError
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
