"""What a model reads of a store, piece by piece: the settings that leave out one edge type or one feature each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from graphrec.errors import unknown_name
from graphrec.models.social_ease import SocialEASE
from graphrec.models.social_filter import SocialGraphFilter
from graphrec.models.trained import TrainedRecommender
from graphrec.nn.relations import Relations

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender


def ablations(model: Recommender, store: GraphStore) -> dict[str, dict[str, Any]]:
    """Find what can be left out of a model, and how.

    Relations are left out by the setting `without`, and the friends' share of `social-graph-filter` and `social-ease`, as models
    or as a residual, becomes 0. A relation that the encoder is built on, such as the target behaviour of a cascade or the only one of
    `rgcn`, stays. Features go from the inputs; where none is left, free id embeddings take their place. Of the setting
    `modalities` each goes, empty being all that the store has; a model of one modality has nothing in its place.

    Args:
        model: not yet fitted.
        store: what it would be fitted on.

    Returns:
        What is left out ("follows", "item.text") to the settings that differ from the model's. A model that reads nothing
        that it can do without has none.

    Raises:
        ConfigError: the model's settings name a relation or a feature that the store lacks.
    """
    if isinstance(model, SocialGraphFilter | SocialEASE):
        _check(store, [model.settings.social])
        return {model.settings.social: {"social_share": 0.0}} if model.settings.social_share != 0 else {}
    if not isinstance(model, TrainedRecommender):
        return {}
    gone = getattr(model.settings, "without", [])
    found: dict[str, dict[str, Any]] = {name: {"without": [*gone, name]} for name in _optional_relations(model, store, gone)}
    residual = getattr(model.settings, "residual", None)
    if residual and residual["filter"].get("social_share", 0) != 0:
        name = residual["filter"]["social"]
        _check(store, [name])
        friendless = {**residual, "filter": {**residual["filter"], "social_share": 0.0}}
        found[name] = {**found.get(name, {}), "residual": friendless}
    for part, changes in (*_without_inputs(model, store), *_without_modalities(model, store)):
        found[part] = {**found.get(part, {}), **changes}
    return found


def _optional_relations(model: TrainedRecommender, store: GraphStore, gone: list[str]) -> list[str]:
    """Names of the relations that the model's encoder reads and can do without, beside those that are left out already."""
    part = model.parts["encoder"]
    if not hasattr(part.part, "prepare"):
        return []
    relations = Relations.from_store(store).without(gone, f"model {model.name} without")
    names = part.make(model.settings.embedding_dim, torch.Generator()).optional(relations)
    _check(store, names)
    order = [edge.relation for edge in store.manifest.edges]
    return names if getattr(part.settings, "relations", None) else sorted(names, key=order.index)


def _without_inputs(model: TrainedRecommender, store: GraphStore) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each feature that the inputs name, and the settings without it."""
    inputs = model.parts["inputs"]
    for ntype in ("item", "user"):
        names = getattr(inputs.settings, ntype, [])
        for name in names if isinstance(names, list) else []:
            _check_feature(store, ntype, name)
            yield f"{ntype}.{name}", {"inputs": _without_feature(inputs.resolved, ntype, name)}


def _without_modalities(model: TrainedRecommender, store: GraphStore) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each item feature that a model, its inputs or its encoder read as a modality, and the settings without it; one has to stay."""
    tables = {role: model.parts[role].resolved for role in ("inputs", "encoder") if role in type(model.settings).model_fields}
    if hasattr(model.settings, "modalities"):
        tables = {None: model.settings.model_dump()}
    for role, table in tables.items():
        names = table.get("modalities", None)
        if names is None:
            continue
        names = names or store.features("item")
        for name in names:
            _check_feature(store, "item", name)
        for name in names if len(names) > 1 else []:
            changes = {"modalities": [other for other in names if other != name]}
            if name in table.get("modality_weights", {}):
                changes["modality_weights"] = {key: value for key, value in table["modality_weights"].items() if key != name}
            yield f"item.{name}", changes if role is None else {role: {**table, **changes}}


def _check(store: GraphStore, names: list[str]) -> None:
    known = {edge.relation for edge in store.manifest.edges}
    for name in names:
        if name not in known:
            raise unknown_name("relation", name, known)


def _check_feature(store: GraphStore, ntype: str, name: str) -> None:
    if name not in store.features(ntype):
        raise unknown_name(f"{ntype} feature", name, store.features(ntype))


def _without_feature(inputs: dict[str, Any], ntype: str, name: str) -> dict[str, Any]:
    """The inputs without a feature; ids alone where it was the last of the items, the users' own default where it was theirs."""
    rest = [other for other in inputs[ntype] if other != name]
    if rest:
        return {**inputs, ntype: rest}
    if ntype == "user":
        return {key: value for key, value in inputs.items() if key != "user"}
    return {"name": "id", "scale": inputs["scale"]}
