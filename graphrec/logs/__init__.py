"""The registry of log readers: one line per format, imported only when it is asked for."""

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
