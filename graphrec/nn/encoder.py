"""How encoders over users and items are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.nn.relations import Relations


class Encoder(nn.Module):
    """Base of encoders, whose `forward(relation, user_x, item_x, users=None, items=None)` gives user and item vectors.

    Where `users` and `items` are given, int64 (u,) and (i,), it gives these rows alone, in their order: `at_rows(x, users)` of
    `graphrec.nn.layer`. Training asks so, for the rows of a batch.

    Args:
        settings: an instance of the class's own `Settings`; None takes the defaults.
        dim: D of the inputs, and of what comes out unless `build` says otherwise with `out_dim`.
        generator: source of the random start.
    """

    Settings: ClassVar[type[Settings]]
    reads_weights: ClassVar[bool] = False
    """Whether a `half_life_days` among the settings comes to `forward` as `relation.weight`."""

    takes_past: ClassVar[bool] = False
    """Whether it reads the `past` of a `SampledRelation`: the inputs, and what `layer` gave after each hop. For encoders without
    parameters: a resumed training takes the past from the inputs anew."""

    reads_link_weights: ClassVar[bool] = True
    """Whether weights of links between users count, where it reads links at all."""

    def __init__(self, settings: Settings | None = None, dim: int = 0, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings, self.dim, self.out_dim = settings or self.Settings(), dim, dim
        self.build(generator)

    def build(self, generator: torch.Generator | None) -> None:
        """Make what needs no graph, from `self.settings` and `self.dim`; nothing by default."""

    def optional(self, relations: Relations) -> list[str]:
        """Names of the relations that the encoder reads and can do without, one at a time; none by default."""
        return []
