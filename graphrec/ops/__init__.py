"""Message-passing and ranking operators over a `Relation`: native kernels where they were built, plain torch elsewhere."""

from graphrec import _kernels
from graphrec.ops.relation import Relation
from graphrec.ops.spmm import spmm, spmm_compact, spmm_forward
from graphrec.ops.topk import select_topk, topk_scores

__all__ = ["Relation", "backend", "select_topk", "spmm", "spmm_compact", "spmm_forward", "topk_scores"]


def backend() -> str:
    """Name the CPU implementation in use: `"native-avx512"`, `"native-avx2"`, `"native-generic"` or `"reference"`."""
    library = _kernels.library()
    return "reference" if library is None else f"native-{library.graphrec_cpu_variant().decode()}"
