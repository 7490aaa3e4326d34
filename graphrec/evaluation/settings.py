"""The settings of an evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from graphrec.errors import nearest
from graphrec.evaluation import METRICS
from graphrec.settings import Settings

DEFAULT_METRICS = (
    "recall", "ndcg", "precision", "hit", "mrr", "map", "coverage", "gini", "novelty", "diversity", "popularity"
)  # fmt: skip


class EvaluateSettings(Settings):
    """The `[evaluate]` section of the run file.

    The protocol is that of LightGCN (He et al., 2020, arXiv 2002.02126): all items are ranked, training items are masked,
    metrics are averaged over the users with a test item.
    """

    k: tuple[int, ...] = Field((10, 20), min_length=1)
    """List lengths."""
    metrics: tuple[str, ...] = Field(DEFAULT_METRICS, min_length=1)
    """Names of registered metrics. `auc` ranks every test item, which takes longer than all the others together."""
    users: int | None = Field(None, ge=1)
    """Users that are ranked, the same random ones every time; left out: all. `coverage` and `gini` are then of fewer lists."""
    mask_valid: bool = Field(True)
    """Also mask the valid items when the test split is ranked."""
    diversity_by: str = Field("co-occurrence")
    """What makes items alike: co-occurrence, or an item feature's name."""
    user_groups: int = Field(4, ge=1, le=100)
    """Quantile groups of users in the breakdown by activity."""
    bootstrap: int = Field(1000, ge=0, le=1_000_000)
    """Draws for the intervals, which for more than 100,000 users are the normal ones, without draws; 0 leaves them out."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Probability that an interval is to cover."""
    block: int | None = Field(None, ge=1)
    """Users ranked at a time; by default as many as fit 128 MB of scores."""
    seed: int = Field(0, ge=0)
    """Fixes the bootstrap draws."""

    @field_validator("k", "metrics", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) else value

    @field_validator("k")
    @classmethod
    def _list_lengths(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError("every list length must be at least 1")
        return tuple(sorted(set(value)))

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; choose from {', '.join(METRICS)}{nearest(name, METRICS)}")
        return tuple(dict.fromkeys(value))
