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
from graphrec.losses import LOSSES, Batch
from graphrec.models.base import Recommender
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.models.spectral import spectral_embeddings
from graphrec.nn import ENCODERS, HEADS, INPUTS
from graphrec.nn.component import as_table, parse_component
from graphrec.nn.heads import DotHead
from graphrec.ops import Relation
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, parse

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_START_EXPONENTS = 0.3, 0.5  # of users and items in the spectral start; the graph filter's
_ROLES = {"inputs": INPUTS, "encoder": ENCODERS, "head": HEADS, "loss": LOSSES}


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
    residual: dict[str, Any] | None = None
    """`{weight = ...}` adds the graph filter's scores, not trained, when scoring and ranking; see `ResidualSettings`."""

    @field_validator("inputs", "encoder", "head", "loss", mode="before", check_fields=False)
    @classmethod
    def _as_table(cls, value: Any, info: ValidationInfo) -> Any:
        return as_table(value, cls.model_fields[info.field_name].default["name"])


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
        specs = self._specs()
        self._parts = {
            role: parse_component(role, table, specs[role], f"model {self.name} {role}")
            for role, table in _ROLES.items()
        }
        resolved = {
            role: {"name": specs[role]["name"], **part.model_dump()}
            for role, (_, part) in self._parts.items()
            if role in type(self.settings).model_fields
        }
        table = self.settings.residual
        self._residual: Residual | None = None
        if table is not None:
            residual_settings = parse(ResidualSettings, table, f"model {self.name} residual")
            self._residual, resolved["residual"] = Residual(residual_settings), residual_settings.model_dump()
        self.settings = self.settings.model_copy(update=resolved)
        self.loss = self._make("loss")
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
        part, settings = self._parts["inputs"]
        inputs = part(store.num_users, store.num_items, self.settings.embedding_dim, settings, generator, start=start)
        self.device = torch.device(device)
        self.network = _Network(inputs, self._make("encoder"), self._make("head")).to(self.device)
        self._relation = Relation.from_scipy(store.train_matrix()).to(self.device)
        self._vectors = None
        if self._residual:
            self._residual.fit(store, seed=seed, progress=progress)
        self.catalogue = store.catalogue()

    def batch_loss(
        self, batch: Batch, weight_decay: float = 0.0, precision: str = "fp32"
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the loss of one batch.

        loss = L(scores) + weight_decay / (2 B) * sum over (u, i, j) in the batch of |x_u|^2 + |x_i|^2 + |x_j|^2

        with x the input embeddings, as in LightGCN's public code (there: `bpr_loss` and `decay`).

        Args:
            batch: on the model's device.
            weight_decay: of the penalty above, dimensionless.
            precision: "fp32", or "bf16" for matrix products in bfloat16; parameters, message passing, scores of row-wise
                pairs and losses stay float32.

        Returns:
            The scalar to minimise, and its parts, detached.
        """
        user_x, item_x = self.network.inputs()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            user, item = self.network.encoder(self._relation, user_x, item_x, batch.user_rows, batch.item_rows)
            if precision == "fp32" and self._takes_rows():
                loss = self.loss.of_rows(*self.network.head.prepare(user, item), batch)
            else:
                positive, negative = self._scores(user, item, batch)
                loss = self.loss(positive.float(), negative.float(), batch)
        parts = {"rank_loss": loss.detach()}
        if weight_decay > 0:
            penalty = weight_decay / (2 * len(batch)) * self._squares(batch)
            loss = loss + penalty
            parts["penalty"] = penalty.detach()
        return loss, parts

    @torch.inference_mode()
    def finish(self) -> None:
        """Compute the vectors that rank for all users and items from the current parameters."""
        user_x, item_x = self.network.inputs()
        user, item = self.network.encoder(self._relation, user_x, item_x)
        vectors = self.network.head.ranking_vectors(user, item)
        self._vectors = tuple(vector.float().cpu().clone() for vector in vectors)
        if self._residual:
            self._residual.measure(self._dot_products)

    def embeddings(self) -> dict[str, np.ndarray]:
        """Return `{"user": float32 (U, D), "item": float32 (I, D)}`, the trained vectors; dot products are the scores that rank.

        With a residual their dot product is only the trained part of the score: the graph filter's part is not in them.

        Raises:
            RunError: the model has not been trained or loaded yet.
        """
        _ = self.catalogue
        return {"user": self._vectors[0].numpy(), "item": self._vectors[1].numpy()}

    @property
    def scores_are_dot_products(self) -> bool:
        """Whether the embeddings rank exactly as `score` does: not with a residual."""
        return self._residual is None

    @torch.inference_mode()
    def _score(self, users: np.ndarray) -> Tensor:
        scores = self._dot_products(users)
        return scores if self._residual is None else self._residual.add(scores, users)

    def _dot_products(self, users: np.ndarray) -> Tensor:
        user, item = self._vectors
        return user[torch.from_numpy(users)] @ item.T

    def _specs(self) -> dict[str, dict[str, Any]]:
        """The four parts as tables; a subclass without an encoder setting names its encoder here."""
        return {role: getattr(self.settings, role, {"name": "none"}) for role in _ROLES}

    def _state(self) -> dict[str, Tensor]:
        residual = self._residual.state() if self._residual else {}
        return {"user": self._vectors[0], "item": self._vectors[1], **residual}

    def _restore(self, state: dict[str, Tensor]) -> None:
        # Copied, for tensors of a file lie at odd addresses, and there a matrix product may round otherwise than in training.
        self._vectors = state["user"].clone(), state["item"].clone()
        if self._residual:
            self._residual.restore(state, self.catalogue)

    def _takes_rows(self) -> bool:
        """Whether scores are inner products of prepared rows and the loss takes the rows themselves."""
        head = type(self.network.head)
        return hasattr(self.loss, "of_rows") and head.pairs is DotHead.pairs and head.matrix is DotHead.matrix

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

    def _make(self, role: str) -> Any:
        part, settings = self._parts[role]
        return part(settings)

    def _check_head(self) -> None:
        head = self.settings.head
        if self.loss.needs_cosine and (head["name"] != "cosine" or head["temperature"] != 1.0):
            raise ConfigError(
                f'model {self.name}: loss "{self.settings.loss["name"]}" compares cosines, got head {head}; '
                'set head = "cosine" and leave its temperature at 1'
            )
