"""The `[tune]` section of a run file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from graphrec.settings import Settings
from graphrec.tuning.entries import Entry, parse_entries


class TuneSettings(Settings):
    """How hyper-parameters are searched for."""

    trials: int = Field(default=30, ge=1)
    """Settings to try, over all processes and sessions of the study; one that was killed does not count and is tried again."""
    minutes: float | None = Field(default=None, gt=0)
    """Time for this session; a trial under way is then given up at its next validation, to be tried again another time."""
    startup_trials: int = Field(default=8, ge=0)
    """Trials drawn at random before the sampler learns from them (Bergstra et al. 2011), none of which is pruned."""
    pruner: Literal["median", "none"] = "median"
    """"median" ends a trial whose best validation so far is below the median of the earlier trials at that epoch."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs before a trial may be pruned."""
    defaults: bool = True
    """Start from the entries that the model and the training bring along; those that the run file sets are left alone."""
    space: dict[str, Any] = Field(default={})
    """What is searched besides, such as `"train.learning_rate" = {low = 1e-4, high = 1e-2, log = true}`, `"model.num_layers"
    = {low = 1, high = 4}` or `"model.loss" = ["bpr", "sampled-softmax"]`; `false` leaves an entry of the defaults out."""

    @field_validator("space", mode="before")
    @classmethod
    def _entries(cls, value: Any) -> dict[str, Entry | bool]:
        return parse_entries(value)
