"""FAISS: an inner-product index of the items (flat, HNSW or IVF) and the original ids of its rows.

The users go into a flat index of their own, so that the folder alone answers a query: `reconstruct(row)` gives the
user's vector. An approximate index is measured against exact search when it is built, and the agreement is told and written
to the manifest and README.txt, because maximum inner product is harder for both HNSW and IVF than the distances they were
made for. IVF visits as many lists as it needs for `_WANTED_RECALL`, unless the settings say how many.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np

from graphrec.progress import Reporter
from graphrec.retrieval.vectors import Exporter, ExportSettings, VectorTable, Written

_TRAINING_ITEMS_PER_LIST = 39  # below this FAISS' k-means warns that the lists are not worth much
_CHECKED_USERS = 256
_CHECKED_K = 10
_WANTED_RECALL = 0.95
_MORE = {"ivf": "ivf_probes", "hnsw": "hnsw_ef_search"}


def write(tables: list[VectorTable], folder: Path, settings: ExportSettings, progress: Reporter) -> Written:
    """Write `item.faiss`, `user.faiss` (flat) and `<ntype>_ids.parquet`; row r of an index is row r of its ids file."""
    import faiss

    parameters: dict[str, Any] = {"metric": "inner_product"}
    notes: list[str] = []
    by_type = {table.ntype: table for table in tables}
    for table in tables:
        kind = settings.index if table.ntype == "item" else "flat"
        with progress.task(f"faiss {kind} {table.ntype}", len(table.ids), "rows") as task:
            task.show(step="building")
            index, chosen = _build(table.vectors, kind, settings, notes)
            if kind != "flat" and "user" in by_type:
                task.show(step="measuring against exact search")
                chosen |= _measured(index, kind, table.vectors, by_type["user"].vectors, settings, notes)
            task.advance(len(table.ids))
        parameters[table.ntype] = {"index": kind, "rows": len(table.ids), **chosen}
        faiss.write_index(index, str(folder / f"{table.ntype}.faiss"))
        table.id_frame().write_parquet(folder / f"{table.ntype}_ids.parquet")
    return Written(parameters, notes)


def _build(vectors: np.ndarray, kind: str, settings: ExportSettings, notes: list[str]) -> tuple[Any, dict[str, Any]]:
    import faiss

    n, dim = vectors.shape
    if kind == "flat":
        index, chosen = faiss.IndexFlatIP(dim), {}
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, settings.hnsw_links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings.hnsw_ef_construction
        index.hnsw.efSearch = settings.hnsw_ef_search
        chosen = {
            "links": settings.hnsw_links,
            "ef_construction": settings.hnsw_ef_construction,
            "ef_search": settings.hnsw_ef_search,
        }
    else:
        lists, probes = _ivf_shape(n, settings, notes)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = min(_TRAINING_ITEMS_PER_LIST, max(1, n))
        index.train(vectors)
        index.nprobe = probes
        chosen = {"lists": lists, "probes": probes}
    index.add(vectors)
    return index, chosen


def _ivf_shape(n: int, settings: ExportSettings, notes: list[str]) -> tuple[int, int]:
    wanted = settings.ivf_lists or max(1, round(4 * n**0.5))
    lists = max(1, min(wanted, n // _TRAINING_ITEMS_PER_LIST))
    if lists < wanted:
        notes.append(
            f"faiss ivf: {n:,} items can train at most {max(1, n // _TRAINING_ITEMS_PER_LIST):,} lists of "
            f"{_TRAINING_ITEMS_PER_LIST} items, so {lists:,} lists are used instead of {wanted:,}; a catalogue of this "
            "size is searched faster by the flat index"
        )
    return lists, min(lists, settings.ivf_probes or lists)


def _measured(
    index: Any, kind: str, items: np.ndarray, users: np.ndarray, settings: ExportSettings, notes: list[str]
) -> dict[str, Any]:
    """Set the probes of an IVF index where the settings leave them open, and tell how much of the exact top 10 is found."""
    import faiss

    k = min(_CHECKED_K, len(items))
    queries = users[np.linspace(0, len(users) - 1, min(_CHECKED_USERS, len(users)), dtype=np.int64)]
    exact = faiss.knn(queries, items, k, metric=faiss.METRIC_INNER_PRODUCT)[1]  # (B, k)

    def recall(probes: int | None = None) -> float:
        if probes is not None:
            index.nprobe = probes
        found = index.search(queries, k)[1]  # (B, k)
        return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(found, exact, strict=True)]))

    chosen: dict[str, Any] = {}
    if kind == "ivf" and settings.ivf_probes is None:
        # What more probes find holds what fewer find, so the recall never falls with them.
        probes = 1 + bisect_left(range(1, index.nlist), _WANTED_RECALL, key=recall)
        chosen["probes"] = index.nprobe = probes
    share = recall()
    told = f"faiss {kind}: an approximate index, which finds {share:.1%} of the exact top {k} of {len(queries):,} users"
    if kind == "ivf":
        told += f", visiting {index.nprobe:,} of {index.nlist:,} lists"
    if share < _WANTED_RECALL:
        told += f"; for more raise [export] {_MORE[kind]}, or take the flat index, which is exact"
    notes.append(told)
    return {**chosen, "recall_at_10_of_exact": share}


FAISS = Exporter(
    summary="a FAISS inner-product index of the items, the users' vectors, and the original ids of the rows",
    write=write,
    example="""\
import faiss, polars as pl
items, users = faiss.read_index("faiss/item.faiss"), faiss.read_index("faiss/user.faiss")
item_ids = pl.read_parquet("faiss/item_ids.parquet")["item_id"]
scores, rows = items.search(users.reconstruct(0)[None], 10)
top_items = [item_ids[row] for row in rows[0].tolist() if row >= 0]
""",
)
