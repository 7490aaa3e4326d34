"""Relations with some of their edges left out, for training that must not see the edges it is asked to predict."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from graphrec.ops import Relation, SampledRelation
from graphrec.ops.neighbourhood import Draw


def keep_edges(relation: Relation, keep: Tensor) -> Relation:
    """Return the relation of some of the edges, in one pass over them.

    Args:
        relation: U by I.
        keep: bool (E,), in the order of `relation.indices`.

    Raises:
        ValueError: the mask has another shape or type.
    """
    if keep.dtype != torch.bool or keep.shape != relation.indices.shape:
        raise ValueError(
            f"keep_edges: keep must be bool ({relation.num_edges},), one for each edge, got {keep.dtype} {tuple(keep.shape)}"
        )
    t_keep = keep[relation.t_edges]
    return Relation(
        _starts(relation.indptr, keep),
        relation.indices[keep],
        _starts(relation.t_indptr, t_keep),
        relation.t_indices[t_keep],
        relation.num_dst,
        relation.num_src,
        weight=None if relation.weight is None else relation.weight[keep],
        trusted=True,
    )


def keep_drawn(relation: SampledRelation, keep: Tensor) -> Draw:
    """Return the draw of a sampled relation with some of its edges, each of which stands for as many as before.

    Args:
        relation: whose side and layer say which draw.
        keep: as for `keep_edges`.
    """
    part = keep_edges(relation, keep)
    return replace(relation.draw, **{name: getattr(part, name) for name in ("indptr", "indices", "t_indptr", "t_indices", "weight")})


def edge_positions(relation: Relation, dst: Tensor, src: Tensor) -> tuple[Tensor, Tensor]:
    """Find where pairs are in `relation.indices`.

    Args:
        relation: U by I.
        dst, src: int64 (n,): rows and columns.

    Returns:
        int64 (n,) positions, and bool (n,) whether the pair is an edge at all; the position of one that is not is any.
    """
    if relation.num_edges == 0:
        return torch.zeros_like(dst), torch.zeros_like(dst, dtype=torch.bool)
    keys, wanted = relation.edge_keys, dst * relation.num_src + src
    position = torch.searchsorted(keys, wanted).clamp_max(relation.num_edges - 1)
    return position, keys[position] == wanted


def without_pairs(relation: Relation, dst: Tensor, src: Tensor) -> Relation:
    """Return the relation without the edges (dst, src), int64 (n,) each; pairs that are no edges change nothing."""
    position, found = edge_positions(relation, dst, src)
    keep = torch.ones(relation.num_edges, dtype=torch.bool, device=relation.device)
    keep[position[found]] = False
    return keep_edges(relation, keep)


def undirected_edges(relation: Relation) -> tuple[Tensor, Tensor]:
    """Number the undirected edges of a square symmetric relation without self-loops.

    Returns:
        int64 (E, 2): the ends of each undirected edge, the smaller first, ascending; and int64 (2E,): for each entry of
        `relation.indices` which of them it is.
    """
    low, high = torch.minimum(relation.rows, relation.indices), torch.maximum(relation.rows, relation.indices)
    keys, number = (low * relation.num_src + high).unique(return_inverse=True)
    return torch.stack([keys // relation.num_src, keys % relation.num_src], 1), number


def mask_edges(relation: Relation, numbers: Tensor, masked: Tensor) -> Relation:
    """Return a symmetric relation without its masked edges, in both directions.

    Args:
        relation: square and symmetric.
        numbers: int64 (2E,), the second result of `undirected_edges`.
        masked: bool (E,), by undirected edge.
    """
    return keep_edges(relation, ~masked[numbers])


def _starts(indptr: Tensor, keep: Tensor) -> Tensor:
    counted = torch.cat([indptr.new_zeros(1), keep.cumsum(0)])
    return counted[indptr]
