"""Recommenders that learn by gradient steps: inputs -> encoder -> head, with a loss, each named by the settings.

A named model is a thin subclass that fixes or defaults some of the parts (`lightgcn.py`, `mf.py`). The training loop
(`graphrec.training`) calls `prepare`, then `batch_loss` for each batch, and `finish`; it owns optimiser and batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from graphrec.errors import ConfigError
from graphrec.features.nodes import note_unused_features
from graphrec.graph.recency import edge_ages
from graphrec.losses import LOSSES
from graphrec.losses.batch import Negatives
from graphrec.models.base import Recommender
from graphrec.models.new_items import NewItems
from graphrec.models.objective import Objective, check_fixed
from graphrec.models.parts import ROLES, Part, parse_auxiliary, parse_parts
from graphrec.models.residual import Residual, ResidualSettings
from graphrec.models.starts import start_rows
from graphrec.models.trained_settings import TrainedSettings
from graphrec.models.unseen import Unseen
from graphrec.nn.encoder import Encoder
from graphrec.nn.layerwise import check_blocks, encode_in_blocks
from graphrec.nn.relations import Relations
from graphrec.ops import Relation
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings, parse

if TYPE_CHECKING:
    import os

    import scipy.sparse as sp

    from graphrec.graph.store import GraphStore

_HEAD = "head."  # before the names of the head's parameters in a saved model
_TOLD = "told"


class _Network(nn.Module):
    """The modules that hold parameters, under one roof, so that one `state_dict` names them all."""

    def __init__(self, inputs: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.inputs, self.encoder, self.head = inputs, encoder, head


class TrainedRecommender(Objective, Unseen, Recommender):
    """A composition: (x_u, x_i) = inputs(), (e_u, e_i) = encoder(graph, x), s(u, i) = head(e_u, e_i), minimise the loss.

    With the setting `residual` the finished model scores and ranks by s(u, i) / sigma_s + w f(u, i) / sigma_f instead, f
    being the closed-form graph filter, or another closed-form model, of the same training edges (`graphrec.models.residual`). The residual is not trained
    and the training does not see it: the vectors are bit for bit those of the model without it. `similar` stays the cosine
    of the trained item vectors.

    Args:
        settings: see `graphrec.models.trained_settings.TrainedSettings`.
        overrides: single settings that win over `settings`.

    Attributes:
        training_catalogue: users, items and seen items of a prepared model; `catalogue` has them once `finish` has made vectors.

    Raises:
        ConfigError: a part or a setting is unknown or out of range, or loss and head do not fit.
    """

    Settings = TrainedSettings
    reads_features = False  # whether a part beside the inputs does

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
            self._residual = Residual(residual_settings, f"{where} residual")
            resolved["residual"] = self._residual.settings.model_dump()
        self.settings = self.settings.model_copy(update=resolved)
        self._without = getattr(self.settings, "without", [])
        if self._without and not hasattr(self._parts["encoder"].part, "prepare"):
            raise ConfigError(
                f"{where}: without = {self._without} leaves relations out, and its encoder reads the target behaviour alone; take "
                "that setting away"
            )
        self.loss = self._parts["loss"].make()
        self._auxiliary_losses = [(part.name, part.weight, part.make()) for part in self._auxiliary]
        self._check_loss()
        self._check_head()
        self.network: _Network | None = None
        self._vectors: tuple[Tensor, Tensor] | None = None
        self._told: np.ndarray | None = None  # bool (U,), users who are known by more than target events, where there are others
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

        Raises:
            ConfigError: the store lacks what a part reads, an auxiliary loss does not fit the encoder, or a loss has parameters,
                which would not be trained.
        """
        self._catalogue = self._vectors = None  # until `finish` there is nothing that could answer
        train = self._training_matrix(store)
        generator = torch.Generator().manual_seed(seed)
        inputs_settings, dim = self._parts["inputs"].settings, self.settings.embedding_dim
        start, origins = start_rows(store, inputs_settings, dim, seed, progress)
        inputs = self._parts["inputs"].make_inputs(store, dim, generator, start, progress)
        self._origins = getattr(inputs, "origins", origins)
        told = self._with_features(store)
        if self._new_items:
            self._new_items.prepare(store, inputs)
        elif not self.reads_features:
            note_unused_features(store, progress)
        self.device = torch.device(device)
        encoder = self._parts["encoder"].make(dim, generator)
        if hasattr(encoder, "read"):  # it wants features of items
            encoder.read(store, generator)
            self._origins = {**self._origins, "modalities": encoder.modalities.described}
            progress.note(f"modalities: {encoder.modalities.described}")
        for _, _, loss in self._auxiliary_losses:
            if hasattr(loss, "check_encoder"):
                loss.check_encoder(encoder, self.loss.negatives)
        if hasattr(encoder, "prepare"):  # it wants more than the target behaviour
            relations = self._relations_left(Relations.from_store(store), encoder)
            encoder.prepare(relations.to(self.device), generator)
            told |= relations.linked_users(encoder.optional(relations))
            if relations.has_link_weights and not getattr(encoder, "reads_link_weights", True):
                progress.note(f"links between users all count alike here: {self.name} does not read their weights; "
                               "social-lightgcn, diffnet, social-ease and social-graph-filter do")  # fmt: skip
        head = self._parts["head"].make(encoder.out_dim, generator)
        self.network = _Network(inputs, encoder, head).to(self.device)
        self._relation = self._by_age(self._make_relation(train), encoder, store).to(self.device)
        if hasattr(encoder, "observe"):
            encoder.observe(self._relation)
        if hasattr(head, "observe"):
            head.observe(train)
        auxiliary = [(f'auxiliary loss "{name}"', loss) for name, _, loss in self._auxiliary_losses]
        for name, loss in ((f'loss "{self._parts["loss"].name}"', self.loss), *auxiliary):
            if hasattr(loss, "prepare"):
                loss.prepare(train)
            check_fixed(f"model {self.name}: {name}", loss)
        if self._residual:
            # Its decomposition is no use to a spectral start, nor that to it: the filter keeps more directions than D, so a
            # shared one would make other vectors than the model has without a residual.
            self._residual.fit(store, seed=seed, progress=progress)
        self.training_catalogue = store.catalogue()
        self._told = told if (told & (np.diff(self.training_catalogue.seen_indptr) == 0)).any() else None

    @torch.inference_mode()
    def finish(self, block: int | None = None, scratch: str | os.PathLike[str] | None = None) -> None:
        """Compute the vectors that rank for all users and items from the current parameters.

        Args:
            block: rows computed at a time, layer by layer (`graphrec.nn.layerwise`); None for all.
            scratch: folder for what lies between two layers; None for the system's.

        Raises:
            ConfigError: the encoder cannot compute a block of rows.
        """
        if block is not None:
            self.check_blocks()
        self.network.eval()
        user_x, item_x = self.network.inputs()
        encoder, head = self.network.encoder, self.network.head
        if block is not None and encoder.hops > 0:
            parts = encoder, self._relation, user_x, item_x
            self._vectors = encode_in_blocks(*parts, block, head.ranking_vectors, scratch)
        else:
            vectors = head.ranking_vectors(*self._encode(self._relation, user_x, item_x))
            self._vectors = tuple(vector.float().cpu().clone() for vector in vectors)
        self.catalogue = self.training_catalogue
        self._keep_head(self.network.head.state_dict())
        self._folding = None
        if self._new_items:
            self._new_items.fit(self._vectors[1])
        if self._residual:
            self._residual.measure(self._own_scores)

    def check_blocks(self) -> None:
        """Raise ConfigError where the encoder of the prepared model cannot compute a block of rows at a time."""
        check_blocks(self.network.encoder, f"the encoder of {self.name}")

    def add_residual(self, residual: Residual) -> None:
        """Score and rank a finished model with a fitted residual from now on, as if its settings had asked for it."""
        residual.measure(self._own_scores)
        self._residual = residual
        self.settings = self.settings.model_copy(update={"residual": residual.settings.model_dump()})

    @torch.no_grad()
    def relation_weights(self) -> dict[str, float]:
        """How much each relation counts in a prepared model, by "<relation> to <node type>"; empty where there is but one."""
        if self.network is None or not hasattr(self.network.encoder, "relation_weights"):
            return {}
        self.network.eval()
        return self.network.encoder.relation_weights(self._relation, *self.network.inputs())

    def embeddings(self) -> dict[str, np.ndarray]:
        """Return `{"user": float32 (U, D), "item": float32 (I, D)}`, a copy of the trained vectors.

        Their dot products are the scores that rank, unless the head is no inner product: then they are what the head scores.
        With a residual their dot product is only the trained part of the score: the graph filter's part is not in them.

        Raises:
            RunError: the model has not been trained or loaded yet.
        """
        _ = self.catalogue
        user, item = self._vectors
        return {"user": user.numpy().copy(), "item": item.numpy().copy()}

    def features_used(self, store: GraphStore) -> set[str]:
        found = set()
        for role in ("inputs", "encoder"):
            part = self._parts[role].settings
            named = {ntype: getattr(part, ntype, []) for ntype in ("item", "user")}
            if hasattr(part, "modalities"):
                named["item"] = part.modalities or store.features("item")
            found |= {f"{ntype}.{name}" for ntype, names in named.items() if not isinstance(names, str) for name in names}
        return found

    def knows(self, users: np.ndarray) -> np.ndarray:
        """Of whom training had a target event, a feature, or an edge, in any direction, of another relation that the encoder reads.

        A model that was saved by a graphrec which did not keep that knows the events, and what its residual knows.
        """
        known = super().knows(users)
        if self._told is not None:
            known = known | self._told[users]
        return known if self._residual is None else known | self._residual.filter.knows(users)

    def _with_features(self, store: GraphStore) -> np.ndarray:
        """Users who have one of the features that the model reads: bool (U,)."""
        found = np.zeros(store.num_users, dtype=bool)
        for ntype, _, name in (feature.partition(".") for feature in self.features_used(store)):
            if ntype == "user":
                found |= store.feature("user", name)[0].reshape(store.num_users, -1).any(axis=1)
        return found

    @property
    def parts(self) -> Mapping[str, Part]:
        """Inputs, encoder, head and loss with their settings, by role."""
        return self._parts

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
        if self._told is not None:
            state[_TOLD] = torch.from_numpy(self._told)
        return state | (self._residual.state() if self._residual else {})

    def _restore(self, state: dict[str, Tensor]) -> None:
        # Copied, for tensors of a file lie at odd addresses, and there a matrix product may round otherwise than in training.
        self._vectors = state["user"].clone(), state["item"].clone()
        self._told = state[_TOLD].numpy() if _TOLD in state else None
        self._keep_head({k.removeprefix(_HEAD): v.clone() for k, v in state.items() if k.startswith(_HEAD)})
        if self._new_items:
            self._new_items.restore(state, self._parts["inputs"].settings)
        if self._residual:
            self._residual.restore(state, self.catalogue)

    def _relations_left(self, relations: Relations, encoder: Encoder) -> Relations:
        """What the setting `without` leaves; it must name what the encoder reads and can do without."""
        where = f"model {self.name} without"
        left = relations.without(self._without, where)
        optional = encoder.optional(relations) if self._without else []
        for name in sorted(left.dropped.difference(optional)):
            is_target = name == relations.target[1]
            why = "it is the target behaviour, which the model is built on" if is_target else "the model does not read it, or needs it"
            raise ConfigError(f"{where}: {name!r} cannot be left out, for {why}; it can do without {', '.join(optional) or 'nothing'}")
        return left

    def _training_matrix(self, store: GraphStore) -> sp.csr_matrix:
        """The training weights (U, I), for the graph and for the losses' `prepare`."""
        return store.train_matrix()

    def _make_relation(self, train: sp.csr_matrix) -> Any:
        """What the encoder passes messages over; it needs a `to(device)`."""
        return Relation.from_scipy(train)

    def _by_age(self, relation: Any, encoder: nn.Module, store: GraphStore) -> Any:
        """The relation with its edges weighed by age, where the encoder has a half-life and reads weights."""
        days = getattr(self._parts["encoder"].settings, "half_life_days", None)
        if days is None or not getattr(encoder, "reads_weights", False):
            return relation
        return relation.with_weight(torch.from_numpy(np.exp2(-edge_ages(store, days, f"model {self.name}"))))

    def _check_loss(self) -> None:
        name = self._parts["loss"].name
        if not isinstance(getattr(self.loss, "negatives", None), Negatives):
            raise ConfigError(
                f'model {self.name}: loss "{name}" must say which negatives it wants; give it self.negatives, a '
                "graphrec.losses.batch.Negatives"
            )
        if self.loss.negatives.kind == "none" and name in LOSSES and not hasattr(self.loss, "of_rows"):
            raise ConfigError(
                f'model {self.name}: loss "{name}" wants no negatives, and so must take rows: give it of_rows(user, item, batch), '
                "as graphrec.losses says"
            )

    def _check_head(self) -> None:
        head, name = self._parts["head"].resolved, self._parts["loss"].name
        if self.loss.negatives.kind == "none" and not self._parts["head"].part.is_inner_product:
            raise ConfigError(
                f'model {self.name}: loss "{name}" needs a head whose scores are inner products, got '
                f'"{head["name"]}"; set head = "dot" or "cosine"'
            )
        if getattr(self.loss, "needs_cosine", False) and (head["name"] != "cosine" or head["temperature"] != 1.0):
            raise ConfigError(
                f'model {self.name}: loss "{name}" compares cosines, got head {head}; '
                'set head = "cosine" and leave its temperature at 1'
            )
