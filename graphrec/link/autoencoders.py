"""Trained link predictors: matrix factorisation, and graph autoencoders plain, variational and masked."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphrec.errors import RunError
from graphrec.link import LAYERS, PLAIN_BETWEEN, WITHOUT_WEIGHTS
from graphrec.link.trained import EncoderSettings, TrainedLinkModel, TrainedLinkSettings, small_mlp
from graphrec.logs.link_graph import LinkGraph
from graphrec.losses.autoencoder import annealed
from graphrec.nn.autoencoder import GAE, VGAE
from graphrec.nn.masked_autoencoder import MaskedGAE
from graphrec.ops import Relation
from graphrec.registry import resolve


class MFSettings(TrainedLinkSettings):
    """Settings of matrix factorisation."""

    inputs: Literal["id"] = "id"
    """Learned vectors only."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Adam's L2 penalty; without a graph nothing else keeps the vectors from fitting single edges."""


class LinkMF(TrainedLinkModel):
    """z_v = x_v: a learned vector a node and no messages, the graph-free baseline.

    Source: Menon and Elkan 2011, Link prediction via matrix factorization, doi:10.1007/978-3-642-23783-6_28; here with
    random non-edges and Adam.
    """

    name = "mf"
    Settings = MFSettings

    def __init__(self, settings=None, **overrides) -> None:  # type: ignore[no-untyped-def]
        super().__init__(settings, **overrides)
        self.settings = self.settings.model_copy(update={"out_dim": self.settings.embedding_dim})

    def _encode(self, relation: Relation, x: Tensor) -> Tensor:
        return x


class LinkGAE(TrainedLinkModel):
    """Z = encoder(A, X), p(A_uv = 1) = sigmoid(decoder(z_u, z_v)).

    Source: Kipf and Welling 2016, arXiv:1611.07308, with sampled non-edges instead of the whole matrix, and a choice of layer
    and decoder.
    """

    name = "gae"
    Settings = EncoderSettings

    def weighs(self, graph: LinkGraph) -> bool:
        """As `LinkModel.weighs`: by `edge_weights` and the layer."""
        return graph.weight is not None and self.settings.edge_weights and self.settings.layer not in WITHOUT_WEIGHTS

    def _modules(self, in_dim: int, generator: torch.Generator) -> dict[str, nn.Module]:
        at = self.settings
        dims = [in_dim, *[at.hidden_dim] * (at.num_layers - 1), at.out_dim]
        between = ("none" if at.layer in PLAIN_BETWEEN else "relu") if at.activation == "auto" else at.activation
        make_layer = resolve("layer", LAYERS, at.layer)
        return {"encoder": self._make(dims, generator, activation=between, dropout=at.dropout, make_layer=make_layer)}

    def _make(self, *arguments, **options) -> GAE:  # type: ignore[no-untyped-def]
        return GAE(*arguments, **options)

    def _encode(self, relation: Relation, x: Tensor) -> Tensor:
        return self.network["encoder"].propagate(relation, (x,))[0]


class VGAESettings(EncoderSettings):
    """Settings of the variational autoencoder."""

    kl_weight: float = Field(default=1.0, ge=0)
    """Of the KL term; 1 is the evidence lower bound over all N^2 pairs, as in Kipf and Welling's public code."""
    anneal_steps: int = Field(default=50, ge=0)
    """Steps over which the KL term rises from 0 to its weight."""
    start_log_std: float = Field(default=-2.0, ge=-10, le=2)
    """Where log std starts, before the last layer adds to it."""


class LinkVGAE(LinkGAE):
    """L = reconstruction + kl_weight a(step) / N * mean over nodes of KL(q(z_v) || N(0, I)); means score.

    Source: Kipf and Welling 2016, arXiv:1611.07308, eq. 1-3, divided by N^2 as their public code does.
    """

    name = "vgae"
    Settings = VGAESettings

    def _make(self, *arguments, **options) -> GAE:  # type: ignore[no-untyped-def]
        return VGAE(*arguments, **options, start_log_std=self.settings.start_log_std)

    def _loss(self, step: int) -> Tensor:
        loss = super()._loss(step)
        factor = self.settings.kl_weight * annealed(step, self.settings.anneal_steps) / self._relation.num_dst
        return loss + factor * self.network["encoder"].posteriors[0].divergence().mean()


class MaskedGAESettings(EncoderSettings):
    """Settings of the masked autoencoder."""

    mask_share: float = Field(default=0.7, gt=0, lt=1)
    """Probability that an edge is masked in a step; 0.7 is the choice of Li et al."""
    degree_weight: float = Field(default=0.01, ge=0)
    """Weight of the degree decoder's squared error; 0 leaves the decoder out."""
    decoder: Literal["dot", "mlp"] = "mlp"
    """As in `TrainedLinkSettings`; the MLP is the choice of Li et al."""


class LinkMaskedGAE(LinkGAE):
    """Each step masks a share of the edges, encodes the rest and decodes the masked ones against random non-edges.

    L = reconstruction of the masked edges + degree_weight * mean over nodes of (MLP(z_v) - log(1 + masked degree of v))^2

    Scores come from the encoding of all training edges.

    Source: Li et al. 2023, What's behind the mask: understanding masked graph modeling for graph autoencoders (MaskGAE),
    arXiv:2205.10053, edge-wise masking. They decode the degree itself; a hub's square would drown all else, so its logarithm
    is decoded here.
    """

    name = "masked-gae"
    Settings = MaskedGAESettings

    def _make(self, *arguments, **options) -> GAE:  # type: ignore[no-untyped-def]
        return MaskedGAE(*arguments, **options, mask_share=self.settings.mask_share)

    def _modules(self, in_dim: int, generator: torch.Generator) -> dict[str, nn.Module]:
        modules = super()._modules(in_dim, generator)
        if self.settings.degree_weight > 0:
            modules["degree"] = small_mlp(self.settings.out_dim, self.settings.hidden_dim, generator)
        return modules

    def masked_relation(self) -> tuple[Relation, Tensor]:
        """Draw a mask: the relation of the visible edges, and the masked edges int64 (n, 2), at least one.

        Raises:
            RunError: the model has not been fitted yet, or was loaded, without its graph.
        """
        _ = self.known
        if not hasattr(self, "_relation"):
            raise RunError(f"this {self.name} predictor was loaded and has no graph whose edges could be masked; fit it on one")
        return self.network["encoder"].mask(self._relation)

    def _loss(self, step: int) -> Tensor:
        relation, masked = self.masked_relation()
        z = self._encode(relation, self.network["inputs"]())
        chosen = masked
        if len(masked) > self.settings.max_edges:
            chosen = masked[torch.randint(len(masked), (self.settings.max_edges,), device=masked.device)]
        loss = self._reconstruction(z, chosen)
        if self.settings.degree_weight == 0:
            return loss
        degree = torch.bincount(masked.reshape(-1), minlength=len(z)).to(z.dtype).log1p()
        error = (self.network["degree"](z).squeeze(-1) - degree).square().mean()
        return loss + self.settings.degree_weight * error
