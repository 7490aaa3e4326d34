"""What one training step has at hand, for auxiliary losses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from graphrec.losses.batch import Batch
from graphrec.ops import Relation


@dataclass(frozen=True)
class Step:
    """One training step of a composition, after its forward pass.

    Random draws in an auxiliary loss come from torch's own generator: the loop seeds it by the step, so that a resumed run
    draws the same.

    Attributes:
        encoder: in training mode; `encoder(relation, user_x, item_x, users, items)` makes another pass.
        relation: users as rows, items as columns: the whole graph, or the batch's sampled neighbourhood.
        user_x, item_x: (U, D) and (I, D), the inputs of all nodes of `relation`.
        batch: the batch; its rows are those of `user` and `item`.
        user, item: (u, D) and (i, D), the encoded rows of the batch, before the head.
        number: steps completed before this one, for schedules.
    """

    encoder: nn.Module
    relation: Relation
    user_x: Tensor
    item_x: Tensor
    batch: Batch
    user: Tensor
    item: Tensor
    number: int = 0
