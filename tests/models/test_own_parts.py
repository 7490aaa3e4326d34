"""Models and parts of one's own, registered at run time: what does not keep the contracts is refused in words."""

from __future__ import annotations

import pytest

from graphrec.models import create
from graphrec.nn import ENCODERS
from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows
from graphrec.settings import Settings
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
