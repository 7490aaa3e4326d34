"""The settings that trained models share: their inputs, and the parts that can be exchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from graphrec.nn.component import as_table, as_tables
from graphrec.settings import Settings


class InputSettings(Settings):
    """What every trained model starts from. A part is a name, or a table `{name = ..., <its settings>}` (name may be left
    out)."""

    search: ClassVar[Mapping[str, Any]] = {"embedding_dim": [32, 64, 128]}

    embedding_dim: int = Field(default=64, ge=1)
    """D; 64 is the choice of the LightGCN line of work."""
    inputs: dict[str, Any] = Field(default={"name": "id"})
    """What the encoder starts from; see `graphrec.nn.INPUTS`."""

    @field_validator("inputs", "encoder", "head", "loss", mode="before", check_fields=False)
    @classmethod
    def _as_table(cls, value: Any, info: ValidationInfo) -> Any:
        return as_table(value, cls.model_fields[info.field_name].default["name"])


class TrainedSettings(InputSettings):
    """The parts of a trained model that can be exchanged."""

    head: dict[str, Any] = Field(default={"name": "dot"})
    """How two vectors make a score; see `graphrec.nn.HEADS`."""
    loss: dict[str, Any] = Field(default={"name": "bpr"})
    """What is minimised; see `graphrec.losses.LOSSES`."""
    auxiliary: list[dict[str, Any]] = Field(default=[])
    """What is minimised beside it, each `{name = ..., weight = ..., <its settings>}`; see `graphrec.losses.AUXILIARY`."""
    without: list[str] = Field(default=[])
    """Names of relations whose edges the encoder does not get, to see what they are worth; see `graphrec benchmark --ablate`."""
    residual: dict[str, Any] | None = None
    """`{weight = ..., filter = ...}` adds the scores of a closed-form model, by default the graph filter, when scoring and
    ranking; see `ResidualSettings`."""

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _as_tables(cls, value: Any) -> Any:
        return as_tables(value)
