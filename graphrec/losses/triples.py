"""TransR on the triples of a knowledge graph, as an auxiliary loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from graphrec.errors import ConfigError
from graphrec.losses.batch import Negatives
from graphrec.losses.step import Step
from graphrec.settings import Settings


class TransRSettings(Settings):
    """Settings of the loss on triples."""

    search: ClassVar[Mapping[str, Any]] = {"weight": {"low": 0.01, "high": 1.0, "log": True}}

    num_triples: int = Field(default=1024, ge=1)
    """Edges drawn in a step, of all relations and the interactions; the paper's batch has 1,024 or 2,048."""


class TransR:
    """A triple should be nearer than the same one with a random tail, in the space of its relation.

    L = mean of softplus(d(h, r, t) - d(h, r, t')), d(h, r, t) = |W_r e_h + e_r - W_r e_t|^2.

    Source: Wang et al. 2019, KGAT, arXiv:1905.07854, eq. 2. There t' is any node and the loss has phases of its own; here t' is of
    t's type, and the loss is added to the ranking loss.
    """

    Settings = TransRSettings

    def __init__(self, settings: TransRSettings | None = None) -> None:
        self.settings = settings or TransRSettings()

    def check_encoder(self, encoder: nn.Module, negatives: Negatives) -> None:
        """Raise ConfigError where the encoder knows no triples."""
        if not hasattr(encoder, "triples"):
            raise ConfigError(
                f"the auxiliary loss transr is taken on triples, and {type(encoder).__name__} reads none; set "
                'encoder = "kgat", or leave the loss out'
            )

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of a step; returns a scalar."""
        near, far = step.encoder.triples(step.user_x, step.item_x, self.settings.num_triples)
        return softplus(near - far).mean()
