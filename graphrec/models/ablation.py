"""What a model reads of a store, piece by piece: the settings that leave out one edge type or one feature each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphrec.errors import unknown_name
from graphrec.graph.heterograph import reverse_name
from graphrec.models.social_ease import SocialEASE
from graphrec.models.social_filter import SocialGraphFilter
from graphrec.models.trained import TrainedRecommender

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender
    from graphrec.settings import Settings


def ablations(model: Recommender, store: GraphStore) -> dict[str, dict[str, Any]]:
    """Find what can be left out of a model, and how.

    Relations are left out by the setting `without`, and the friends' share of `social-graph-filter` and `social-ease`, as models
    or as a residual, becomes 0. A relation that the encoder is built on, such as the target behaviour of a cascade, stays.
    Features go from the inputs; where none is left, free id embeddings take their place.

    Args:
        model: not yet fitted.
        store: what it would be fitted on.

    Returns:
        What is left out ("follows", "item.text") to the settings that differ from the model's. A model that reads nothing but
        the target behaviour and no features has none.

    Raises:
        ConfigError: the model's settings name a relation or a feature that the store lacks.
    """
    if isinstance(model, SocialGraphFilter | SocialEASE):
        _check(store, [model.settings.social])
        return {model.settings.social: {"social_share": 0.0}} if model.settings.social_share != 0 else {}
    if not isinstance(model, TrainedRecommender):
        return {}
    gone = getattr(model.settings, "without", [])
    relations = [name for name in _relations_of(model.parts["encoder"].settings, store) if name not in gone]
    found: dict[str, dict[str, Any]] = {name: {"without": [*gone, name]} for name in relations}
    residual = getattr(model.settings, "residual", None)
    if residual and residual["filter"].get("social_share", 0) != 0:
        name = residual["filter"]["social"]
        _check(store, [name])
        friendless = {**residual, "filter": {**residual["filter"], "social_share": 0.0}}
        found[name] = {**found.get(name, {}), "residual": friendless}
    inputs = model.parts["inputs"]
    for ntype in ("item", "user"):
        names = getattr(inputs.settings, ntype, [])
        for name in names if isinstance(names, list) else []:
            if name not in store.features(ntype):
                raise unknown_name(f"{ntype} feature", name, store.features(ntype))
            found[f"{ntype}.{name}"] = {"inputs": _without_feature(inputs.resolved, ntype, name)}
    return found


def _relations_of(settings: Settings, store: GraphStore) -> list[str]:
    """Names of the relations that an encoder can do without."""
    backwards = {reverse_name(behavior) for behavior in store.behaviors}
    present = [edge.relation for edge in store.manifest.edges if edge.edges and edge.relation not in backwards]
    if hasattr(settings, "relations"):
        names = [store.target_behavior if name == "target" else name for name in settings.relations or present]
        names = names if len(set(names)) > 1 else []
    elif hasattr(settings, "behaviors"):
        names = [name for name in settings.behaviors or store.behaviors if name != store.target_behavior]
    else:
        names = [settings.social] if hasattr(settings, "social") else []
    _check(store, names)
    return list(dict.fromkeys(names))


def _check(store: GraphStore, names: list[str]) -> None:
    known = {edge.relation for edge in store.manifest.edges}
    for name in names:
        if name not in known:
            raise unknown_name("relation", name, known)


def _without_feature(inputs: dict[str, Any], ntype: str, name: str) -> dict[str, Any]:
    """The inputs without a feature; ids alone where it was the last of the items, the users' own default where it was theirs."""
    rest = [other for other in inputs[ntype] if other != name]
    if rest:
        return {**inputs, ntype: rest}
    if ntype == "user":
        return {key: value for key, value in inputs.items() if key != "user"}
    return {"name": "id", "scale": inputs["scale"]}
