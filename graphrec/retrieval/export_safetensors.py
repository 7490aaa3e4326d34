"""Safetensors: all matrices in one file, and per node type a Parquet file of the original ids of the rows."""

from __future__ import annotations

from pathlib import Path

from graphrec.progress import Reporter
from graphrec.retrieval.vectors import Exporter, ExportSettings, VectorTable, Written


def write(tables: list[VectorTable], folder: Path, settings: ExportSettings, progress: Reporter) -> Written:
    """Write `embeddings.safetensors` (tensor `<ntype>`: (n, D) float32) and `<ntype>_ids.parquet`."""
    from safetensors.numpy import save_file

    metadata = {f"{table.ntype}_ids": f"{table.ntype}_ids.parquet" for table in tables}
    save_file({table.ntype: table.vectors for table in tables}, folder / "embeddings.safetensors", metadata=metadata)
    for table in tables:
        table.id_frame().write_parquet(folder / f"{table.ntype}_ids.parquet")
    return Written({"tensors": {table.ntype: list(table.vectors.shape) for table in tables}})


SAFETENSORS = Exporter(
    summary="one .safetensors file with a tensor per node type, and the original ids of the rows as Parquet",
    write=write,
    example="""\
import polars as pl
from safetensors.torch import load_file
tensors, item_ids = load_file("safetensors/embeddings.safetensors"), pl.read_parquet("safetensors/item_ids.parquet")
scores = tensors["item"] @ tensors["user"][0]
top_items = [item_ids["item_id"][row] for row in scores.argsort(descending=True, stable=True)[:10].tolist()]
""",
)
