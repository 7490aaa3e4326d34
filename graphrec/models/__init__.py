"""The registry of recommenders: one line per model, imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphrec.errors import ConfigError
from graphrec.registry import resolve

if TYPE_CHECKING:
    import os

    from graphrec.models.base import Recommender
    from graphrec.settings import Settings

MODELS: dict[str, str] = {
    "popularity": "graphrec.models.popularity:Popularity",
    "item-knn": "graphrec.models.knn:ItemKNN",
    "user-knn": "graphrec.models.knn:UserKNN",
    "graph-filter": "graphrec.models.graph_filter:GraphFilter",
    "ease": "graphrec.models.ease:EASE",
    "bpr-mf": "graphrec.models.mf:BPRMatrixFactorisation",
    "lightgcn": "graphrec.models.lightgcn:LightGCN",
    "ngcf": "graphrec.models.ngcf:NGCF",
    "gat": "graphrec.models.gat:GAT",
    "gc-mc": "graphrec.models.gcmc:GCMC",
    "ultragcn": "graphrec.models.ultragcn:UltraGCN",
    "directau": "graphrec.models.directau:DirectAU",
    "sgl": "graphrec.models.sgl:SGL",
    "simgcl": "graphrec.models.simgcl:SimGCL",
    "xsimgcl": "graphrec.models.xsimgcl:XSimGCL",
    "vgae": "graphrec.models.vgae:VGAE",
    "pinsage": "graphrec.models.pinsage:PinSAGE",
    "social-graph-filter": "graphrec.models.social_filter:SocialGraphFilter",
    "social-ease": "graphrec.models.social_ease:SocialEASE",
    "social-lightgcn": "graphrec.models.social:SocialLightGCN",
    "diffnet": "graphrec.models.social:DiffNet",
    "mhcn": "graphrec.models.social:MHCN",
    "mb-cgcn": "graphrec.models.behaviors:MBCGCN",
    "mbgcn": "graphrec.models.behaviors:MBGCN",
    "kgat": "graphrec.models.knowledge:KGAT",
    "knowledge-lightgcn": "graphrec.models.knowledge:KnowledgeLightGCN",
    "kgcn": "graphrec.models.kgcn:KGCN",
    "vbpr": "graphrec.models.multimodal:VBPR",
    "freedom": "graphrec.models.multimodal:Freedom",
    "bm3": "graphrec.models.multimodal:BM3",
    "composed": "graphrec.models.composed:Composed",
}

MADE_FROM_RUNS: dict[str, str] = {
    "two-stage": "graphrec.models.ranker:TwoStage",
    "sum": "graphrec.models.score_sum:ScoreSum",
}
"""Models that are not fitted on a store alone but made from finished runs; they are saved and loaded as the others."""

MADE_BY = {"two-stage": "graphrec train --stage rank --retrieval RUN", "sum": "graphrec fuse RUN RUN"}
"""How they are made."""


def model_class(name: str) -> type[Recommender]:
    """Import and return the recommender registered as `name`.

    Raises:
        ConfigError: the name is unknown, or that of a model which is made from finished runs.
    """
    if name in MADE_FROM_RUNS:
        raise ConfigError(f"the model {name!r} is not trained by its name but made from finished runs: {MADE_BY[name]}")
    return resolve("model", MODELS, name)


def check_registered(model: Recommender) -> None:
    """Make sure that a saved `model` will be found again: that the registry leads from its name to its class.

    Raises:
        ConfigError: it leads to another class or to none, or the model is made from finished runs.
    """
    kind, name = type(model), model.name
    found = model_class(name) if name in MODELS or name in MADE_FROM_RUNS else None
    if found is not kind:
        own, other = (f"{one.__module__}:{one.__qualname__}" for one in (kind, found or kind))
        other = "no model" if found is None else other
        raise ConfigError(
            f"a saved model is found again by its name, and {name!r} leads to {other}, not to {own}; "
            f'set name in the class and add it: graphrec.models.MODELS["<its name>"] = "{own}"'
        )


def create(name: str, settings: Settings | Mapping[str, Any] | None = None, **overrides: Any) -> Recommender:
    """Make the recommender registered as `name`, not yet fitted.

    Args:
        name: a key of `MODELS`.
        settings: its settings, as its own `Settings` class or as a plain mapping; None takes the defaults.
        overrides: single settings that win over `settings`.

    Raises:
        ConfigError: the name is unknown, or a setting is unknown or out of range.
    """
    return model_class(name)(settings, **overrides)


def load_model(folder: str | os.PathLike[str]) -> Recommender:
    """Read back a model saved with `Recommender.save`, whichever registered model it is.

    Raises:
        RunError: the folder holds no model, or a damaged one, or one from a newer graphrec.
    """
    from graphrec.models.base import Recommender

    return Recommender.load(folder)
