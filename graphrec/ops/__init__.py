"""Message-passing and ranking operators over a `Relation`: native kernels where they were built, plain torch elsewhere."""

import torch

from graphrec import _kernels
from graphrec.ops.adam import FusedAdam
from graphrec.ops.attention import gat, gatv2
from graphrec.ops.hetero import hetero_spmm
from graphrec.ops.losses import bpr, sampled_softmax
from graphrec.ops.neighbourhood import Neighbourhood, NeighbourhoodSampler, SampledRelation
from graphrec.ops.push import push
from graphrec.ops.relation import Relation
from graphrec.ops.row_adam import RowAdam
from graphrec.ops.sampling import AliasTable, sample_negatives, sample_neighbors
from graphrec.ops.sddmm import sddmm
from graphrec.ops.spmm import normalised_forward, spmm, spmm_compact, spmm_forward
from graphrec.ops.topk import select_topk, topk_scores

__all__ = [
    "AliasTable", "FusedAdam", "Neighbourhood", "NeighbourhoodSampler", "Relation", "RowAdam", "SampledRelation", "backend",
    "bpr", "gat", "gatv2", "hetero_spmm", "normalised_forward", "push", "sample_negatives", "sample_neighbors", "sampled_softmax", "sddmm",
    "select_topk", "spmm", "spmm_compact", "spmm_forward", "topk_scores",
]


def backend(device_type: str = "cpu") -> str:
    """Name the implementation in use on a device type, for float32, float64 and bfloat16; any other dtype takes the reference.

    Args:
        device_type: "cpu" or "cuda", or a device of one of these, such as "cuda:0". It need not be there: what counts is what
            was built.

    Returns:
        `"native-avx512"`, `"native-avx2"` or `"native-generic"` for "cpu", `"native-cuda"` for "cuda", or `"reference"`.

    Raises:
        ValueError: another device, on which the operators do not run.
    """
    try:
        kind = torch.device(device_type).type
    except (RuntimeError, TypeError):  # torch knows no such device
        kind = None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f'backend: device_type must be "cpu" or "cuda", got {device_type!r}; operators run on these two alone')
    library = _kernels.library(kind)
    return "reference" if library is None else f"native-{library.variant or library.kind}"
