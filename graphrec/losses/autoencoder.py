"""Auxiliary losses of graph autoencoders: the KL term, and the reconstruction of a block of the adjacency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from graphrec.errors import ConfigError
from graphrec.losses.batch import Negatives
from graphrec.losses.step import Step
from graphrec.ops import Relation
from graphrec.ops.spmm import edges_of_rows, positions_of
from graphrec.settings import Settings


def annealed(number: int, steps: int) -> float:
    """The factor min(1, number / steps) of a term that is phased in over `steps` steps; 1 where `steps` is 0."""
    return 1.0 if steps == 0 else min(1.0, number / steps)


class KLSettings(Settings):
    """Settings of the KL term."""

    search: ClassVar[Mapping[str, Any]] = {"weight": {"low": 1e-4, "high": 1.0, "log": True}}

    anneal_steps: int = Field(default=2000, ge=0)
    """Steps over which its weight rises linearly from 0 to `weight`; 0 gives the full weight at once. Without a rise the
    posterior often collapses to the prior before it has learned anything (Bowman et al. 2016, arXiv:1511.06349)."""


class KL:
    """a(step) * mean over the batch's users and items of KL(q(z) || N(0, I)) / D, in nats a coordinate.

    Needs an encoder with distributions: "vgae". a(step) rises from 0 to 1 over `anneal_steps`.

    Source: Kipf and Welling 2016, arXiv:1611.07308, eq. 3; annealing as in Liang et al. 2018, arXiv:1802.05814, section 2.2.
    Divided by D here, so that a weight keeps its meaning when D changes.
    """

    Settings = KLSettings

    def __init__(self, settings: KLSettings | None = None) -> None:
        self.settings = settings or KLSettings()

    def check_encoder(self, encoder: nn.Module, negatives: Negatives) -> None:
        """Raise ConfigError where the encoder has no distributions."""
        if not hasattr(encoder, "posteriors_of"):
            raise ConfigError(
                f'auxiliary loss "kl" needs an encoder whose vectors are drawn from a distribution, got '
                f'{type(encoder).__name__}; set encoder = "vgae" or leave the loss out'
            )

    def __call__(self, step: Step) -> Tensor:
        """Take the KL term of one step; returns a scalar."""
        encoder, batch = step.encoder, step.batch
        posteriors = encoder.posteriors_of(step.user, step.item)
        if posteriors is None:  # another auxiliary loss has made a pass of its own since
            rows = batch.user_rows, batch.item_rows
            posteriors = encoder.net.encode(step.relation, (step.user_x, step.item_x), rows)
        nats = torch.cat([one.divergence() for one in posteriors])
        return annealed(step.number, self.settings.anneal_steps) * nats.mean() / posteriors[0].mean.shape[-1]


class EdgeReconstructionSettings(Settings):
    """Settings of the edge reconstruction."""

    search: ClassVar[Mapping[str, Any]] = {"weight": {"low": 0.01, "high": 1.0, "log": True}}

    max_users: int = Field(default=256, ge=1)
    """Users of the batch, drawn anew in each step, whose edges are reconstructed; bounds the block's memory."""


class EdgeReconstruction:
    """Weighted cross-entropy of the logits <e_u, e_i> on a block of the adjacency: some users by the batch's items.

    L = 1/2 mean over edges (u, i) of softplus(-<e_u, e_i>) + 1/2 mean over the pairs that are no edges of softplus(<e_u, e_i>)

    It is the decoder p(A_ui = 1) = sigmoid(<e_u, e_i>) of the graph autoencoder, on encoded rows that the step has at hand,
    and knows every edge of the block, so no edge counts as a negative.

    Source: Kipf and Welling 2016, arXiv:1611.07308, eq. 2 and section 3 (re-weighted because A is sparse). They take the whole
    matrix, which a catalogue's size forbids.
    """

    Settings = EdgeReconstructionSettings
    needs_whole_graph: ClassVar[bool] = True  # an edge that was not drawn would count as none

    def __init__(self, settings: EdgeReconstructionSettings | None = None) -> None:
        self.settings = settings or EdgeReconstructionSettings()

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of one step; returns a scalar."""
        rows, items = step.batch.user_rows, step.batch.item_rows
        chosen = torch.arange(len(rows), device=rows.device)
        if len(rows) > self.settings.max_users:
            chosen = torch.randperm(len(rows), device=rows.device)[: self.settings.max_users]
        logits = step.user.index_select(0, chosen).float() @ step.item.float().T  # (b, i)
        edge = block(step.relation, rows[chosen], items)
        parts = [softplus(-logits[edge]), softplus(logits[~edge])]
        return sum(part.mean() for part in parts if part.numel()) / 2


def block(relation: Relation, rows: Tensor, columns: Tensor) -> Tensor:
    """Which pairs of some rows and some columns, int64 (b,) and (c,), distinct each, are edges: bool (b, c)."""
    place, edge = edges_of_rows(relation.indptr, rows)
    column = positions_of(columns, relation.num_src)[relation.indices[edge].long()].long()
    found = torch.zeros(len(rows), len(columns), dtype=torch.bool, device=rows.device)
    found[place[column >= 0], column[column >= 0]] = True
    return found
