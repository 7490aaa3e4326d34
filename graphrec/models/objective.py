"""What a trained model minimises: the loss of one batch, with its penalties and auxiliary losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch
from graphrec.losses.step import Step
from graphrec.nn.layer import check_result
from graphrec.ops import Relation


def one_number(where: str, value: Any) -> Tensor:
    """Return the value of a loss, which must be a tensor without dimensions.

    Raises:
        ValueError: it is not; the message begins with `where`.
    """
    if not isinstance(value, Tensor) or value.ndim:
        got = f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{where} must give one number, a tensor without dimensions, got {got}; take the mean over the batch")
    return value


def check_fixed(where: str, loss: Any) -> None:
    """Make sure that a loss learns nothing: only inputs, encoder and head are trained, saved and resumed.

    Raises:
        ConfigError: it has parameters; the message begins with `where` and names them.
    """
    own = dict(loss.named_parameters()) if isinstance(loss, nn.Module) else getattr(loss, "__dict__", {})
    learned = [
        name
        for name, value in own.items()
        for part in (value.parameters() if isinstance(value, nn.Module) else [value])
        if isinstance(part, Tensor) and part.requires_grad
    ]
    if learned:
        raise ConfigError(
            f"{where} has parameters of its own ({', '.join(dict.fromkeys(learned))}), and those of a loss are not trained; "
            "move them into the head or the encoder, or make them settings"
        )


class Objective:
    """The training side of `graphrec.models.trained.TrainedRecommender`, which has the attributes named here.

    Attributes:
        network: inputs, encoder and head of a prepared model.
        loss: the ranking loss.
        device: where the network is.
    """

    network: nn.Module
    loss: Any
    device: torch.device
    _relation: Relation
    _auxiliary_losses: list[tuple[str, float, Any]]

    def batch_loss(
        self, batch: Batch, weight_decay: float = 0.0, precision: str = "fp32", step: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the loss of one batch.

        loss = L(scores) + weight_decay / (2 B) * sum over (u, i, j) in the batch of |x_u|^2 + |x_i|^2 + |x_j|^2
             + anchor / (2 B) * sum over the batch's distinct rows of |x - x_start|^2
             + sum over auxiliary losses a of weight_a * L_a

        with x the input embeddings, as in LightGCN's public code (there: `bpr_loss` and `decay`).

        Args:
            batch: on the model's device.
            weight_decay: of the penalty above, dimensionless.
            precision: "fp32", or "bf16" for matrix products in bfloat16; parameters, message passing, scores of row-wise
                pairs and losses stay float32.
            step: steps completed before this one, for losses with a schedule.

        Returns:
            The scalar to minimise, and its parts, detached.

        Raises:
            ValueError: a loss is no single number, or the encoder gave other rows than it was asked for.
        """
        self.network.train()
        if batch.neighbourhood is None:
            relation, at = self._relation_for(batch), batch
            user_x, item_x = self.network.inputs()
        else:
            relation, at = batch.neighbourhood.relation, batch.local()
            user_x, item_x = self.network.inputs.rows(batch.neighbourhood.users, batch.neighbourhood.items)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            user, item = self._encode(relation, user_x, item_x, at.user_rows, at.item_rows)
            loss = one_number("the loss", self._rank_loss(user, item, batch, precision))
        parts = {"rank_loss": loss.detach()}
        if weight_decay > 0:
            penalty = weight_decay / (2 * len(batch)) * self._squares(batch)
            loss = loss + penalty
            parts["penalty"] = penalty.detach()
        if getattr(self.network.inputs, "anchor", 0) > 0:
            drift = self.network.inputs.drift(batch.user_rows, batch.item_rows)
            parts["drift"] = self.network.inputs.anchor / (2 * len(batch)) * drift
            loss = loss + parts["drift"]
            parts["drift"] = parts["drift"].detach()
        at_hand = Step(self.network.encoder, relation, user_x, item_x, at, user, item, step)
        for name, weight, auxiliary in self._auxiliary_losses:
            value = one_number(f'the auxiliary loss "{name}"', auxiliary(at_hand))
            loss = loss + weight * value
            parts[name] = value.detach()
        return loss, parts

    @property
    def whole_graph_only(self) -> str | None:
        """What, beside the encoder, keeps the steps from sampled neighbourhoods, and the mend; None where nothing does."""
        for name, _, auxiliary in self._auxiliary_losses:
            if getattr(auxiliary, "needs_whole_graph", False):
                return f'the auxiliary loss "{name}" reads more of the graph than the neighbourhood of a batch; leave it out'
            if getattr(auxiliary, "counts_edges", False) and getattr(self._relation, "weight", None) is not None:
                return (
                    f'the auxiliary loss "{name}" counts the edges that it leaves in a sample, and half_life_days weighs them; take '
                    "half_life_days out of [model] and set it in [train], which draws old pairs less often"
                )
        return None

    def _encode(
        self, relation: Any, user_x: Tensor, item_x: Tensor, users: Tensor | None = None, items: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode the rows asked for, or all, and make sure that it is these which come: a batch's positions count in them."""
        encoder = self.network.encoder
        user, item = encoder(relation, user_x, item_x, users, items)
        for name, y, rows, x in (("users", user, users, user_x), ("items", item, items, item_x)):
            check_result(f"encoder {type(encoder).__name__}", name, y, len(x if rows is None else rows), encoder.out_dim)
        return user, item

    def _relation_for(self, batch: Batch) -> Relation:
        """The graph that a step on `batch` passes messages over; a model that hides edges overrides it."""
        return self._relation

    def _rank_loss(self, user: Tensor, item: Tensor, batch: Batch, precision: str) -> Tensor:
        """The loss of compact encoded rows (u, D) and (i, D)."""
        if self._takes_rows() and (precision == "fp32" or self.loss.negatives.kind == "none"):
            return self.loss.of_rows(*self.network.head.prepare(user, item), batch)
        positive, negative = self._scores(user, item, batch)
        return self.loss(positive.float(), negative.float(), batch)

    def _takes_rows(self) -> bool:
        """Whether scores are inner products of prepared rows and the loss takes the rows themselves."""
        return hasattr(self.loss, "of_rows") and self.network.head.is_inner_product

    def _scores(self, user: Tensor, item: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Score positives (B,) and negatives (B, n) or (B, M) of compact encoded rows."""
        head = self.network.head
        user, item = head.prepare(user, item)
        user = user.index_select(0, batch.users)  # (B, D)
        positive = head.pairs(user, item.index_select(0, batch.positives))
        negative = item.index_select(0, batch.negatives.reshape(-1))
        if batch.negatives.dim() == 1:
            return positive, head.matrix(user, negative)
        return positive, head.pairs(user, negative.view(*batch.negatives.shape, -1))  # (B, n, D)

    def _squares(self, batch: Batch) -> Tensor:
        """Sum the squared lengths of the batch's input rows, a row that occurs twice counted twice."""
        user, item = self.network.inputs.rows(batch.user_rows, batch.item_rows)
        user_count = torch.bincount(batch.users, minlength=len(batch.user_rows))
        sampled = [batch.positives]
        if self.loss.negatives.kind != "in-batch":  # there every negative is a positive of another row, counted once
            sampled.append(batch.negatives.reshape(-1))
        item_count = torch.bincount(torch.cat(sampled), minlength=len(batch.item_rows))
        return user.square().sum(-1) @ user_count.to(user.dtype) + item.square().sum(-1) @ item_count.to(item.dtype)
