"""The `[features]` section of a run file: which text or files of which nodes become vectors, and by what encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from graphrec.errors import ConfigError
from graphrec.features import FILE_ENCODERS
from graphrec.features.finetune_settings import FinetuneSettings
from graphrec.features.text import parse_encoder
from graphrec.registry import resolve
from graphrec.settings import Settings, parse


class TextFeature(Settings):
    """`[features.item.<name>]` or `[features.user.<name>]`: vectors of texts made from a node's columns."""

    columns: list[str] = Field(default=[])
    """Columns of the item or user table whose values are joined; empty: those that usually hold text, such as title, author,
    category, tags and description."""
    template: str | None = None
    """A text with column names in braces, in the place of `columns`: "{title} by {author}. Tags: {tags}". For users,
    {history} stands for the items that they have chosen in training."""
    encoder: dict[str, Any] = Field(default={"name": "wordllama"})
    """A name or a table of a name and settings: wordllama, tfidf or transformers."""
    history_columns: list[str] = Field(default=[])
    """For {history}: the item columns it consists of; empty: the title."""
    history_items: int = Field(default=50, ge=1)
    """For {history}: items per user at most, those of the largest weight first."""
    keywords: int = Field(default=0, ge=0)
    """Words per node in a readable profile, profiles/<type>.<name>.parquet in the store; 0 writes none."""

    @field_validator("encoder", mode="before")
    @classmethod
    def _encoder(cls, value: Any) -> dict[str, Any]:
        if not isinstance(value, str | Mapping):
            raise ValueError("give a name, or a table with a name and settings")  # noqa: TRY004 - pydantic reports it
        try:
            return parse_encoder(value, "encoder")
        except ConfigError as problem:
            raise ValueError(str(problem)) from None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.columns and self.template is not None:
            raise ValueError("give either columns or a template, not both")
        return self


class FileFeature(Settings):
    """`[features.media.<name>]`: vectors of image or sound files of items."""

    column: str = Field(min_length=1)
    """The column of the item table that holds file names; an item without one has no vector."""
    folder: str = "."
    """Where the file names start."""
    encoder: dict[str, Any] = Field(default={"name": "image"})
    """A table of a name, image or audio, and settings; `model` names a vision or sound model of transformers."""

    @field_validator("encoder", mode="before")
    @classmethod
    def _encoder(cls, value: Any) -> dict[str, Any]:
        if not isinstance(value, str | Mapping):
            raise ValueError("give a name, or a table with a name and settings")  # noqa: TRY004 - pydantic reports it
        values = {"name": value} if isinstance(value, str) else dict(value)
        name = values.pop("name", "image")
        try:
            kind = resolve("file encoder", FILE_ENCODERS, name)
            return {"name": name, **parse(kind.Settings, values, f"encoder {name}").model_dump(mode="json")}
        except ConfigError as problem:
            raise ValueError(str(problem)) from None


class FeaturesSettings(Settings):
    """The `[features]` section. Vectors that the log brings along as arrays (`[log] media`) need no entry here."""

    item: dict[str, TextFeature] = Field(default={})
    """Features from the texts of items, by name: sections such as [features.item.text], with columns or a template."""
    user: dict[str, TextFeature] = Field(default={})
    """Features from the texts of users, by name: sections such as [features.user.taste]."""
    media: dict[str, FileFeature] = Field(default={})
    """Features from image or sound files of items, by name: sections such as [features.media.cover]."""
    finetune: FinetuneSettings = FinetuneSettings()
    """How `graphrec features --finetune NAME` fits the text encoder of items to the training events; needs
    graphrec[finetune]."""
    cache: str = Field(default=".graphrec/vectors", min_length=1)
    """Folder of the vectors that were computed before, relative to the working directory. It may be deleted at any time."""

    @model_validator(mode="after")
    def _history_is_read(self) -> Self:
        for ntype, features in (("item", self.item), ("user", self.user)):
            for name, feature in features.items():
                unread = sorted(feature.model_fields_set & {"history_columns", "history_items"})
                if unread and (ntype == "item" or "{history}" not in (feature.template or "")):
                    raise ValueError(
                        f"{ntype}.{name}: {unread[0]} is read only by a template of users with {{history}}; leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        twice = sorted(set(self.item) & set(self.media))
        if twice:
            raise ValueError(f"item and media both name a feature {twice[0]!r}; rename one")
        return self
