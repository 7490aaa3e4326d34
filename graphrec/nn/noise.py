"""LightGCN propagation with random noise in every layer, for contrastive losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows, sides_of
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings, hop
from graphrec.nn.relations import RecencySettings
from graphrec.ops import Relation, SampledRelation


class NoisyLightGCNSettings(RecencySettings):
    """Settings of the `lightgcn-noise` encoder."""

    search: ClassVar[Mapping[str, Any]] = {
        "num_layers": {"low": 1, "high": 4},
        "noise": {"low": 0.01, "high": 1.0, "log": True},
    }

    num_layers: int = Field(default=3, ge=1, le=16)
    """L, hops of propagation; 3 is the choice of Yu et al. 2022."""
    noise: float = Field(default=0.1, ge=0)
    """epsilon, Euclidean length of the noise added to each vector in each layer; 0.1 is the choice of Yu et al. 2022."""
    contrast_layer: int | None = Field(default=None, ge=1)
    """l, at most L: makes the main pass of training noisy and keeps its layer l for `xsimgcl`. Without it the main pass is
    clean, as in SimGCL."""

    @model_validator(mode="after")
    def _layer_exists(self) -> NoisyLightGCNSettings:
        if self.contrast_layer is not None and self.contrast_layer > self.num_layers:
            raise ValueError(f"contrast_layer must be at most num_layers = {self.num_layers}, got {self.contrast_layer}")
        return self


class NoisyLightGCNEncoder(Encoder):
    """Mean of the embeddings after 1..L hops, without the inputs, and passes with noise while training.

    E = 1/L sum_{l=1..L} H_l with H_l = A H_{l-1} + N_l, A = D^-1/2 (adjacency) D^-1/2, H_0 = X;
    a row of N_l is epsilon * sign(A H_{l-1}) * r / |r| with r uniform in [0, 1)^D, and zero in a clean pass.

    The clean mean is `LightGCNEncoder`'s with the inputs taken out. The noise is constant to the gradient and the rest is
    linear, so a noisy pass is the clean one plus a constant that needs no gradient: both cost one backward pass. In a sample
    the layers differ in their draws, so there the clean pass goes through the layers as the noisy one does.

    Attributes:
        crossed: rows (u, D) and (i, D) of layer l of the last noisy main pass, None where there was none.

    Source: Yu et al. 2022, SimGCL, arXiv:2112.08679, eq. 8-10, and Yu et al. 2023, XSimGCL, arXiv:2209.02544, eq. 10-12.
    """

    Settings = NoisyLightGCNSettings
    reads_weights = True

    @property
    def hops(self) -> int:
        """How many layers read the relation."""
        return self.settings.num_layers

    def build(self, generator: torch.Generator | None) -> None:
        """Make the hops of a clean pass."""
        self._light = LightGCNEncoder(LightGCNSettings(num_layers=self.settings.num_layers), self.dim)
        self.crossed: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Propagate; noisy only in training mode and with `contrast_layer`. Arguments and results as in `LightGCNEncoder`."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        layer, rows, self.crossed = self.settings.contrast_layer, (users, items), None
        if isinstance(relation, SampledRelation):
            clean, clean_kept = self._pass(relation, user_x, item_x, *rows, lambda x: x)
        else:
            light = self._light(relation, user_x, item_x, *rows)
            clean = self._without_inputs(light, (at_rows(user_x, users), at_rows(item_x, items)))
            clean_kept = None
        if layer is None or not self.training:
            return clean
        main, kept = self.noisy(relation, user_x, item_x, *rows)
        self.crossed = _with_gradient_of(clean_kept or _hops(relation, user_x, item_x, layer, *rows), kept)
        return _with_gradient_of(clean, main)

    def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """Step `index` of a clean pass for some rows; see `nn.layerwise`."""
        states = self._light.layer(index, relation, user_h, item_h, user_x, item_x, users, items)
        return states if index < self.hops - 1 else self._without_inputs(states, (user_x[users], item_x[items]))

    @torch.no_grad()
    def noisy(
        self, relation: Relation, user_x: Tensor, item_x: Tensor, users: Tensor | None, items: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Make a pass with fresh noise from torch's own generator, values only.

        Returns:
            The mean (u, D) and (i, D) of the layers 1..L, and the rows of layer `contrast_layer`, or of L where it is None.
        """
        return self._pass(relation, user_x, item_x, users, items, self._disturbed)

    def _pass(self, relation, user_x, item_x, users, items, disturb):  # type: ignore[no-untyped-def]
        """`noisy` with what is done to each layer, differentiable."""
        hops = self.settings.num_layers
        wanted = self.settings.contrast_layer or hops
        user_h, item_h, total, kept = user_x, item_x, None, None
        for layer in range(1, hops + 1):
            last = (users, items) if layer == hops else (None, None)
            user_h, item_h = (disturb(side) for side in _hops(relation.at_layer(layer - 1), user_h, item_h, 1, *last))
            rows = (user_h, item_h) if layer == hops else (at_rows(user_h, users), at_rows(item_h, items))
            total = rows if total is None else tuple(sum_ + one for sum_, one in zip(total, rows, strict=True))
            kept = rows if layer == wanted else kept
        return tuple(side / hops for side in total), kept

    def _without_inputs(self, light: tuple[Tensor, Tensor], inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The mean of the layers 1..L from that of 0..L."""
        hops = self.settings.num_layers
        return tuple(((hops + 1) * mean - x) / hops for mean, x in zip(light, inputs, strict=True))

    def _disturbed(self, x: Tensor) -> Tensor:
        return x + torch.sign(x) * normalize(torch.rand_like(x), dim=-1) * self.settings.noise


def _hops(
    relation: Relation, user_x: Tensor, item_x: Tensor, hops: int, users: Tensor | None, items: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Multiply by A `hops` times, the last time only for the rows asked for; differentiable."""
    for number in range(1, hops + 1):
        rows = (users, items) if number == hops else (None, None)
        user_x, item_x = hop(relation, item_x, rows[0]), hop(relation.transpose(), user_x, rows[1])
    return user_x, item_x


def _with_gradient_of(clean: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return tuple(side + (value - side).detach() for side, value in zip(clean, values, strict=True))
