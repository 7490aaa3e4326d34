"""The registry of log readers: one line per format, imported only when it is asked for, and by what names formats are known.

A reader is a function from a `Source` and the `LogSettings` to a `RawLog` (`graphrec.logs.raw`).
"""

from __future__ import annotations

FORMATS: dict[str, str] = {
    "delimited": "graphrec.logs.delimited:read",
    "parquet": "graphrec.logs.parquet:read",
    "jsonl": "graphrec.logs.jsonl:read",
    "adjacency": "graphrec.logs.adjacency:read",
    "atomic": "graphrec.logs.atomic:read",
    "movielens": "graphrec.logs.movielens:read",
    "sql": "graphrec.logs.sql:read",
}

ENDINGS: dict[str, tuple[str, ...]] = {
    "delimited": (".csv", ".tsv", ".tab", ".dat", ".data"),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "atomic": (".inter",),
}
"""How files of a format end, in small letters and before that of a compression. A file of another ending is known by its first bytes,
so a format without a line here is read only where it is named."""

FOLDERS: dict[str, tuple[str, ...]] = {
    "movielens": ("ratings.csv", "ratings.dat", "u.data"),
    "atomic": ("*.inter",),
    "adjacency": ("train.txt",),
}
"""The formats that may be a whole folder, and the files (globs allowed) one of which such a folder holds."""
