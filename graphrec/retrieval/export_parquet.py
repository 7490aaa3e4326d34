"""Parquet: one file per node type with the columns `<ntype>_id` and `vector` (list of float32)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphrec.progress import Reporter
from graphrec.retrieval.vectors import Exporter, ExportSettings, VectorTable, Written

_ROWS_PER_GROUP = 65_536  # bounds the memory of the conversion and lets readers skip


def write(tables: list[VectorTable], folder: Path, settings: ExportSettings, progress: Reporter) -> Written:
    """Write `<ntype>.parquet` for every table, row group by row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for table in tables:
        id_type = pa.int64() if table.id_type == "int64" else pa.string()
        schema = pa.schema([(f"{table.ntype}_id", id_type), ("vector", pa.list_(pa.float32()))])
        dim = table.vectors.shape[1]
        with (
            pq.ParquetWriter(folder / f"{table.ntype}.parquet", schema, compression="zstd") as writer,
            progress.task(f"parquet {table.ntype}", len(table.ids), "rows") as task,
        ):
            for start in range(0, len(table.ids), _ROWS_PER_GROUP):
                vectors = table.vectors[start : start + _ROWS_PER_GROUP]
                offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * dim)
                lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
                ids = table.ids.slice(start, len(vectors)).to_arrow().cast(id_type)
                writer.write_table(pa.table([ids, lists], schema=schema))
                task.advance(len(vectors))
    return Written({"columns": {table.ntype: [f"{table.ntype}_id", "vector"] for table in tables}})


PARQUET = Exporter(
    summary="one Parquet file per node type: the original id and the vector as list<float32>",
    write=write,
    example="""\
import numpy as np, polars as pl
users, items = pl.read_parquet("parquet/user.parquet"), pl.read_parquet("parquet/item.parquet")
item_vectors = np.stack(items["vector"].to_list())
scores = item_vectors @ np.asarray(users["vector"][0], dtype=np.float32)
top_items = [items["item_id"][int(row)] for row in np.argsort(-scores, kind="stable")[:10]]
""",
)
