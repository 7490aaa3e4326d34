"""The encoder that does nothing: with id embeddings and a dot head it makes plain matrix factorisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows, sides_of
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.ops import Relation


class IdentitySettings(Settings):
    """The identity encoder has nothing to set."""


class IdentityEncoder(Encoder):
    """Passes the input embeddings on: e_u = x_u, e_i = x_i.

    Args:
        settings: none are known.
        dim: D of the inputs, and of what comes out.
        generator: not used.
    """

    Settings = IdentitySettings
    hops: ClassVar[int] = 0

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the rows asked for.

        Args:
            relation: says how many users and items there are, and is not used otherwise.
            user_x: (U, D) input embeddings of users.
            item_x: (I, D) input embeddings of items.
            users: int64 (u,) unique user indices, or None for all.
            items: int64 (i,) unique item indices, or None for all.

        Returns:
            (u, D) and (i, D) in the order asked for.
        """
        sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        return at_rows(user_x, users), at_rows(item_x, items)
