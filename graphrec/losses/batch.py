"""The batch that a loss is taken on, and what a loss says about the negatives it wants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from graphrec.errors import nearest
from graphrec.ops import Neighbourhood

_KINDS = "rows", "shared", "in-batch", "none"


@dataclass(frozen=True)
class Negatives:
    """Which negatives a loss wants.

    Attributes:
        kind: "rows": `count` for each positive; "shared": `count` draws for the whole batch; "in-batch": the other
            positives of the batch; "none": no negatives at all.
        count: n for "rows", number of draws for "shared", ignored otherwise.
        hard: for "rows", how many of the n become hard negatives, one more in each epoch after the first.

    Raises:
        ValueError: the kind is none of these, or no negatives are wanted where they are counted.
    """

    kind: Literal["rows", "shared", "in-batch", "none"]
    count: int = 1
    hard: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"Negatives: kind must be one of {', '.join(_KINDS)}, got {self.kind!r}{nearest(self.kind, _KINDS)}")
        if self.kind in ("rows", "shared") and self.count < 1:
            raise ValueError(
                f'Negatives: count must be at least 1 with "{self.kind}", got {self.count}; "none" draws no negatives'
            )


@dataclass(frozen=True)
class Batch:
    """B training pairs and their negatives, as positions in the batch's own unique users and items.

    Compact rows let the encoder compute only what the batch needs, however often an item occurs in it.

    Attributes:
        user_rows: int64 (u,), sorted unique user indices.
        item_rows: int64 (i,), sorted unique item indices of positives and negatives.
        users: int64 (B,), positions in `user_rows`.
        positives: int64 (B,), positions in `item_rows`.
        negatives: int64, positions in `item_rows`: (B, n) for "rows", (B, 0) for "none", else (M,), unique.
        counts: float32 (M,), how often each shared or in-batch negative was drawn; None for "rows" and "none".
        hits: int64 (2, H), the (row, column) pairs of the (B, M) score matrix that are known positives of the row's user
            and must not count as negatives; None for "rows", whose negatives are drawn clean,
            and "none".
        log_q: float32 (M,), log-probability that one draw gives the negative; None for "rows" and "none".
        neighbourhood: the sampled nodes and edges that the rows are computed from; None for the whole graph.
    """

    user_rows: Tensor
    item_rows: Tensor
    users: Tensor
    positives: Tensor
    negatives: Tensor
    counts: Tensor | None = None
    hits: Tensor | None = None
    log_q: Tensor | None = None
    neighbourhood: Neighbourhood | None = None

    @classmethod
    def from_indices(cls, users: Tensor, positives: Tensor, negatives: Tensor) -> Batch:
        """Make a batch with own negatives per row from dense indices (B,), (B,) and (B, n), duplicates allowed."""
        user_rows, user_positions = users.unique(return_inverse=True)
        item_rows, item_positions = torch.cat([positives, negatives.reshape(-1)]).unique(return_inverse=True)
        split = len(positives)
        return cls(
            user_rows,
            item_rows,
            user_positions,
            item_positions[:split],
            item_positions[split:].reshape(negatives.shape),
        )

    def local(self) -> Batch:
        """Return the batch as one of the nodes of its neighbourhood, where its own rows come first."""
        rows = (torch.arange(len(part), device=part.device) for part in (self.user_rows, self.item_rows))
        return replace(self, **dict(zip(("user_rows", "item_rows"), rows, strict=True)))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        if device.type == "cpu":
            return self
        moved = {
            key: None if value is None else value.to(device, non_blocking=True) for key, value in vars(self).items()
        }
        return Batch(**moved)

    def __len__(self) -> int:
        return len(self.users)
