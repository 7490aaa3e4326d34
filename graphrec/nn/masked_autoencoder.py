"""The masked graph autoencoder: it learns to tell the edges that it is not shown from those that it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphrec.nn.autoencoder import GAE, Rows, Tables
from graphrec.nn.masking import keep_edges, mask_edges, undirected_edges
from graphrec.ops import Relation


class MaskedGAE(GAE):
    """A `GAE` that, in training mode, masks a share of the edges in every pass and encodes the others.

    A masked edge carries no message in either direction. `masked` of the last pass, int64 (n, 2), are the edges to decode:
    pairs of nodes, or of a user and an item. In evaluation mode all edges are seen.

    Args:
        dims, generator, activation, dropout, make_layer: as for `GAE`.
        mask_share: probability in (0, 1) that an edge is masked; 0.7 is the choice of Li et al.

    Source: Li et al. 2023, What's behind the mask: understanding masked graph modeling for graph autoencoders (MaskGAE),
    arXiv:2205.10053, edge-wise masking.
    """

    def __init__(self, *arguments: Any, mask_share: float = 0.7, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not 0 < mask_share < 1:
            raise ValueError(f"MaskedGAE: mask_share must be in (0, 1), got {mask_share}")
        self.mask_share = mask_share
        self._numbered: tuple[Relation | None, bool, Tensor | None, Tensor | None] = None, False, None, None

    def forward(self, relation: Relation | Any, tables: Tables, rows: Rows | None = None) -> Tables:
        """Encode what is not masked, or all in evaluation mode; arguments and result as for `GAE.forward`."""
        relation = self._relation_of(relation, tables, rows)
        if self.training:
            relation, self.masked = self.mask(relation, two_types=len(tables) == 2)
        return self.propagate(relation, tables, rows)

    def mask(self, relation: Relation, two_types: bool = False) -> tuple[Relation, Tensor]:
        """Draw a mask from torch's own generator.

        Args:
            relation: symmetric, so that an edge is masked in both directions; or of two node types.
            two_types: whether rows and columns are nodes of different types.

        Returns:
            The relation of the visible edges, and the masked edges int64 (n, 2), at least one where there are any.
        """
        if self._numbered[0] is not relation or self._numbered[1] != two_types:
            ends = (torch.stack([relation.rows, relation.indices.long()], 1), None) if two_types else undirected_edges(relation)
            self._numbered = relation, two_types, *ends  # finding them costs more than a step
        *_, edges, numbers = self._numbered
        masked = torch.rand(len(edges), device=edges.device) < self.mask_share
        if len(edges):
            masked[torch.randint(len(edges), (1,), device=edges.device)] = True
        visible = keep_edges(relation, ~masked) if two_types else mask_edges(relation, numbers, masked)
        return visible, edges[masked]
