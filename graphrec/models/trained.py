"""Recommenders that learn by gradient steps: inputs -> encoder -> head, with a loss, each named by the settings.

A named model is a thin subclass that fixes or defaults some of the parts (`lightgcn.py`, `mf.py`). The training loop
(`graphrec.training`) calls `prepare`, then `batch_loss` for each batch, and `finish`; it owns optimiser and batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch
from graphrec.losses.step import Step
from graphrec.models.base import Recommender
from graphrec.models.parts import ROLES, parse_auxiliary, parse_parts
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.models.spectral import spectral_embeddings
from graphrec.nn.component import as_table
from graphrec.nn.relations import Relations
from graphrec.ops import Relation
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, parse

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_START_EXPONENTS = 0.3, 0.5  # of users and items in the spectral start; the graph filter's
_HEAD = "head."  # before the names of the head's parameters in a saved model


class TrainedSettings(Settings):
    """The parts of a trained model. Each is a name, or a table `{name = ..., <its settings>}` (name may be left out)."""

    embedding_dim: int = Field(default=64, ge=1)
    """D; 64 is the choice of the LightGCN line of work."""
    inputs: dict[str, Any] = Field(default={"name": "id"})
    """What the encoder starts from; see `graphrec.nn.INPUTS`."""
    head: dict[str, Any] = Field(default={"name": "dot"})
    """How two vectors make a score; see `graphrec.nn.HEADS`."""
    loss: dict[str, Any] = Field(default={"name": "bpr"})
    """What is minimised; see `graphrec.losses.LOSSES`."""
    auxiliary: list[dict[str, Any]] = Field(default=[])
    """What is minimised beside it, each `{name = ..., weight = ..., <its settings>}`; see `graphrec.losses.AUXILIARY`."""
    residual: dict[str, Any] | None = None
    """`{weight = ...}` adds the graph filter's scores, not trained, when scoring and ranking; see `ResidualSettings`."""

    @field_validator("inputs", "encoder", "head", "loss", mode="before", check_fields=False)
    @classmethod
    def _as_table(cls, value: Any, info: ValidationInfo) -> Any:
        return as_table(value, cls.model_fields[info.field_name].default["name"])

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _as_tables(cls, value: Any) -> Any:
        return [as_table(one, "") for one in ([value] if isinstance(value, str | Mapping) else value)]


class _Network(nn.Module):
    """The modules that hold parameters, under one roof, so that one `state_dict` names them all."""

    def __init__(self, inputs: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.inputs, self.encoder, self.head = inputs, encoder, head


class TrainedRecommender(Recommender):
    """A composition: (x_u, x_i) = inputs(), (e_u, e_i) = encoder(graph, x), s(u, i) = head(e_u, e_i), minimise the loss.

    With the setting `residual` the finished model scores and ranks by s(u, i) / sigma_s + w f(u, i) / sigma_f instead, f
    being the closed-form graph filter of the same training edges (`graphrec.models.residual`). The residual is not trained
    and the training does not see it: the vectors are bit for bit those of the model without it. `similar` stays the cosine
    of the trained item vectors.

    Args:
        settings: see `TrainedSettings`.
        overrides: single settings that win over `settings`.

    Raises:
        ConfigError: a part or a setting is unknown or out of range, or loss and head do not fit.
    """

    Settings = TrainedSettings

    def __init__(self, settings: Settings | Mapping[str, Any] | None = None, **overrides: Any) -> None:
        super().__init__(settings, **overrides)
        where = f"model {self.name}"
        self._parts = parse_parts(self._specs(), where)
        self._auxiliary = parse_auxiliary(self.settings.auxiliary, where)
        resolved: dict[str, Any] = {
            role: part.resolved for role, part in self._parts.items() if role in type(self.settings).model_fields
        }
        resolved["auxiliary"] = [part.resolved for part in self._auxiliary]
        table = self.settings.residual
        self._residual: Residual | None = None
        if table is not None:
            residual_settings = parse(ResidualSettings, table, f"{where} residual")
            self._residual, resolved["residual"] = Residual(residual_settings), residual_settings.model_dump()
        self.settings = self.settings.model_copy(update=resolved)
        self.loss = self._parts["loss"].make()
        self._auxiliary_losses = [(part.name, part.weight, part.make()) for part in self._auxiliary]
        self._check_head()
        self.network: _Network | None = None
        self._vectors: tuple[Tensor, Tensor] | None = None

    def prepare(
        self, store: GraphStore, *, seed: int = 0, device: str | torch.device = "cpu", progress: Reporter = SILENT
    ) -> None:
        """Make the parameters, the graph and, where one is asked for, the residual, ready for the first step.

        Args:
            store: the graph store; its training edges of the target behaviour are the graph.
            seed: of the random start; the same seed gives the same weights bit for bit.
            device: where to train.
            progress: receives the spectral start and the residual's filter, where they are asked for.
        """
        generator = torch.Generator().manual_seed(seed)
        start = self._spectral_start(store, seed, progress) if self.settings.inputs.get("init") == "spectral" else None
        inputs = self._parts["inputs"].make_inputs(store, self.settings.embedding_dim, generator, start)
        self.device = torch.device(device)
        encoder = self._parts["encoder"].make(self.settings.embedding_dim, generator)
        if hasattr(encoder, "prepare"):  # it wants more than the target behaviour
            encoder.prepare(Relations.from_store(store).to(self.device), generator)
        head = self._parts["head"].make(encoder.out_dim, generator)
        self.network = _Network(inputs, encoder, head).to(self.device)
        train = store.train_matrix()
        self._relation = Relation.from_scipy(train).to(self.device)
        for loss in (self.loss, *(loss for _, _, loss in self._auxiliary_losses)):
            if hasattr(loss, "prepare"):
                loss.prepare(train)
        self._vectors = None
        if self._residual:
            self._residual.fit(store, seed=seed, progress=progress)
        self.catalogue = store.catalogue()

    def batch_loss(
        self, batch: Batch, weight_decay: float = 0.0, precision: str = "fp32", step: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the loss of one batch.

        loss = L(scores) + weight_decay / (2 B) * sum over (u, i, j) in the batch of |x_u|^2 + |x_i|^2 + |x_j|^2
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
        """
        self.network.train()
        user_x, item_x = self.network.inputs()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            user, item = self.network.encoder(self._relation, user_x, item_x, batch.user_rows, batch.item_rows)
            if self._takes_rows() and (precision == "fp32" or self.loss.negatives.kind == "none"):
                loss = self.loss.of_rows(*self.network.head.prepare(user, item), batch)
            else:
                positive, negative = self._scores(user, item, batch)
                loss = self.loss(positive.float(), negative.float(), batch)
        parts = {"rank_loss": loss.detach()}
        if weight_decay > 0:
            penalty = weight_decay / (2 * len(batch)) * self._squares(batch)
            loss = loss + penalty
            parts["penalty"] = penalty.detach()
        at = Step(self.network.encoder, self._relation, user_x, item_x, batch, user, item, step)
        for name, weight, auxiliary in self._auxiliary_losses:
            value = auxiliary(at)
            loss = loss + weight * value
            parts[name] = value.detach()
        return loss, parts

    @torch.inference_mode()
    def finish(self) -> None:
        """Compute the vectors that rank for all users and items from the current parameters."""
        self.network.eval()
        user_x, item_x = self.network.inputs()
        user, item = self.network.encoder(self._relation, user_x, item_x)
        vectors = self.network.head.ranking_vectors(user, item)
        self._vectors = tuple(vector.float().cpu().clone() for vector in vectors)
        self._keep_head(self.network.head.state_dict())
        if self._residual:
            self._residual.measure(self._own_scores)

    @torch.no_grad()
    def relation_weights(self) -> dict[str, float]:
        """How much each relation counts in a prepared model, by "<relation> to <node type>"; empty where there is but one."""
        if self.network is None or not hasattr(self.network.encoder, "relation_weights"):
            return {}
        self.network.eval()
        return self.network.encoder.relation_weights(self._relation, *self.network.inputs())

    def embeddings(self) -> dict[str, np.ndarray]:
        """Return `{"user": float32 (U, D), "item": float32 (I, D)}`, the trained vectors.

        Their dot products are the scores that rank, unless the head is no inner product: then they are what the head scores.
        With a residual their dot product is only the trained part of the score: the graph filter's part is not in them.

        Raises:
            RunError: the model has not been trained or loaded yet.
        """
        _ = self.catalogue
        return {"user": self._vectors[0].numpy(), "item": self._vectors[1].numpy()}

    @property
    def scores_are_dot_products(self) -> bool:
        """Whether the embeddings rank exactly as `score` does: not with a residual, nor with a head such as an MLP."""
        return self._residual is None and self._parts["head"].part.is_inner_product

    @torch.inference_mode()
    def _score(self, users: np.ndarray) -> Tensor:
        scores = self._own_scores(users)
        return scores if self._residual is None else self._residual.add(scores, users)

    def _own_scores(self, users: np.ndarray) -> Tensor:
        """The trained scores (B, I), without the residual."""
        user, item = self._vectors
        user = user[torch.from_numpy(users)]
        if self._parts["head"].part.is_inner_product:
            return user @ item.T
        return self._kept_head.matrix(*self._kept_head.prepare(user, item)).contiguous()

    def _keep_head(self, state: Mapping[str, Tensor]) -> None:
        """Keep a copy of the head on the CPU, in evaluation mode, where ranking needs more than its vectors."""
        if self._parts["head"].part.is_inner_product:
            return
        self._kept_head = self._parts["head"].make(self._vectors[0].shape[1], torch.Generator())
        self._kept_head.load_state_dict({name: value.cpu() for name, value in state.items()})
        self._kept_head.eval()

    def _specs(self) -> dict[str, dict[str, Any]]:
        """The four parts as tables; a subclass without an encoder setting names its encoder here."""
        return {role: getattr(self.settings, role, {"name": "none"}) for role in ROLES}

    def _state(self) -> dict[str, Tensor]:
        state = {"user": self._vectors[0], "item": self._vectors[1]}
        if not self._parts["head"].part.is_inner_product:
            state |= {_HEAD + name: value for name, value in self._kept_head.state_dict().items()}
        return state | (self._residual.state() if self._residual else {})

    def _restore(self, state: dict[str, Tensor]) -> None:
        # Copied, for tensors of a file lie at odd addresses, and there a matrix product may round otherwise than in training.
        self._vectors = state["user"].clone(), state["item"].clone()
        self._keep_head({k.removeprefix(_HEAD): v.clone() for k, v in state.items() if k.startswith(_HEAD)})
        if self._residual:
            self._residual.restore(state, self.catalogue)

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

    def _spectral_start(self, store: GraphStore, seed: int, progress: Reporter) -> tuple[Tensor, Tensor]:
        progress.note(f"spectral start: {self.settings.embedding_dim} singular vectors of the training matrix")
        vectors = spectral_embeddings(store, self.settings.embedding_dim, *_START_EXPONENTS, seed, power=0.0)
        # Of equal length: a rare item's short row would be noise after one step of Adam, and the start lost.
        return tuple(nn.functional.normalize(rows, dim=1) for rows in vectors)

    def _check_head(self) -> None:
        head = self._parts["head"].resolved
        if self.loss.negatives.kind == "none" and not self._parts["head"].part.is_inner_product:
            raise ConfigError(
                f'model {self.name}: loss "{self._parts["loss"].name}" needs a head whose scores are inner products, got '
                f'"{head["name"]}"; set head = "dot" or "cosine"'
            )
        if self.loss.needs_cosine and (head["name"] != "cosine" or head["temperature"] != 1.0):
            raise ConfigError(
                f'model {self.name}: loss "{self._parts["loss"].name}" compares cosines, got head {head}; '
                'set head = "cosine" and leave its temperature at 1'
            )
