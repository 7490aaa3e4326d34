"""Random views of a graph: the same nodes, with a share of the edges or of the nodes left out."""

from __future__ import annotations

import torch

from graphrec.nn.masking import keep_edges
from graphrec.ops import Relation


def drop_edges(relation: Relation, share: float, generator: torch.Generator) -> Relation:
    """Leave out each edge with probability `share`; degrees, and with them the normalisation, are those of what is left.

    Args:
        relation: the whole graph.
        share: in [0, 1).
        generator: on the CPU; the same state gives the same view on every device.

    Source: Wu et al. 2021, SGL, arXiv:2010.10783, eq. 6.
    """
    kept = torch.rand(relation.num_edges, generator=generator) >= share
    return keep_edges(relation, kept.to(relation.device))


def drop_nodes(relation: Relation, share: float, generator: torch.Generator) -> Relation:
    """Leave out each user and each item, with all of its edges, with probability `share`; arguments as in `drop_edges`.

    Source: Wu et al. 2021, SGL, arXiv:2010.10783, eq. 5.
    """
    sides = ((relation.num_dst, relation.rows), (relation.num_src, relation.indices.long()))
    users, items = ((torch.rand(size, generator=generator) >= share).to(relation.device)[ends] for size, ends in sides)
    return keep_edges(relation, users & items)
