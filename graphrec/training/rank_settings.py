"""The `[rank]` section of a run file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from graphrec.errors import nearest
from graphrec.losses import LIST_LOSSES
from graphrec.nn.scorer import ScorerSettings
from graphrec.settings import Settings


class RankSettings(Settings):
    """How the second stage is made and trained. `graphrec train --stage rank` reads it."""

    candidates: int = Field(default=200, ge=2)
    """N, items that the retrieval run hands to the second stage for each user; left out in a smaller catalogue, all of it."""
    labels: Literal["auto", "valid", "hold-out"] = "auto"
    """Interactions to learn from, never those of test. "valid": the store's validation split, with the retrieval as it is;
    "hold-out": a part of train put aside, with the retrieval learned again on the rest (of a sum every member, under its own
    weights), and the run itself used afterwards; "auto": valid where the store has it, unless the run started from one that had
    learned from it."""
    hold_out: float = Field(default=0.2, gt=0, lt=1)
    """With "hold-out": share of each user's training items, the latest ones where the store's own split goes by time."""
    loss: str = "lambdarank"
    """What is minimised over each candidate list: "bce", "pairwise", "softmax" or "lambdarank"."""
    network: ScorerSettings = ScorerSettings()
    """The scoring network."""
    vectors: bool = False
    """Whether the network reads the retrieval's vectors of user and item and their product, too, beside cosines and scores of them.
    Only with labels of "valid": a retrieval that is learned again for "hold-out" has its vectors in other directions."""
    epochs: int = Field(default=40, ge=1)
    """Passes over the candidate lists, at most."""
    batch_size: int = Field(default=32, ge=1)
    """Lists, one a user, in a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's rate, falling to zero along a cosine."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay of AdamW; 1e-2 is torch's default."""
    check_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the users whose lists are not trained on but pick the best epoch."""
    metric: str = "ndcg@10"
    """What picks it: NDCG at a list length."""
    patience: int = Field(default=8, ge=0)
    """Stop after this many epochs in a row without a better metric; 0 never stops."""
    max_lists: int = Field(default=20_000, ge=2)
    """Users to learn from, drawn at random where there are more; a list of 200 takes some 30 KB."""
    seed: int = Field(default=0, ge=0)
    """Of every draw and start value; the same seed gives the same weights bit for bit on CPU."""

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, value: str) -> str:
        if value not in LIST_LOSSES:
            raise ValueError(f"choose one of {', '.join(LIST_LOSSES)}{nearest(value, LIST_LOSSES)}")
        return value

    @field_validator("metric")
    @classmethod
    def _ndcg(cls, value: str) -> str:
        name, _, length = value.partition("@")
        if name != "ndcg" or not length.isdigit() or int(length) < 1:
            raise ValueError("give ndcg@k with k of 1 or more, such as 'ndcg@10'")
        return value
