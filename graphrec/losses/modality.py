"""Losses that tie the vectors of modalities to users and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch, Negatives
from graphrec.losses.step import Step
from graphrec.settings import Settings


class ModalityBPRSettings(Settings):
    """The loss on modalities has nothing to set but its weight."""

    search: ClassVar[Mapping[str, Any]] = {"weight": {"low": 1e-5, "high": 0.1, "log": True}}


class ModalityBPR:
    """A user should score a chosen item's picture or sound above another's: BPR of users with mapped features.

    L = sum over modalities m of the mean over (u, i, j) that both have it of softplus(<e_u, m_j> - <e_u, m_i>).

    Source: Zhou and Shen 2023, FREEDOM, arXiv:2211.06924, eq. 11. There a modality that an item lacks is not foreseen.
    """

    Settings = ModalityBPRSettings

    def __init__(self, settings: ModalityBPRSettings | None = None) -> None:
        self.settings = settings or ModalityBPRSettings()

    def check_encoder(self, encoder: nn.Module, negatives: Negatives) -> None:
        """Raise ConfigError where the encoder reads no modalities, or the ranking loss draws no negatives for each pair."""
        if not hasattr(encoder, "modalities") or negatives.kind != "rows":
            raise ConfigError(
                f"the auxiliary loss modality-bpr needs an encoder of modalities and negatives for each pair, got "
                f'{type(encoder).__name__} and negatives "{negatives.kind}"; set encoder = "freedom" and '
                'loss = "bpr", or leave it out'
            )

    def __call__(self, step: Step) -> Tensor:
        """Take the loss of a step; returns a scalar."""
        batch = step.batch
        user, total = step.user[batch.users], step.user.new_zeros(())
        for values, mask in step.encoder.modalities(batch.item_rows):
            positive = (user * values[batch.positives]).sum(-1, keepdim=True)
            negative = (values[batch.negatives] @ user.unsqueeze(-1)).squeeze(-1)  # (B, n)
            known = mask[batch.positives][:, None] & mask[batch.negatives]
            terms = torch.where(known, softplus(negative - positive), 0.0)
            total = total + terms.sum() / known.sum().clamp(min=1)
        return total


class BootstrapSettings(Settings):
    """Settings of BM3's loss."""

    modality_weight: float = Field(default=2.0, ge=0)
    """Weight of the terms on modalities; 2 is the paper's choice."""


class Bootstrap:
    """Users and items predict each other, modalities predict their item and themselves; no negatives.

    L = mean over (u, i) of [2 - cos(P h_u, h_i') - cos(P h_i, h_u')] + w sum_m mean over the items that have m of
    [2 - cos(P m_i, h_i') - cos(P m_i, m_i')], with ' for targets: without a gradient, and with dropout.

    Source: Zhou et al. 2023, BM3, arXiv:2207.05969, eq. 7-12.
    """

    Settings = BootstrapSettings
    needs_cosine: ClassVar[bool] = False

    def __init__(self, settings: BootstrapSettings | None = None) -> None:
        self.settings = settings or BootstrapSettings()
        self.negatives = Negatives("none")

    def of_step(self, user: Tensor, item: Tensor, encoder: torch.nn.Module, batch: Batch) -> Tensor:
        """Take the loss of predicted rows (u, D) and (i, D) of the batch; returns a scalar."""
        user_target, item_target = encoder.targets
        users, items = batch.users, batch.positives
        loss = (_distance(user[users], item_target[items]) + _distance(item[items], user_target[users])).mean()
        for values, mask in encoder.modalities(batch.item_rows[items]):
            predicted = encoder.predictor(values)
            terms = _distance(predicted, item_target[items]) + _distance(predicted, encoder.target(values))
            known = torch.where(mask, terms, 0.0).sum() / mask.sum().clamp(min=1)
            loss = loss + self.settings.modality_weight * known
        return loss


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return 1 - cosine_similarity(x, y, dim=-1)
