"""What every export format gets and gives: the vectors of one node type, the options, and the format's own record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from graphrec.errors import unknown_name
from graphrec.progress import Reporter
from graphrec.retrieval import EXPORTERS
from graphrec.settings import Settings


@dataclass(frozen=True)
class VectorTable:
    """The vectors of one node type, row by row with their original ids.

    Attributes:
        ntype: node type, "user" or "item"; formats use it in file and column names.
        ids: original ids, n values, Int64 or String, in the order of the dense index.
        vectors: (n, D) float32, C-contiguous, finite, read-only.
    """

    ntype: str
    ids: pl.Series
    vectors: np.ndarray

    def id_frame(self) -> pl.DataFrame:
        """Return the columns `row` and `<ntype>_id`, one line per vector in row order, ids in the source's type."""
        rows = pl.Series("row", np.arange(len(self.ids), dtype=np.int64))
        return pl.DataFrame([rows, self.ids.rename(f"{self.ntype}_id")])

    @property
    def id_type(self) -> str:
        """The type of the ids in the source: "int64" or "string"."""
        return "string" if self.ids.dtype == pl.String else "int64"


class ExportSettings(Settings):
    """What to export. Section `[export]` of the run file.

    The approximate indexes take their defaults from the FAISS guidelines
    (https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index): about 4·sqrt(n) IVF lists, HNSW
    with 32 links.
    """

    formats: tuple[str, ...] = Field(default_factory=lambda: tuple(EXPORTERS), min_length=1)
    index: Literal["flat", "hnsw", "ivf"] = "flat"
    """FAISS index of the items: flat is exact; hnsw and ivf are approximate and answer faster on large catalogues."""
    hnsw_links: int = Field(32, ge=2, le=512)
    hnsw_ef_construction: int = Field(200, ge=1)
    hnsw_ef_search: int = Field(128, ge=1)
    ivf_lists: int | None = Field(None, ge=1)
    """IVF lists; None: 4·sqrt(items). Lowered, with a note, so that each list has 39 items to be trained on."""
    ivf_probes: int | None = Field(None, ge=1)
    """IVF lists visited per query; None: the fewest that find 95 % of the exact top 10, measured on a sample of the users."""

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for name in formats:
            if name not in EXPORTERS:
                raise ValueError(str(unknown_name("export format", name, EXPORTERS)))
        return tuple(dict.fromkeys(formats))


@dataclass(frozen=True)
class Written:
    """What a format wrote beyond its files: parameters for the manifest, and notes that the user should read."""

    parameters: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exporter:
    """One export format: the value that `EXPORTERS` names.

    Attributes:
        summary: one line for README.txt and `graphrec export --help`.
        write: called with the tables, the format's own (existing, empty) folder, the settings and a progress reporter.
        example: Python that, run in the export folder, ranks the items for the first user and leaves their ids, best
            first, in `top_items`. It goes into README.txt and the tests run it.
    """

    summary: str
    write: Callable[[list[VectorTable], Path, ExportSettings, Reporter], Written]
    example: str
