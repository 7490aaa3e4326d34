"""A graph of items that are alike by what training makes of their features, made anew every so often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphrec.ops import Relation, sddmm, spmm, topk_scores


class LearnedItemGraph(nn.Module):
    """S X with S = sum_m a_m D_m^-1/2 A_m D_m^-1/2, A_m the cosines of mapped features of each item and its k nearest.

    The neighbours are found anew in every `refresh_steps`-th training pass; the cosines, through which the maps learn, in every
    pass. a = softmax of learned numbers. Negative cosines count zero. An item that lacks a modality has no neighbours in it.

    Args:
        masks: bool (I,) for each modality, the items that have it.
        count: k, the item itself among them.
        refresh_steps: training passes between two searches.

    Source: Zhang et al. 2021, "Mining Latent Structures for Multimedia Recommendation" (LATTICE), arXiv:2104.09036, eq. 2-6, with one
    search in an epoch. What was found is kept with the parameters, so that a resumed run goes on with it.
    """

    def __init__(self, masks: Sequence[Tensor], count: int, refresh_steps: int) -> None:
        super().__init__()
        self.count, self.refresh_steps = count, refresh_steps
        self.logits = nn.Parameter(torch.zeros(len(masks)))
        self._known = [torch.nonzero(mask)[:, 0] for mask in masks]
        # Checkpoints hold floating parameters alone: item numbers below 2^24 are exact in float32.
        self.passes = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.near = nn.ParameterList(
            [nn.Parameter(torch.zeros(len(known), min(count, len(known))), requires_grad=False) for known in self._known]
        )
        self._made: list[tuple[Tensor, Relation]] = []

    def forward(self, x: Tensor, mapped: Sequence[Tensor]) -> Tensor:
        """Carry vectors of items (I, D) over the graph of mapped features, (I, D) for each modality: (I, D)."""
        passes = int(self.passes)
        if passes == 0 or (self.training and passes % self.refresh_steps == 0):
            self.search(mapped)
        if self.training:
            with torch.no_grad():
                self.passes += 1
        share, total = torch.softmax(self.logits, 0), torch.zeros_like(x)
        for weight, values, relation in zip(share, mapped, self._relations(len(x)), strict=True):
            unit = normalize(values, dim=1)
            alike = sddmm(relation, unit, unit).clamp(min=0)
            degree = x.new_zeros(len(x), dtype=alike.dtype).index_add(0, relation.rows, alike).clamp(min=1e-6)
            alike = alike * degree.rsqrt()[relation.rows] * degree.rsqrt()[relation.indices.long()]
            total = total + weight.to(x.dtype) * spmm(relation, x, edge_weight=alike)
        return total

    @torch.no_grad()
    def search(self, mapped: Sequence[Tensor]) -> None:
        """Find the nearest of each item by the mapped features (I, D) of each modality."""
        for known, near, values in zip(self._known, self.near, mapped, strict=True):
            unit = normalize(values[known.to(values.device)].float(), dim=1)
            near.copy_(topk_scores(unit, unit, near.shape[1])[1])

    def _relations(self, num_items: int) -> list[Relation]:
        """The graph of each modality, made where its neighbours have changed."""
        if len(self._made) != len(self.near) or any(
            not torch.equal(one, near) for (one, _), near in zip(self._made, self.near, strict=True)
        ):
            self._made = []
            for known, near in zip(self._known, self.near, strict=True):
                columns = known[near.long().cpu()].flatten()
                rows = known.repeat_interleave(near.shape[1])
                relation = Relation.from_coo(rows.numpy(), columns.numpy(), num_items, num_items)
                self._made.append((near.detach().clone(), relation.to(near.device)))
        return [relation for _, relation in self._made]
