"""NumPy: per node type a plain `.npy` matrix, a `.npy` of original ids in the source's type, and one small JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from graphrec.progress import Reporter
from graphrec.retrieval.vectors import Exporter, ExportSettings, VectorTable, Written


def write(tables: list[VectorTable], folder: Path, settings: ExportSettings, progress: Reporter) -> Written:
    """Write `<ntype>.npy` (n, D) float32, `<ntype>_ids.npy` (n,) and `embeddings.json`; nothing is pickled."""
    described = {}
    for table in tables:
        ids = table.ids.to_numpy().astype(np.int64 if table.id_type == "int64" else np.str_)
        np.save(folder / f"{table.ntype}.npy", table.vectors, allow_pickle=False)
        np.save(folder / f"{table.ntype}_ids.npy", ids, allow_pickle=False)
        described[table.ntype] = {
            "vectors": f"{table.ntype}.npy",
            "ids": f"{table.ntype}_ids.npy",
            "rows": len(ids),
            "dim": table.vectors.shape[1],
            "dtype": "float32",
            "id_dtype": table.id_type,
        }
    (folder / "embeddings.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return Written({"described_in": "npy/embeddings.json"})


NPY = Exporter(
    summary="plain .npy matrices (can be memory-mapped) with the original ids of the rows beside them",
    write=write,
    example="""\
import numpy as np
user_vectors = np.load("npy/user.npy", mmap_mode="r")
item_vectors, item_ids = np.load("npy/item.npy"), np.load("npy/item_ids.npy")
scores = item_vectors @ user_vectors[0]
top_items = item_ids[np.argsort(-scores, kind="stable")[:10]].tolist()
""",
)
