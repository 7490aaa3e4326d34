"""From a trained model to something that answers: exports of vectors with original ids, and recommendations by id."""

EXPORTERS: dict[str, str] = {
    "parquet": "graphrec.retrieval.export_parquet:PARQUET",
    "npy": "graphrec.retrieval.export_npy:NPY",
    "safetensors": "graphrec.retrieval.export_safetensors:SAFETENSORS",
    "faiss": "graphrec.retrieval.export_faiss:FAISS",
}
