"""Contrastive auxiliary losses: two views of a node should agree with each other and with no other node's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphrec.errors import ConfigError
from graphrec.losses.batch import Negatives
from graphrec.losses.step import Step
from graphrec.losses.views import drop_edges, drop_nodes
from graphrec.ops import Relation, SampledRelation, sampled_softmax
from graphrec.settings import Settings

_BLOCK_STRIDE = 1_000_003  # between the seeds of two blocks of steps


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two views of the same nodes, by cosine.

    L = mean over a of log sum_b exp(cos(x_a, y_b) / t) - cos(x_a, y_a) / t.

    One operator: the (n, n) scores are met tile by tile and never written whole.

    Args:
        first, second: float32 or float64 (n, D), the views x and y; row a of both is one node.
        temperature: t, above 0.

    Returns:
        A scalar; differentiable in both views.

    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4, as in Wu et al. 2021, arXiv:2010.10783, eq. 10, with the
        batch's nodes in the place of all.
    """
    index = torch.arange(len(first), device=first.device)
    views = normalize(first.float() if first.dtype == torch.bfloat16 else first, dim=-1), normalize(second, dim=-1)
    log_weight = views[0].new_zeros(len(index))
    own = torch.stack([index, index])  # the positive is in the sum already
    return sampled_softmax(views[0], views[1].to(views[0].dtype), index, index, index, log_weight, own, temperature)


class SGLSettings(Settings):
    """Settings of SGL's contrastive loss."""

    search: ClassVar[Mapping[str, Any]] = {
        "weight": {"low": 0.005, "high": 1.0, "log": True},
        "temperature": {"low": 0.1, "high": 1.0, "log": True},
        "share": {"low": 0.05, "high": 0.5},
    }

    temperature: float = Field(default=0.2, gt=0)
    """t; 0.2 is the paper's choice for all data sets."""
    drop: Literal["edges", "nodes"] = "edges"
    """What a view leaves out; edge dropout is the paper's best."""
    share: float = Field(default=0.1, ge=0, lt=1)
    """Probability that an edge (or a node) is left out; the paper's best lie between 0.1 and 0.4."""
    renew_every: int = Field(default=1, ge=1)
    """Steps that a pair of views is kept for. The paper draws once an epoch: give the steps of an epoch for that."""
    seed: int = Field(default=0, ge=0)
    """Of the views, where they are kept for more than one step; otherwise they follow the training's seed."""


class SGL:
    """Agreement between two subgraphs: each view is the encoder over the graph with a share of edges or nodes left out.

    L = InfoNCE(users' views) + InfoNCE(items' views), over the batch's users and positives, each once.

    A pair of views is kept for `renew_every` steps. It depends on nothing but the step and a seed, so a resumed run sees
    the views that the killed one would have seen. The sample of each batch has views of its own.

    Source: Wu et al. 2021, Self-supervised graph learning for recommendation, arXiv:2010.10783, eq. 5, 6, 10 and 11. There
    the sum runs over nodes and views change with the epoch; here it is a mean, and they change with the step by default.
    """

    Settings = SGLSettings
    counts_edges: ClassVar[bool] = True  # the degrees of a view of a sample are counts, and edges drawn by weight have none

    def __init__(self, settings: SGLSettings | None = None) -> None:
        self.settings = settings or SGLSettings()
        self._kept: tuple[int, Relation, tuple[Relation, Relation]] | None = None

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of a step; returns a scalar."""
        items = step.batch.positives.unique()
        rows = step.batch.user_rows, step.batch.item_rows[items]
        (user, item), (other_user, other_item) = (
            step.encoder(view, step.user_x, step.item_x, *rows) for view in self.views(step.relation, step.number)
        )
        temperature = self.settings.temperature
        return info_nce(user, other_user, temperature) + info_nce(item, other_item, temperature)

    def views(self, relation: Relation, number: int) -> tuple[Relation, Relation]:
        """The two views of the graph that step `number` uses."""
        every = self.settings.renew_every
        if every == 1 or isinstance(relation, SampledRelation):
            return self._draw(relation, int(torch.randint(1 << 62, ())))
        block = number // every
        if self._kept is None or self._kept[0] != block or self._kept[1] is not relation:
            self._kept = block, relation, self._draw(relation, self.settings.seed + block * _BLOCK_STRIDE)
        return self._kept[2]

    def _draw(self, relation: Relation, seed: int) -> tuple[Relation, Relation]:
        generator = torch.Generator().manual_seed(seed)
        drop = drop_edges if self.settings.drop == "edges" else drop_nodes
        return drop(relation, self.settings.share, generator), drop(relation, self.settings.share, generator)


class NoiseContrastSettings(Settings):
    """Settings of the contrastive losses on noise."""

    search: ClassVar[Mapping[str, Any]] = {
        "weight": {"low": 0.005, "high": 1.0, "log": True},
        "temperature": {"low": 0.1, "high": 1.0, "log": True},
    }

    temperature: float = Field(default=0.2, gt=0)
    """t; 0.2 is the choice of both papers."""


class SimGCL:
    """Agreement between two passes with random noise in every layer, over the whole graph.

    L = InfoNCE(users' views) + InfoNCE(items' views), over the batch's users and positives, each once.

    It needs the encoder `lightgcn-noise`. Noise is a constant to the gradient and the propagation is linear, so both views
    share the main pass's backward pass: a view is the main pass's rows plus a constant, which gives the exact gradient.

    Source: Yu et al. 2022, SimGCL, arXiv:2112.08679, eq. 7.
    """

    Settings = NoiseContrastSettings

    def __init__(self, settings: NoiseContrastSettings | None = None) -> None:
        self.settings = settings or NoiseContrastSettings()

    def check_encoder(self, encoder: nn.Module, negatives: Negatives) -> None:
        """Raise ConfigError where the encoder makes no noisy passes."""
        _check_noise("simgcl", encoder, "noisy", '"lightgcn-noise"')

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of a step; returns a scalar."""
        items, rows = step.batch.positives.unique(), (step.batch.user_rows, step.batch.item_rows)
        views = []
        for _ in range(2):
            noisy = step.encoder.noisy(step.relation, step.user_x, step.item_x, *rows)[0]
            views.append([main + (one - main).detach() for main, one in zip((step.user, step.item), noisy, strict=True)])
        temperature = self.settings.temperature
        return info_nce(views[0][0], views[1][0], temperature) + info_nce(views[0][1][items], views[1][1][items], temperature)


class XSimGCL:
    """Agreement between the noisy main pass and one of its own layers, with no pass besides.

    L = InfoNCE(users, users at layer l) + InfoNCE(items, items at layer l), over the batch's users and positives.

    It needs the encoder `lightgcn-noise` with `contrast_layer` = l.

    Source: Yu et al. 2023, XSimGCL, arXiv:2209.02544, eq. 12.
    """

    Settings = NoiseContrastSettings

    def __init__(self, settings: NoiseContrastSettings | None = None) -> None:
        self.settings = settings or NoiseContrastSettings()

    def check_encoder(self, encoder: nn.Module, negatives: Negatives) -> None:
        """Raise ConfigError where the encoder makes no noisy passes, or keeps no layer of them."""
        mend = '{name = "lightgcn-noise", contrast_layer = 1}'
        _check_noise("xsimgcl", encoder, "crossed", mend)
        if getattr(encoder.settings, "contrast_layer", 1) is None:
            raise ConfigError(
                f'auxiliary loss "xsimgcl" contrasts a noisy pass with one of its layers, and contrast_layer of the encoder is not set; '
                f"set encoder = {mend}"
            )

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of a step; returns a scalar."""
        items, temperature, crossed = step.batch.positives.unique(), self.settings.temperature, step.encoder.crossed
        return info_nce(step.user, crossed[0], temperature) + info_nce(step.item[items], crossed[1][items], temperature)


def _check_noise(name: str, encoder: nn.Module, makes: str, mend: str) -> None:
    if not hasattr(encoder, makes):
        raise ConfigError(f'auxiliary loss "{name}" contrasts noisy passes, got a {type(encoder).__name__}; set encoder = {mend}')
