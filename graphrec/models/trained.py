"""Recommenders that learn by gradient steps: inputs -> encoder -> head, with a loss, each named by the settings.

A named model is a thin subclass that fixes or defaults some of the parts (`lightgcn.py`, `mf.py`). The training loop
(`graphrec.training`) calls `prepare`, then `batch_loss` for each batch, and `finish`; it owns optimiser and batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.features.nodes import note_unused_features
from graphrec.features.start import feature_start
from graphrec.losses.batch import Batch
from graphrec.losses.step import Step
from graphrec.models.base import Recommender
from graphrec.models.new_items import NewItems
from graphrec.models.parts import ROLES, parse_auxiliary, parse_parts
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.models.spectral import spectral_embeddings
from graphrec.models.unseen import Unseen
from graphrec.nn.component import as_table
from graphrec.nn.layerwise import can_encode_in_blocks, encode_in_blocks
from graphrec.ops import Relation
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, parse

if TYPE_CHECKING:
    import os

    import scipy.sparse as sp

    from graphrec.graph.store import GraphStore

_START_EXPONENTS = 0.3, 0.5  # of users and items in the spectral start; the graph filter's
_HEAD = "head."  # before the names of the head's parameters in a saved model


class InputSettings(Settings):
    """What every trained model starts from. A part is a name, or a table `{name = ..., <its settings>}` (name may be left
    out)."""

    search: ClassVar[Mapping[str, Any]] = {"embedding_dim": [32, 64, 128]}

    embedding_dim: int = Field(default=64, ge=1)
    """D; 64 is the choice of the LightGCN line of work."""
    inputs: dict[str, Any] = Field(default={"name": "id"})
    """What the encoder starts from; see `graphrec.nn.INPUTS`."""

    @field_validator("inputs", "encoder", "head", "loss", mode="before", check_fields=False)
    @classmethod
    def _as_table(cls, value: Any, info: ValidationInfo) -> Any:
        return as_table(value, cls.model_fields[info.field_name].default["name"])


class TrainedSettings(InputSettings):
    """The parts of a trained model that can be exchanged."""

    head: dict[str, Any] = Field(default={"name": "dot"})
    """How two vectors make a score; see `graphrec.nn.HEADS`."""
    loss: dict[str, Any] = Field(default={"name": "bpr"})
    """What is minimised; see `graphrec.losses.LOSSES`."""
    auxiliary: list[dict[str, Any]] = Field(default=[])
    """What is minimised beside it, each `{name = ..., weight = ..., <its settings>}`; see `graphrec.losses.AUXILIARY`."""
    residual: dict[str, Any] | None = None
    """`{weight = ...}` adds the graph filter's scores, not trained, when scoring and ranking; see `ResidualSettings`."""

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _as_tables(cls, value: Any) -> Any:
        return [as_table(one, "") for one in ([value] if isinstance(value, str | Mapping) else value)]


class _Network(nn.Module):
    """The modules that hold parameters, under one roof, so that one `state_dict` names them all."""

    def __init__(self, inputs: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.inputs, self.encoder, self.head = inputs, encoder, head


class TrainedRecommender(Unseen, Recommender):
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
        self._auxiliary = parse_auxiliary(getattr(self.settings, "auxiliary", []), where)
        resolved: dict[str, Any] = {
            role: part.resolved for role, part in self._parts.items() if role in type(self.settings).model_fields
        }
        if self._auxiliary:
            resolved["auxiliary"] = [part.resolved for part in self._auxiliary]
        table = getattr(self.settings, "residual", None)
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
        self._folding = None
        names = getattr(self._parts["inputs"].settings, "item", [])
        self._new_items = NewItems(names) if names else None

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
        train = self._training_matrix(store)
        generator = torch.Generator().manual_seed(seed)
        start, origins = self._start(store, seed, progress)
        inputs = self._parts["inputs"].make_inputs(store, self.settings.embedding_dim, generator, start, progress)
        self._origins = getattr(inputs, "origins", origins)
        encoder = self._parts["encoder"].make(self.settings.embedding_dim, generator)
        head = self._parts["head"].make(encoder.out_dim, generator)
        if self._new_items:
            self._new_items.prepare(store, inputs)
        else:
            note_unused_features(store, progress)
        self.device = torch.device(device)
        self.network = _Network(inputs, encoder, head).to(self.device)
        self._relation = self._make_relation(train).to(self.device)
        if hasattr(encoder, "prepare"):
            encoder.prepare(self._relation)
        if hasattr(head, "observe"):
            head.observe(train)
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
        """
        self.network.train()
        if batch.neighbourhood is None:
            relation, at = self._relation_for(batch), batch
            user_x, item_x = self.network.inputs()
        else:
            relation, at = batch.neighbourhood.relation, batch.local()
            user_x, item_x = self.network.inputs.rows(batch.neighbourhood.users, batch.neighbourhood.items)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            user, item = self.network.encoder(relation, user_x, item_x, at.user_rows, at.item_rows)
            loss = self._rank_loss(user, item, batch, precision)
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
            value = auxiliary(at_hand)
            loss = loss + weight * value
            parts[name] = value.detach()
        return loss, parts

    @torch.inference_mode()
    def finish(self, block: int | None = None, scratch: str | os.PathLike[str] | None = None) -> None:
        """Compute the vectors that rank for all users and items from the current parameters.

        Args:
            block: rows computed at a time, layer by layer (`graphrec.nn.layerwise`), where the encoder can; None for all.
            scratch: folder for what lies between two layers; None for the system's.
        """
        self.network.eval()
        user_x, item_x = self.network.inputs()
        encoder, head = self.network.encoder, self.network.head
        if block is not None and can_encode_in_blocks(encoder):
            parts = encoder, self._relation, user_x, item_x
            self._vectors = encode_in_blocks(*parts, block, head.ranking_vectors, scratch)
        else:
            vectors = head.ranking_vectors(*encoder(self._relation, user_x, item_x))
            self._vectors = tuple(vector.float().cpu().clone() for vector in vectors)
        self._keep_head(self.network.head.state_dict())
        self._folding = None
        if self._new_items:
            self._new_items.fit(self._vectors[1])
        if self._residual:
            self._residual.measure(self._own_scores)

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
    def relation(self) -> Relation:
        """The training edges of the prepared model, users as rows."""
        return self._relation

    @property
    def scores_are_dot_products(self) -> bool:
        """Whether the embeddings rank exactly as `score` does: not with a residual, nor with a head such as an MLP."""
        return self._residual is None and self._parts["head"].part.is_inner_product

    @property
    def vectors_note(self) -> str:
        """With a head that is no inner product the vectors are its arguments, and their dot products are no scores at all."""
        if self._parts["head"].part.is_inner_product:
            return super().vectors_note
        name = self._parts["head"].name
        return f'are what its "{name}" head takes in, and dot products of them do not rank as the model does'

    @property
    def origins(self) -> dict[str, str]:
        """What the inputs of users and items start from or are made of, once the model is prepared."""
        return self._origins

    @torch.inference_mode()
    def _score(self, users: np.ndarray) -> Tensor:
        scores = self._own_scores(users)
        return scores if self._residual is None else self._residual.add(scores, users)

    def _own_scores(self, users: np.ndarray) -> Tensor:
        """The trained scores (B, I), without the residual."""
        return self._scores_of(self._vectors[0][torch.from_numpy(users)])

    def _scores_of(self, user: Tensor) -> Tensor:
        """The trained scores (B, I) of user vectors (B, D)."""
        item = self._vectors[1]
        if self._parts["head"].part.is_inner_product:
            return user @ item.T
        return self._kept_head.matrix(*self._kept_head.prepare(user, item)).contiguous()

    def _relation_for(self, batch: Batch) -> Relation:
        """The graph that a step on `batch` passes messages over; a model that hides edges overrides it."""
        return self._relation

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
        if self._new_items:
            state |= self._new_items.state()
        return state | (self._residual.state() if self._residual else {})

    def _restore(self, state: dict[str, Tensor]) -> None:
        # Copied, for tensors of a file lie at odd addresses, and there a matrix product may round otherwise than in training.
        self._vectors = state["user"].clone(), state["item"].clone()
        self._keep_head({k.removeprefix(_HEAD): v.clone() for k, v in state.items() if k.startswith(_HEAD)})
        if self._new_items:
            self._new_items.restore(state, self._parts["inputs"].settings)
        if self._residual:
            self._residual.restore(state, self.catalogue)

    def _training_matrix(self, store: GraphStore) -> sp.csr_matrix:
        """The training weights (U, I), for the graph and for the losses' `prepare`."""
        return store.train_matrix()

    def _make_relation(self, train: sp.csr_matrix) -> Any:
        """What the encoder passes messages over; it needs a `to(device)`."""
        return Relation.from_scipy(train)

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

    def _start(
        self, store: GraphStore, seed: int, progress: Reporter
    ) -> tuple[tuple[Tensor, Tensor] | None, dict[str, str]]:
        """Where id embeddings start that do not start at random, and in words what each node type starts from."""
        chosen, dim = self._parts["inputs"].settings, self.settings.embedding_dim
        init = getattr(chosen, "init", "normal")
        if init == "features":
            rows, origins = feature_start(store, chosen.item, chosen.user, dim, chosen.project, seed, progress)
            return tuple(torch.from_numpy(part) for part in rows), origins
        start = self._spectral_start(store, seed, progress) if init == "spectral" else None
        return start, dict.fromkeys(("user", "item"), f"id embeddings, {init}")

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
