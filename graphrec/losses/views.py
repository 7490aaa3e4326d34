"""Random views of a graph: the same nodes, with a share of the edges or of the nodes left out.

In a sample an edge that was drawn in several layers, or from both of its ends, stays or goes in all of them. Which of a node's
other edges stay is not known: its degree counts as many of them as stay on average.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphrec.nn.masking import keep_drawn, keep_edges
from graphrec.ops import Relation, SampledRelation
from graphrec.ops.neighbourhood import USERS
from graphrec.ops.relation import check_unweighted


def drop_edges(relation: Relation, share: float, generator: torch.Generator) -> Relation:
    """Leave out each edge with probability `share`; degrees, and with them the normalisation, are those of what is left.

    Args:
        relation: the whole graph, or a sample as a neighbourhood has it, users as rows.
        share: in [0, 1).
        generator: on the CPU; the same state gives the same view on every device.

    Source: Wu et al. 2021, SGL, arXiv:2010.10783, eq. 6.
    """
    if not isinstance(relation, SampledRelation):
        kept = torch.rand(relation.num_edges, generator=generator) >= share
        return keep_edges(relation, kept.to(relation.device))
    *ends, number = _drawn_edges(relation)
    kept = torch.rand(len(ends[0]), generator=generator) >= share
    return _thinned(relation, ends, number, kept.to(relation.device), (1 - share, 1 - share))


def drop_nodes(relation: Relation, share: float, generator: torch.Generator) -> Relation:
    """Leave out each user and each item, with all of its edges, with probability `share`; arguments as in `drop_edges`.

    Source: Wu et al. 2021, SGL, arXiv:2010.10783, eq. 5.
    """
    sizes = relation.num_dst, relation.num_src
    users, items = ((torch.rand(size, generator=generator) >= share).to(relation.device) for size in sizes)
    if not isinstance(relation, SampledRelation):
        return keep_edges(relation, users[relation.rows] & items[relation.indices.long()])
    *ends, number = _drawn_edges(relation)
    return _thinned(relation, ends, number, users[ends[0]] & items[ends[1]], (users * (1 - share), items * (1 - share)))


def _drawn_edges(relation: SampledRelation) -> tuple[Tensor, Tensor, Tensor]:
    """Users and items (E,) of the distinct edges drawn, ascending, and which of them each edge of `_parts` is."""
    check_unweighted("drop_edges and drop_nodes of a sample", relation)  # the degrees of what is left are counts
    keys = []
    for part in _parts(relation):
        users, items = (part.rows, part.indices) if part.side == USERS else (part.indices, part.rows)
        keys.append(users * relation.num_src + items)
    keys, number = torch.cat(keys).unique(return_inverse=True)
    return keys // max(relation.num_src, 1), keys % max(relation.num_src, 1), number


def _parts(relation: SampledRelation) -> list[SampledRelation]:
    """The draws of all layers, towards users and towards items in turn."""
    layers = [relation.at_layer(index) for index in range(relation.num_layers)]
    return [side for layer in layers for side in (layer, layer.transpose())]


def _thinned(
    relation: SampledRelation,
    ends: Sequence[Tensor],
    number: Tensor,
    kept: Tensor,
    rest: tuple[Tensor | float, Tensor | float],
) -> SampledRelation:
    """The sample without some edges: of those drawn `kept` (E,) says which stay, of a node's others the share `rest` does."""
    degrees = []
    for end, full, share in zip(ends, relation.degrees, rest, strict=True):
        drawn, left = (torch.bincount(one, minlength=len(full)) for one in (end, end[kept]))
        degrees.append(left + (full - drawn).double() * share)
    parts = _parts(relation)
    masks = kept[number].split([part.num_edges for part in parts])
    draws = [keep_drawn(part, mask) for part, mask in zip(parts, masks, strict=True)]
    pairs = tuple(zip(draws[0::2], draws[1::2], strict=True))
    return SampledRelation.of(pairs, tuple(degrees), relation.side, relation.layer)
